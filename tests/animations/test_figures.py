"""Every figure: what a reader must find on it, whole and legible. What it says is held by the tests of its topic."""

from functools import cache

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from animations import catalog
from animations.figures.page import Page, draw

NAMES = [row.name for row in catalog.FIGURES]
SLACK = 2  # pixels of 100 to the inch


@cache
def drawn(name: str) -> Page:
    return draw(catalog.figure(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all_that_is_written_is_on_the_page(name):
    page = drawn(name)
    FigureCanvasAgg(page.figure).draw()
    renderer = page.figure.canvas.get_renderer()
    width, height = page.figure.get_size_inches() * page.figure.dpi
    ticks = {label for axes in page.figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    for text in page.figure.findobj(Text):
        if text.get_text().strip() and text.get_visible() and text not in ticks:
            box = text.get_window_extent(renderer)
            assert text.get_fontsize() >= 7, text
            assert min(box.x0, box.y0) >= -SLACK, text
            assert box.x1 <= width + SLACK and box.y1 <= height + SLACK, text


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_figure_says_what_its_axes_are_and_whose_claims_it_shows(name):
    page = drawn(name)
    for axes in page.axes:
        if axes.axison and axes.get_visible():
            assert axes.get_xlabel() and axes.get_ylabel(), axes.get_title()
            assert axes.has_data()
    told = page.figure.get_supxlabel()
    for claim in page.row.claims:
        assert claim in told
    assert len(page.caption) > 80


def test_names_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"no figure 'vdm.refinment'; did you mean vdm.refinement"):
        catalog.figures(["vdm.refinment"])
    with pytest.raises(ValueError, match="no figure 'xyz'; see seminar figure --list"):
        catalog.figures(["xyz"])
    assert [row.name for row in catalog.figures()] == NAMES
    assert all(row.name.startswith("ddpm.") for row in catalog.figures(["ddpm"]))
    assert len(set(NAMES)) == len(NAMES)
