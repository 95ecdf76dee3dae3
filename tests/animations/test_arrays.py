"""Arrays are the law they claim to be, and are kept by content."""

import numpy as np
import pytest
from scipy.stats import chi2

from animations import arrays
from toy.worlds import make


def test_exact_paths_solve_the_probability_flow_ode():
    """Along a path dx/dt = f x - g^2 score / 2, by central differences."""
    paths = arrays.ddim_paths(steps=3, fine=2000)
    world, t, x = arrays._two_modes(), paths["fine_t"], paths["truth"]
    inner = slice(100, 1900)
    slope = np.gradient(x, t, axis=0)[inner]
    alpha, sigma, x = paths["fine_alpha"][inner, None], paths["fine_sigma"][inner, None], x[inner]
    a_dot, s_dot = (np.gradient(paths[f"fine_{name}"], t)[inner, None] for name in ("alpha", "sigma"))
    score = np.stack([world.score(*(arrays.torch.as_tensor(v) for v in (r[:, None], a, s))).numpy()[:, 0]
                      for r, a, s in zip(x, alpha[:, 0], sigma[:, 0], strict=True)])  # fmt: skip
    velocity = a_dot / alpha * x - sigma * (s_dot - a_dot / alpha * sigma) * score
    assert np.abs(slope - velocity).max() < 1e-4


def test_ddim_error_falls_like_one_over_the_steps():
    error = arrays.ddim_errors(steps=(128, 256, 512))["error"]
    assert np.log2(error[:-1] / error[1:]) == pytest.approx(1, abs=0.02)


def test_forward_chain_has_its_law():
    """At five times, mean squared radii against exact second moments: |z| < 4.8 each, false fail 1e-5 in all.

    Detectable effect, missed once in 1e6: 9.6 standard errors, a fifth of the variance at 2,000 particles.
    """
    chain, world = arrays.forward_chain(), make("ring")
    second = 2 * world.variances[0, 0].item() + 2.0  # of x_0: two coordinates' variance and the ring's radius^2
    for k in (0, 20, 50, 90, 125):
        radius2 = (chain["x"][k].astype(float) ** 2).sum(-1)
        expected = chain["alpha"][k] ** 2 * second + 2 * chain["sigma"][k] ** 2
        assert abs(radius2.mean() - expected) < 4.8 * radius2.std() / np.sqrt(len(radius2))
    last = (chain["x"][-1].astype(float) ** 2).sum()
    assert chi2.ppf(1e-6, 4000) < last < chi2.ppf(1 - 1e-6, 4000)


def test_density_is_the_exact_one_at_cell_centres():
    chain, world = arrays.forward_chain(cells=8, reach=2.0), make("ring")
    centres = -2 + (np.arange(8) + 0.5) / 2
    points = arrays.torch.tensor([[x, y] for y in centres for x in centres])
    exact = world.log_density(points, float(chain["alpha"][40]), float(chain["sigma"][40])).exp().reshape(8, 8).numpy()
    assert chain["density"][40] == pytest.approx(exact / exact.max(), abs=1e-6)


def test_kept_by_content(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMINAR_HOME", str(tmp_path))
    first = arrays.posterior_example(step=4)
    (file,) = (tmp_path / "arrays").iterdir()
    stamp = file.stat().st_mtime_ns
    assert arrays.posterior_example(step=4) == first
    assert file.stat().st_mtime_ns == stamp
    assert arrays.posterior_example(step=5) != first
    assert len(list((tmp_path / "arrays").iterdir())) == 2


def test_refuses_frames_that_do_not_divide_the_steps():
    with pytest.raises(ValueError, match="do not divide"):
        arrays.forward_chain(steps=1000, frames=3)
