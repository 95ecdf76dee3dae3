"""Pictures of an evaluation: quality against calls of the network, and samples beside their nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from training import draw
from training.data.source import Source
from training.evaluation.memorisation import Neighbours

if TYPE_CHECKING:
    from training.evaluation.images import Distance, Point

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe & Ito 2008
MARKS = "osD^vP"
SUSPECTS = 16  # samples that are shown beside their neighbours


def curve(points: Sequence[Point], floor: Distance, path: Path, title: str) -> Path:
    """FID and KID against the calls of the network, a line for each solver; dashed what held-out images get."""
    figure = Figure(figsize=(9.5, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, solver in enumerate(dict.fromkeys(point.solver for point in points)):
        own = sorted((p for p in points if p.solver == solver), key=lambda p: p.calls)
        calls, colour, mark = [p.calls for p in own], COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        left.plot(calls, [p.distance.fid for p in own], color=colour, marker=mark, label=solver)
        kids = [p.distance.kid for p in own]
        arms = [[k.mean - k.lower for k in kids], [k.upper - k.mean for k in kids]]
        right.errorbar(calls, [k.mean for k in kids], yerr=arms, color=colour, marker=mark, capsize=3)
    left.axhline(floor.fid, color="black", linestyle="--", label="held-out images")
    right.axhline(floor.kid.mean, color="black", linestyle="--")
    right.axhspan(floor.kid.lower, floor.kid.upper, color="black", alpha=0.1, linewidth=0)
    left.set_yscale("log")
    spread = max(abs(floor.kid.upper), abs(floor.kid.lower), 1e-9)
    right.set_yscale("symlog", linthresh=spread)
    for axes, name in ((left, "FID"), (right, "KID, with 95 % limits")):
        _axes(axes, name, [p.calls for p in points if p.solver == points[0].solver])
    figure.suptitle(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=len(COLOURS) + 1)
    return draw.save(figure, path)


def _axes(axes: Axes, name: str, calls: list[int]) -> None:
    axes.set_xscale("log")
    axes.set(xlabel="calls of the network for a sample", ylabel=name)
    axes.set_xticks(calls, labels=[str(c) for c in calls], minor=False)
    axes.set_xticks([], minor=True)


def neighbours(pairs: Sequence[tuple[Tensor, Neighbours]], learned: Source, path: Path) -> Path:
    """Three rows for each set of images: those of the least ratio, their nearest training image, and the second."""
    rows = []
    for images, found in pairs:
        least = found.ratio.argsort()[:SUSPECTS]
        rows += [images[least], *(learned.images(found.index[least, k]) for k in (0, 1))]
    labels = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(row) for row in rows]))
    return draw.grid(torch.cat(rows), path, labels)
