"""Pictures of a run, as PNG in its folder: its samples beside the truth, and its curves.

Two colours that everyone can tell apart (Okabe & Ito 2008), and every picture says what its axes are.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from diffusion.schedules import Schedule
from diffusion.types import Denoiser
from toy import worlds
from training import durable, run_folder, sampling, times
from training.recipes import ToyRecipe
from training.run_folder import RunFolder
from training.streams import Streams
from training.task import Conditional, Distilled

BLUE, ORANGE = "#0072B2", "#E69F00"
POINTS, IMAGES = 4000, 64  # in a preview
PER_CLASS, SHOWN = 8, 20  # images of a class, and classes, in one of labels
GAP = 96  # grey between the images of a grid
NUMBERED = 20  # classes up to which a matrix says its numbers
SHARP = 800  # pixels up to which a small picture is enlarged
SMALLEST, LARGEST = 10, 24  # pixels of a letter beside a row

matplotlib.use("Agg")


def samples(
    folder: RunFolder, recipe: ToyRecipe, schedule: Schedule, std: float, denoiser: Denoiser, n: int = POINTS
) -> Path:
    """samples.png: n samples by 50 DDIM steps from a denoiser of the run, beside n draws from the law itself."""
    streams = Streams(folder.seed, recipe.steps)
    sampler = sampling.sampler(schedule, "ddim", 50, times.span(recipe), std)
    drawn = sampling.draw(denoiser, sampler, (2,), n, streams("preview"))
    return compare(drawn, recipe.world, folder.path / "samples.png", f"{recipe.name}, DDIM, 50 steps", streams("truth"))


def distilled(folder: RunFolder, task: Distilled, network: nn.Module) -> Path:
    """samples.png: samples of a distilled run by its own sampler; one row for each class, if it is told."""
    streams, sampler = Streams(folder.seed, folder.recipe.steps), task.sampler()
    device = next(network.parameters()).device
    if isinstance(task, Conditional) and task.classes:
        labels = classes(task.classes, device)
        drawn = task.draw(network, sampler, len(labels), streams("preview", device), labels)
        return grid(task.as_data(drawn), folder.path / "samples.png", labels)
    n = POINTS if len(task.shape) == 1 else IMAGES
    drawn = sampling.draw(task.denoiser(network), sampler, task.shape, n, streams("preview", device)).cpu()
    title = f"{folder.recipe.name}, {sampler.coefficients.name}, {len(sampler.coefficients)} steps"
    return task.picture(drawn, folder.path / "samples.png", title, streams("truth"))


def classes(n: int, device: torch.device) -> Tensor:
    """The labels of a preview: some of each class, or of the first SHOWN of them."""
    return torch.arange(min(n, SHOWN), device=device).repeat_interleave(PER_CLASS)


def compare(drawn: Tensor, world: str, path: Path, title: str, generator: torch.Generator) -> Path:
    """Samples [n, 2] beside as many draws from the world."""
    truth = worlds.make(world).sample(len(drawn), generator)
    figure = Figure(figsize=(8, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, points, colour, name in ((left, drawn, BLUE, title), (right, truth, ORANGE, "truth")):
        axes.scatter(*points.double().T.numpy(), s=1.5, alpha=0.5, color=colour, linewidths=0)
        axes.set_title(name, fontsize=10)
        axes.set_aspect("equal")
    centre, reach = truth.mean(0), 1.25 * (truth - truth.mean(0)).abs().max().item()
    left.set_xlim(centre[0].item() - reach, centre[0].item() + reach)
    left.set_ylim(centre[1].item() - reach, centre[1].item() + reach)
    return save(figure, path)


def grid(images: Tensor, path: Path, labels: Tensor | None = None, names: Sequence[str] = ()) -> Path:
    """Images, uint8 [n, channels, height, width], as a PNG: a row for each label, or as near to a square as it goes.

    names   of the rows, from the smallest label on; "class 0", ... when there are none
    """
    if labels is not None and not names:
        names = [f"class {label}" for label in labels.unique().tolist()]
    return _save_pixels(sheet(images, labels), path, names)


def sheet(images: Tensor, labels: Tensor | None = None) -> Tensor:
    """That grid as one image, uint8 [height, width, channels], with a grey line between any two."""
    images = images.cpu()
    groups = [images] if labels is None else [images[labels.cpu() == label] for label in labels.cpu().unique()]
    columns = math.ceil(math.sqrt(len(images))) if labels is None else max(map(len, groups))
    rows = [row for group in groups for row in group.split(columns)]
    n, (channels, height, width) = len(rows), images.shape[1:]
    cells = torch.full((n, columns, channels, height + 1, width + 1), GAP, dtype=torch.uint8)
    for i, row in enumerate(rows):
        cells[i, : len(row), :, :height, :width] = row
    return cells.permute(0, 3, 1, 4, 2).reshape(n * (height + 1), columns * (width + 1), channels)[:-1, :-1]


def _save_pixels(picture: Tensor, path: Path, names: Sequence[str]) -> Path:
    """uint8 [height, width, channels] as a PNG, small ones enlarged: every pixel stays a square; names of its rows."""
    factor = max(1, SHARP // max(picture.shape[:2]))
    picture = picture.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    image = Image.fromarray(picture.squeeze(-1).numpy())
    buffer = io.BytesIO()
    (_named(image, names) if names else image).save(buffer, format="PNG")
    durable.replace(path, buffer.getvalue())
    return path


def _named(image: Image.Image, names: Sequence[str]) -> Image.Image:
    """The image with a margin at its left, where its rows' names stand; all rows are equally high."""
    row = image.height / len(names)
    letter = min(max(row / 3, SMALLEST), LARGEST)
    font = ImageFont.load_default(letter)
    margin = math.ceil(max(map(font.getlength, names)) + letter)
    out = Image.new(image.mode, (margin + image.width, image.height), "white")
    out.paste(image, (margin, 0))
    pen = ImageDraw.Draw(out)
    for i, name in enumerate(names):
        pen.text((margin - letter / 2, (i + 0.5) * row), name, fill="black", font=font, anchor="rm")
    return out


