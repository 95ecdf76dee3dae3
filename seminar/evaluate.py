"""`seminar evaluate RUN`: how good a run is. A toy's samples against the exact law; a run of images by its bits per
dimension, FID and KID, quality against calls of the network, and memorisation; a classifier by its accuracy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from seminar.arguments import parse
from seminar.progress import bar


@dataclass(frozen=True)
class Evaluate:
    """Energy distance to the exact law, sliced Wasserstein, and the gap in nats to the law's own density."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    sets: int = 20
    """Independent sample sets (their spread gives the 95 % limits)."""
    size: int = 20_000
    """Samples in each set."""
    ddim_steps: int = 50
    """Steps of DDIM; a distilled run has its own sampler and steps."""
    ddpm_steps: int = 200
    """Steps of DDPM."""
    points: int = 2_000
    """Points at which densities are compared."""
    seed: int = 0
    """Seed of the draws."""
    exact: bool = False
    """Put the law's own denoiser in the place of the trained one: what is left is the sampler's doing."""


@dataclass(frozen=True)
class EvaluateImages:
    """Bits per dimension, FID and KID, quality against calls, memorisation: all four, or those that are named."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder; report and pictures go to its subfolder evaluation."""
    bits: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Bits per dimension of held-out images, given their labels if the run was told labels: a chain's bound, and the
    flow's."""
    fid: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """FID and KID of samples by the run's default sampler, beside those of held-out images."""
    nfe: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """FID and KID of every solver against its calls of the network."""
    memorisation: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Nearest training images of samples, against those of held-out images."""
    n: int | None = None
    """Samples, and held-out images that they are compared with; 1000, or all held out if those are fewer."""
    bits_n: int | None = None
    """Held-out images whose bits are computed; 128, or all if those are fewer."""
    chain: int = 100
    """Steps of the chain whose bound is computed."""
    calls: tuple[int, ...] = (5, 10, 20, 50)
    """Calls of the network at which solvers are compared."""
    grid: str | None = None
    """At which times they call it: see seminar sample RUN --help."""
    features: str | None = None
    """What FID looks through: the folder of a classifier run, or inception (torch-fidelity's); when left out, a
    classifier of the same data, trained once and kept in runs/."""
    seed: int = 0
    """Seed of the draws."""
    again: bool = False
    """Evaluate again what was evaluated with these settings; the report goes beside the other one."""


@dataclass(frozen=True)
class EvaluateClassifier:
    """The share of held-out images that are told right."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""


KINDS = {"toy": Evaluate, "images": EvaluateImages, "classifier": EvaluateClassifier}


def main(args: Sequence[str]) -> int:
    kind, name = _kind(args)
    if name is None and any(arg in ("-h", "--help") for arg in args):
        print("usage: seminar evaluate RUN [--setting VALUE ...]\n\nWhat there is to set depends on the run:\n"
              "seminar evaluate RUN --help says it for yours; without one, here for a run of images.\n")  # fmt: skip
        kind = "images"
    foreign = _foreign(kind, args)
    if foreign and name is not None:
        flag, owner = foreign
        raise ValueError(f"{flag} is for runs of {owner}, and this is a run of {name}; see seminar evaluate RUN --help")
    kind = foreign[1] if foreign else kind
    commands: dict[str, Callable[[Any], int]] = {"toy": _toy, "images": _images, "classifier": _classifier}
    return commands[kind](parse(KINDS[kind], "evaluate", args))


def _kind(args: Sequence[str]) -> tuple[str, str | None]:
    """The kind of run whose options are read, and the recipe's name if a run is among the words."""
    from training import run_folder

    words = [word for before, word in zip(("", *args), args, strict=False) if before != "--features"]
    runs = (Path(word) for word in words if not word.startswith("-") and (Path(word) / run_folder.CONFIG).exists())
    folder = next(runs, None)
    if folder is None:
        return "toy", None
    recipe = run_folder.open_run(folder).recipe
    from training import recipes
    from training.evaluation.subject import data_recipe
    from training.recipes.pixels import PixelRecipe

    if isinstance(recipe, recipes.ClassifierRecipe):
        return "classifier", recipe.name
    data = data_recipe(recipe)
    if not isinstance(data, recipes.ToyRecipe | PixelRecipe):
        raise ValueError(f"{folder} is a run of {recipe.name}: there is no evaluation of such runs")
    return "toy" if isinstance(data, recipes.ToyRecipe) else "images", recipe.name


def _foreign(kind: str, args: Sequence[str]) -> tuple[str, str] | None:
    """The first flag that this kind of run does not have and another has, and whose it is."""
    flags = {
        family: {"--" + f.name.replace("_", "-") for f in dataclasses.fields(options)}
        for family, options in KINDS.items()
    }
    for arg in args:
        flag = arg.partition("=")[0].replace("_", "-")
        for family, known in flags.items():
            if flag in known and flag not in flags[kind]:
                return flag, family
    return None


def _classifier(options: EvaluateClassifier) -> int:
    from rich.console import Console

    from training import runs
    from training.families.classifier import build

    folder = runs.finished(options.run)
    task = build(folder.recipe)
    confusion = task.confusion(runs.trained_network(folder, task))
    right, n = int(confusion.trace()), int(confusion.sum())
    told = (
        f"{right} of {n} held-out images right, {right / n:.2%}; which are taken for which: {options.run}/confusion.png"
    )
    Console().print(told, highlight=False, soft_wrap=True)
    return 0


def _images(options: EvaluateImages) -> int:
    from rich.console import Console

    from training.evaluation.images import Settings, evaluate_images

    asked = {name: getattr(options, name) for name in ("bits", "fid", "nfe", "memorisation")}
    if not any(asked.values()):
        asked = dict.fromkeys(asked, True)
    rest = {name: getattr(options, name) for name in ("n", "bits_n", "chain", "calls", "grid", "features", "seed")}
    say: Callable[[str], None] = lambda line: Console(stderr=True).print(line, highlight=False, soft_wrap=True)  # noqa: E731
    with bar("evaluating") as told:
        report, out = evaluate_images(options.run, Settings(**asked, **rest), options.again, say, told)
    console = Console()
    for table in (figures(report), curve(report)):
        if table is not None:
            console.print(table)
    console.print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}", highlight=False, soft_wrap=True)
    return 0


