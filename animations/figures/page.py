"""Page: what every figure has. A title, panels, a caption that says what to see, the claims' stamps.

Hues mean what they mean in the scenes, on white:

    DATA  blue        x_0, and laws of data
    NOISE vermillion  noise, and what goes wrong
    MODEL orange      what a network or a sampler says
    TRUTH black       closed-form truth, dashed
"""

from __future__ import annotations

import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from animations import catalog
from animations.claims import proved

DATA, NOISE, MODEL, OTHER, TRUTH, QUIET = "#0072B2", "#D55E00", "#E69F00", "#009E73", "#000000", "#667085"
PANEL = (4.6, 3.9)  # inches
LETTERS = 14.5  # of the caption, to the inch
LOOK: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}

matplotlib.use("Agg")


class Page:
    """One figure: `page = Page("topic.name", columns=2)`, draw into `page.axes`, end with `page.say(...)`."""

    def __init__(self, id: str, columns: int = 1, rows: int = 1, panel: tuple[float, float] = PANEL) -> None:
        self.row = catalog.figure(id)
        self.figure = Figure(figsize=(max(columns * panel[0], 6.5), rows * panel[1] + 1), layout="constrained")
        grid = np.atleast_1d(self.figure.subplots(rows, columns))
        self.axes: list[Axes] = list(grid.flat)
        self.caption = ""
        self.figure.suptitle(self.row.title, x=0.01, ha="left", fontsize=14, fontweight="bold")

    def say(self, caption: str) -> Page:
        """What to see, below the panels, above the stamps of the claims; returns the page."""
        self.caption = " ".join(caption.split())
        claims = [proved(claim) for claim in self.row.claims]
        stamps = "   ".join(f"{claim.id} {claim.hash[:8]}" for claim in claims)
        letters = int(self.figure.get_figwidth() * LETTERS)
        lines = [*textwrap.wrap(self.caption, letters), *textwrap.wrap(stamps, letters)]
        self.figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=9, color=QUIET)
        return self

    def save(self, folder: Path) -> Path:
        """folder/topic.name.png"""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.row.name}.png"
        self.figure.savefig(path, dpi=160)
        return path


def draw(row: catalog.Drawing) -> Page:
    """The figure of that row."""
    module, function = row.place
    with matplotlib.rc_context(LOOK):
        page: Page = getattr(import_module(module), function)()
    if page.row != row or not page.caption:
        raise ValueError(f"{module}.{function} draws {page.row.name!r}, saying {page.caption!r}; expected {row.name!r}")
    return page