def confusion(counts: Tensor, path: Path, title: str) -> Path:
    """A matrix of counts, rows the true classes, columns what they were taken for; each row shaded by its shares."""
    n = len(counts)
    figure = Figure(figsize=(max(4.0, 0.5 * n), max(4.0, 0.5 * n)), layout="constrained")
    axes = figure.subplots()
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for i, j in counts.nonzero().tolist() if n <= NUMBERED else ():
        axes.text(
            j, i, str(int(counts[i, j])), ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black"
        )
    axes.set(xlabel="taken for", ylabel="class")
    if n <= NUMBERED:
        axes.set(xticks=range(n), yticks=range(n))
    axes.set_title(title, fontsize=9)
    return save(figure, path)


def shares(parts: Tensor, path: Path, title: str) -> Path:
    """Parts of a whole, the largest first, beside equal ones."""
    figure = Figure(figsize=(8, 4.3), layout="constrained")
    axes = figure.subplots()
    axes.step(range(1, len(parts) + 1), parts.sort(descending=True).values.numpy(), where="mid", color=BLUE)
    axes.axhline(1 / len(parts), color=ORANGE, linestyle="--", label="all alike")
    axes.set(xlabel="entry, by rank", ylabel="share of all places", title=title)
    axes.legend()
    return save(figure, path)


def curves(folder: RunFolder) -> Path:
    """curves.png: loss, smoothed loss and learning rate against the step, from metrics.jsonl."""
    log = run_folder.read_log(folder.metrics)
    step = [line["step"] for line in log]
    figure = Figure(figsize=(8, 4.3), layout="constrained")
    axes = figure.subplots()
    axes.plot(step, [line["loss"] for line in log], color=BLUE, alpha=0.35, linewidth=1, label="loss")
    axes.plot(step, [line["smoothed_loss"] for line in log], color=BLUE, linewidth=2, label="smoothed loss")
    axes.set(xlabel="step", ylabel="loss on a batch", title=folder.recipe.name)
    _zoom(axes, [line["loss"] for line in log], [line["smoothed_loss"] for line in log])
    rate = axes.twinx()
    rate.plot(step, [line["lr"] for line in log], color=ORANGE, linewidth=2, linestyle="--", label="learning rate")
    rate.set_ylabel("learning rate")
    rate.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=3)
    return save(figure, folder.path / "curves.png")


def _zoom(axes: Axes, losses: list[float], smoothed: list[float]) -> None:
    """Limits that show the later losses: the first few are far above all others, and longer in the smoothed ones."""
    late = losses[len(losses) // 10 :] + smoothed[len(smoothed) // 2 :]
    if late and min(late) < max(late):
        margin = 0.1 * (max(late) - min(late))
        axes.set_ylim(min(late) - margin, max(late) + margin)


def save(figure: Figure, path: Path) -> Path:
    """The figure as a PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    durable.replace(path, buffer.getvalue())
    return path