def figures(report: Any) -> Any:
    """The report's figures beside what they are to be compared with."""
    from rich.table import Table

    out = Table(box=None, pad_edge=False, header_style="bold", title=report.run, title_justify="left")
    for name in ("", "this run", "held-out images"):
        out.add_column(name)
    if report.bits:
        given = "" if report.bits.of_label is None else " given the label"
        out.add_row(f"bits/dim{given}, chain", str(report.bits.chain))
        out.add_row(f"bits/dim{given}, flow", str(report.bits.flow) if report.bits.flow else "none: not known at t = 1")
    if report.samples:
        ours, floor = report.samples.distance, report.held_out
        out.add_row("FID", f"{ours.fid:.4g}", f"{floor.fid:.4g}")
        if ours.fid_at_infinity is not None:
            out.add_row("FID, n to infinity", f"{ours.fid_at_infinity:.4g}", f"{floor.fid_at_infinity:.4g}")
        out.add_row("KID", str(ours.kid), str(floor.kid))
    for space, found in report.memorisation.items():
        out.add_row(f"copies, AUC in {space}", f"{found.auc:.3f}", f"0.5 +- {found.standard_error:.3f}")
        out.add_row(f"copies, share in {space}", f"{found.share_below:.1%}", "1.0%")
    out.caption, out.caption_justify = " ".join(_notes(report)), "left"
    return out


DDPM = "ddpm: with the forward step's variance; the posterior's, of seminar sample, shrinks data in few steps."


def _notes(report: Any) -> list[str]:
    """What the figures are of."""
    told = []
    if report.bits:
        told.append(f"bits/dim: of {report.bits.images} held-out images, 95 % limits.")
    if report.bits and report.bits.of_label is not None:
        told.append(
            "Given its label, an image's bits are not those of papers without labels; drawing the label as well"
        )
        told.append(f"takes {report.bits.of_label:.2g} more at most.")
    if report.samples:
        sampler = f"{report.samples.solver} in {report.samples.steps} steps"
        grid = f" on the {report.settings.grid} grid" if report.settings.grid else ""
        told.append(f"FID and KID: of {report.n} samples by {sampler}{grid}, seen by {report.eye}.")
    if any(point.solver == "ddpm" for point in report.curve):
        told.append(DDPM)
    if report.memorisation:
        told.append(
            "Copies: an AUC of 1/2 if samples are no nearer to training images than held-out ones are, 1 if all"
        )
        told.append("are copies; the share is that of samples nearer to a copy than 99 % of held-out images.")
    return told


def curve(report: Any) -> Any:
    """FID of every solver at each number of calls; None if that was not asked."""
    if not report.curve:
        return None
    from rich.table import Table

    out = Table(
        box=None, pad_edge=False, header_style="bold", title="FID, in calls of the network", title_justify="left"
    )
    asked = sorted({point.calls for point in report.curve})
    for name in ("solver", *map(str, asked)):
        out.add_column(name, justify="left" if name == "solver" else "right")
    for solver in dict.fromkeys(point.solver for point in report.curve):
        own = {point.calls: f"{point.distance.fid:.4g}" for point in report.curve if point.solver == solver}
        out.add_row(solver, *(own.get(calls, "") for calls in asked))
    out.add_row("held-out images", *[f"{report.held_out.fid:.4g}"] * len(asked))
    return out


def _toy(options: Evaluate) -> int:
    from rich.console import Console

    from training.evaluate import evaluate_run

    console = Console()
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.name != "run"}
    with bar("evaluating") as told:

        def progress(stage: str, done: int, total: int) -> None:
            if not done:  # the run and the settings are in order
                Console(stderr=True).print(plan(options, total), highlight=False, soft_wrap=True)
            told(stage, done, total)

        report = evaluate_run(options.run, **values, progress=progress)
    console.print(table(report))
    return 0


RATE = 3e5  # samples that a toy's network moves one step in a second on a few cores, within a factor of three


def plan(options: Evaluate, total: int) -> str:
    """What it will do, and roughly how long that takes; total: samples moved by a step."""
    minutes = total / RATE / 60
    span = f"{minutes:.0f} minutes" if minutes > 1.5 else "a minute or less"
    return (
        f"{options.sets} sets of {options.size:,} samples by each sampler, {total // options.size:,} calls of the "
        f"network; then their distances to the exact law, and densities at {options.points:,} points. Roughly {span} "
        f"on a processor."
    )


def table(report: Any) -> Any:
    """The report's figures, one line a sampler."""
    from rich.table import Table

    out = Table(box=None, pad_edge=False, header_style="bold", title=str(report.run), title_justify="left")
    for name in ("sampler", "steps", "energy distance / perfect sampler's", "sliced Wasserstein / noise floor"):
        out.add_column(name)
    for s in report.sampled:
        out.add_row(s.solver, str(s.steps), str(s.energy), str(s.sliced))
    if any(s.solver == "ddpm" for s in report.sampled):
        out.caption, out.caption_justify = DDPM, "left"
    if report.nll_gap is not None:
        out.add_row("NLL gap", "", f"{report.nll_gap} nats", "")
    return out
