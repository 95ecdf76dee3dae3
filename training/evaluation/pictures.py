"""Pictures of an evaluation: quality against calls of the network, and samples beside their nearest neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from torch import Tensor

from training import draw
from training.data.source import Source
from training.evaluation.memorisation import Neighbours

if TYPE_CHECKING:
    from training.evaluation.images import Distance, Point

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe & Ito 2008
MARKS = "osD^vP"
ASIDE = 1.03  # the distance of solvers that stand side by side, on a logarithmic axis
SUSPECTS = 16  # samples that are shown beside their neighbours

Found = tuple[Tensor, Neighbours]  # images, and their neighbours


def curve(points: Sequence[Point], floor: Distance, n: int, path: Path, title: str) -> Path:
    """FID and KID of n samples against the calls of the network, by each solver; dashed what held-out images get.

    Solvers stand side by side on the right, so that their limits can be told apart.
    """
    figure = Figure(figsize=(9.5, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    solvers = list(dict.fromkeys(point.solver for point in points))
    for number, solver in enumerate(solvers):
        own = sorted((p for p in points if p.solver == solver), key=lambda p: p.calls)
        style: Any = {"color": COLOURS[number % len(COLOURS)], "marker": MARKS[number % len(MARKS)], "markersize": 5}
        left.plot([p.calls for p in own], [p.distance.fid for p in own], label=solver, **style)
        kids = [p.distance.kid for p in own]
        arms = [[k.mean - k.lower for k in kids], [k.upper - k.mean for k in kids]]
        aside = ASIDE ** (number - (len(solvers) - 1) / 2)
        calls = [p.calls * aside for p in own]
        right.errorbar(calls, [k.mean for k in kids], yerr=arms, capsize=2, linewidth=1, **style)
    left.axhline(floor.fid, color="black", linestyle="--", label="held-out images")
    right.axhline(floor.kid.mean, color="black", linestyle="--")
    right.axhspan(floor.kid.lower, floor.kid.upper, color="black", alpha=0.1, linewidth=0)
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    left.yaxis.set_minor_locator(NullLocator())
    spread = max(abs(floor.kid.upper), abs(floor.kid.lower), 1e-9)
    right.set_yscale("symlog", linthresh=10 ** math.ceil(math.log10(spread)))
    chosen = sorted({p.calls for p in points if p.solver == points[0].solver} | {min(p.calls for p in points)})
    for axes, name in ((left, f"FID of {n} samples"), (right, "KID, with 95 % limits")):
        axes.set_xscale("log")
        axes.set(xlabel="calls of the network for a sample", ylabel=name)
        axes.set_xticks(chosen, labels=[str(c) for c in chosen], minor=False)
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    figure.suptitle(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=len(COLOURS) + 1)
    return draw.save(figure, path)


def neighbours(samples: Found, held_out: Found, learned: Source, path: Path) -> Path:
    """The samples that are most like copies, each above its two nearest training images; so the held-out images."""
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    figure.suptitle("below each: distance to the nearest training image / to the second; a copy has 0", fontsize=10)
    both = (("samples", *samples), ("held-out images", *held_out))
    for axes, (name, images, found) in zip(figure.subplots(2, 1), both, strict=True):
        least = found.ratio.argsort()[:SUSPECTS]
        shown = torch.cat([images[least], *(learned.images(found.index[least, k]) for k in (0, 1))])
        picture = draw.sheet(shown, torch.arange(3).repeat_interleave(len(least)))
        axes.imshow(picture.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=255)
        height, width = (size + 1 for size in images.shape[2:])  # of a cell with its line
        axes.set_yticks([(row + 0.5) * height - 1 for row in range(3)], labels=[name, "nearest", "second nearest"])
        axes.get_yticklabels()[0].set_weight("bold")
        places = [(column + 0.5) * width - 1 for column in range(len(least))]
        axes.set_xticks(places, labels=[f"{ratio:.2f}" for ratio in found.ratio[least].tolist()], fontsize=9)
        axes.tick_params(length=0)
    return draw.save(figure, path)
