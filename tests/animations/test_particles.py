"""Particles against a renderer written the slow way: pixel by pixel, particle by particle."""

import numpy as np
import pytest
from manim import FadeIn, Scene, tempconfig

from animations import style
from animations.heatmap import HeatMap
from animations.particles import ParticleCloud, splat
from animations.raster import RasterCamera
from animations.style import Box

GROUND = np.array([16, 20, 28, 255], dtype=np.uint8)


def slow(pixels, centres, radius, colours, opacity):
    """The definition: what shines through each disc, and the mean colour of what covers."""
    result = pixels.astype(float)
    for i in range(pixels.shape[0]):
        for j in range(pixels.shape[1]):
            through, weight, colour = 1.0, 0.0, np.zeros(3)
            for n, (x, y) in enumerate(centres):
                cover = np.clip(radius + 0.5 - np.hypot(x - (j + 0.5), y - (i + 0.5)), 0, 1)
                cover *= opacity[n % len(opacity)]
                through *= 1 - cover
                weight += cover
                colour += cover * colours[n % len(colours)]
            if weight:
                result[i, j, :3] = result[i, j, :3] * through + 255 * (1 - through) * colour / weight
                result[i, j, 3] = result[i, j, 3] * through + 255 * (1 - through)
    return result


def over(pixels, centres, radius, colour, opacity):
    """Painter's algorithm: each disc over those before it."""
    result = pixels[..., :3].astype(float)
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]] + 0.5
    for (cx, cy), alpha in zip(centres, opacity, strict=True):
        cover = alpha * np.clip(radius + 0.5 - np.hypot(x - cx, y - cy), 0, 1)[..., None]
        result = (1 - cover) * result + cover * 255 * colour
    return result


def case(seed, n=40, height=23, width=31):
    """Particles all over a small picture, some beyond its edges."""
    rng = np.random.default_rng(seed)
    pixels = np.tile(GROUND, (height, width, 1))
    pixels[::2, ::3] = [90, 10, 200, 255]
    return pixels, rng.uniform([-4, -4], [width + 4, height + 4], (n, 2)), rng


@pytest.mark.slow
@pytest.mark.parametrize("radius", [0.3, 1.7, 4.0])
@pytest.mark.parametrize("many", [False, True])
def test_agrees_with_the_definition(radius, many):
    pixels, centres, rng = case(0)
    colours = rng.random((len(centres) if many else 1, 3))
    opacity = rng.random(len(centres) if many else 1)
    expected = slow(pixels, centres, radius, colours, opacity)
    splat(pixels, centres, radius, colours, opacity)
    assert np.abs(pixels - expected).max() <= 0.51  # rounding to whole levels, nothing else


def test_one_colour_is_painting_over_in_any_order():
    pixels, centres, rng = case(1)
    colour, opacity = rng.random(3), rng.random(len(centres))
    expected = over(pixels, centres, 2.5, colour, opacity)
    order = rng.permutation(len(centres))
    splat(pixels, centres[order], 2.5, colour[None], opacity[order])
    assert np.abs(pixels[..., :3] - expected).max() <= 0.51


def test_covers_the_area_of_a_disc_around_its_place():
    """Light in all: pi r^2 (the soft edge adds pi / 12). Its centre of mass is the particle, to 1/50 of a pixel."""
    for radius in (2.0, 5.5):
        for centre in ([20.0, 20.0], [20.3, 19.71], [20.5, 20.5]):
            pixels = np.zeros((40, 40, 4), dtype=np.uint8)
            splat(pixels, np.array([centre]), radius, np.ones((1, 3)), np.ones(1))
            light = pixels[..., 0] / 255
            assert light.sum() == pytest.approx(np.pi * radius**2 + np.pi / 12, rel=0.03)
            y, x = np.mgrid[:40, :40] + 0.5
            assert [(light * x).sum() / light.sum(), (light * y).sum() / light.sum()] == pytest.approx(centre, abs=0.02)


def test_transparent_ground_gets_premultiplied_paint():
    pixels = np.zeros((9, 9, 4), dtype=np.uint8)
    splat(pixels, np.array([[4.5, 4.5]]), 2.0, np.array([[1.0, 0.5, 0.0]]), np.array([0.5]))
    assert pixels[4, 4].tolist() == pytest.approx([128, 64, 0, 128], abs=1)


def test_outside_the_picture_nothing_is_painted_and_nothing_fails():
    pixels, before = case(2)[0], case(2)[0]
    splat(pixels, np.array([[-30.0, 5.0], [5.0, 400.0], [-1e9, 1e9]]), 3.0, np.ones((1, 3)), np.ones(1))
    assert (pixels == before).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"positions": np.zeros((3, 4))},
        {"positions": np.array([[0.0, np.nan]])},
        {"radius": 0.0},
        {"alpha": np.array([0.5, 0.5])},
        {"alpha": np.array([1.5])},
        {"colour": np.full((2, 3), 0.5)},
        {"colour": np.array([0.2, 0.3, 1.4])},
    ],
)
def test_refuses_what_it_cannot_paint(wrong):
    with pytest.raises(ValueError, match="ParticleCloud"):
        ParticleCloud(**{"positions": np.zeros((3, 2)), "colour": style.DATA, **wrong})


