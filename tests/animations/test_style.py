"""The palette is told apart by colour-blind viewers, stands out from the ground, and text is large enough to read."""

from itertools import combinations

import numpy as np
import pytest

from animations import style

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
HUES = (style.DATA, style.NOISE, style.MODEL, style.TRUTH)


def linear(hue: str) -> np.ndarray:
    c = style.rgb(hue)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB, white D65."""
    v = XYZ @ np.clip(light, 0, 1) / XYZ.sum(1)
    f = np.where(v > 0.008856, np.cbrt(v), 7.787 * v + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_hues_differ_for_every_eye(vision):
    """CIE76 distance of at least 20 between any two: about ten times what can just be told apart side by side."""
    seen = [lab(np.array(VISION[vision]) @ linear(hue)) for hue in HUES]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 20


@pytest.mark.parametrize("hue", [*HUES, style.QUIET])
@pytest.mark.parametrize("ground", [style.BACKGROUND, style.PANEL])
def test_hues_stand_out_from_the_ground(hue, ground):
    """WCAG contrast of at least 4.5."""
    dark, light = sorted(linear(c) @ XYZ[1] for c in (hue, ground))
    assert (light + 0.05) / (dark + 0.05) > 4.5


def test_mixing_ends_in_the_hues_and_refuses_what_is_no_share():
    assert np.allclose(style.mixed(style.DATA, style.NOISE, 0.0), style.rgb(style.DATA))
    assert np.allclose(style.mixed(style.DATA, style.NOISE, 1.0), style.rgb(style.NOISE))
    with pytest.raises(ValueError, match="expected a number in"):
        style.mixed(style.DATA, style.NOISE, 1.5)


def test_every_size_is_readable():
    sizes = (style.TITLE, style.HEADING, style.CAPTION, style.LABEL, style.TICK, style.STAMP)
    assert min(sizes) * style.EM >= style.LEAST_TEXT
    assert min(style.FORMULA, style.SMALL_FORMULA) * style.SCRIPT * style.EM >= style.LEAST_TEXT