def test_refuses_another_number_of_particles():
    with pytest.raises(ValueError, match="2 positions for 3"):
        ParticleCloud(np.zeros((3, 2)), colour=style.DATA).move_particles(np.zeros((2, 2)))


def frame(*mobjects, animate=None):
    """What a scene shows, uint8 [120, 214, 4]."""
    with tempconfig({"dry_run": True, "pixel_width": 214, "pixel_height": 120, "frame_rate": 4, "progress_bar": "none",
                     "background_color": style.BACKGROUND, "verbosity": "ERROR"}):  # fmt: skip
        scene = Scene(camera_class=RasterCamera)
        scene.add(*mobjects)
        if animate:
            scene.play(animate, run_time=0.5)
        scene.renderer.static_image = None
        scene.renderer.update_frame(scene)
        return scene.renderer.get_frame()


def test_a_scene_shows_them_where_they_are_in_drawing_order():
    """Scene units to pixels is 214 / 14.22; what is added later lies on top."""
    scale = 214 / (128 / 9)
    blue = ParticleCloud(np.array([[2.0, 1.0]]), colour=style.DATA, radius=0.5)
    red = ParticleCloud(np.array([[2.2, 1.0]]), colour=style.NOISE, radius=0.5)
    column, row = int(107 + 2.1 * scale), int(60 - 1.0 * scale)
    assert frame(blue, red)[row, column, :3] == pytest.approx(255 * style.rgb(style.NOISE), abs=1)
    assert frame(red, blue)[row, column, :3] == pytest.approx(255 * style.rgb(style.DATA), abs=1)
    assert (frame(blue, red)[60 + 20, column] == GROUND).all()


def test_fades_in_to_what_it_is():
    cloud = ParticleCloud(np.array([[0.0, 0.0], [1.0, 1.0]]), colour=style.DATA, radius=0.2, opacity=0.8)
    assert (frame(cloud.copy()) == frame(animate=FadeIn(cloud))).all()


@pytest.mark.parametrize(
    "raster",
    [
        ParticleCloud(np.zeros((1, 2)), colour="#FFFFFF", radius=1.0, alpha=np.array([0.5]), opacity=0.5),
        HeatMap(np.full((2, 2), 0.5), Box(-1, 1, -1, 1), colour="#FFFFFF", opacity=0.5),
    ],
    ids=["particles", "heat map"],
)
def test_opacity_multiplies_what_shows_and_fading_multiplies_opacity(raster):
    """Of white at a half of a half, a quarter shows; faded by 0.4, six tenths of that; at 0, nothing."""

    def share() -> float:
        return (frame(raster)[60, 107, 0] - 16.0) / (255 - 16)

    assert share() == pytest.approx(0.25, abs=0.005)
    raster.fade(0.4)
    assert share() == pytest.approx(0.15, abs=0.005)
    raster.fade(1.0)
    assert share() == 0


def test_heat_map_is_the_bilinear_interpolant():
    """Against the interpolation formula at each pixel centre; constant beyond the outermost cell centres."""
    rng = np.random.default_rng(3)
    values = rng.random((5, 7)).astype(np.float32)
    box = Box(-3.0, 4.0, -2.0, 2.5)
    picture = frame(HeatMap(values, box, colour="#FFFFFF"))
    scale = 214 / (128 / 9)
    left, right = round(107 - 3 * scale), round(107 + 4 * scale)
    top, bottom = round(60 - 2.5 * scale), round(60 + 2 * scale)
    x = np.clip((np.arange(left, right) + 0.5 - left) / (right - left) * 7 - 0.5, 0, 6)
    y = np.clip((bottom - np.arange(top, bottom) - 0.5) / (bottom - top) * 5 - 0.5, 0, 4)
    i, j = np.minimum(y.astype(int), 3)[:, None], np.minimum(x.astype(int), 5)[None]
    u, v = y[:, None] - i, x[None] - j
    expected = (1 - u) * ((1 - v) * values[i, j] + v * values[i, j + 1]) + u * (
        (1 - v) * values[i + 1, j] + v * values[i + 1, j + 1]
    )
    shown = (picture[top:bottom, left:right, 0] - 16.0) / (255 - 16)
    assert np.abs(shown - expected).max() < 0.01
    assert (picture[:top] == GROUND).all()
    assert (picture[:, right:] == GROUND).all()


@pytest.mark.parametrize("values", [np.full((2, 2), 1.1), np.full((2, 2), np.nan), np.zeros(4)])
def test_heat_map_refuses_what_is_no_share(values):
    with pytest.raises(ValueError, match="HeatMap"):
        HeatMap(values, Box(0, 1, 0, 1), colour=style.DATA)


def test_heat_map_beyond_the_frame_is_cut():
    assert (frame(HeatMap(np.ones((2, 2)), Box(20, 30, 0, 1), colour=style.DATA)) == GROUND).all()
    assert frame(HeatMap(np.ones((2, 2)), Box(-30, 30, -30, 30), colour="#FFFFFF")).min() == 255
