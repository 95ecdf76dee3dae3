"""All that is asked of a run of images: bits per dimension, FID and KID, quality against calls, memorisation.

A run that was told labels is asked with them: its bits are those of an image given its label.

Samples and held-out images are as many, n of each; both are compared with the images that the run learned from. What
the held-out images get is the floor: no model does better but by luck, or by copying, which memorisation finds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion import solvers
from toy.estimate import Estimate, estimate
from toy.frechet import frechet
from training import durable
from training.data import pixels
from training.data.augment import versions
from training.data.source import Source
from training.evaluation import bits, features, fid, kid, memorisation, pictures
from training.evaluation.features import Eye, Look
from training.evaluation.memorisation import Comparison
from training.evaluation.subject import Subject, open_subject
from training.runs import NOISE_ONLY
from training.sampling import MOST_STEPS, Sampler
from training.streams import Streams
from training.task import Conditional, Distilled

SAMPLES, CODED = 1000, 128  # unless n and bits_n are given
REFERENCE = 10_000  # images learned from that FID and KID compare with, at most
TOGETHER = 64  # images whose bits are computed at once
FITTED = 128  # images learned from that the chain's variances are computed on
FLOW_CALLS = 150  # what an image's bits by the flow cost, in calls of the network, roughly
REPORT = "evaluation.json"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Settings:
    """What is asked, and at which effort; a folder in RUN/evaluation is named after it."""

    bits: bool = True
    fid: bool = True
    nfe: bool = True
    memorisation: bool = True
    n: int | None = None  # samples, and held-out images they are compared with; None: 1000, or all held out if fewer
    bits_n: int | None = None  # held-out images whose bits are computed; None: 128, or all if fewer
    chain: int = 100  # steps of the chain whose bound it is
    calls: tuple[int, ...] = (5, 10, 20, 50)  # of the network, for each sample: where quality is looked at
    grid: str | None = None  # at which times, see sampling.py; None: our own
    features: str | None = None  # see features.py
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.bits or self.fid or self.nfe or self.memorisation):
            raise ValueError("nothing is asked: expected one of bits, fid, nfe, memorisation at least")
        if not 2 <= self.chain <= MOST_STEPS:
            raise ValueError(f"chain = {self.chain}: expected 2 to {MOST_STEPS} steps")
        if not self.calls or not all(1 <= calls <= MOST_STEPS for calls in self.calls):
            raise ValueError(f"calls = {self.calls}: expected whole numbers from 1 to {MOST_STEPS}")

    @property
    def samples(self) -> bool:
        return self.fid or self.nfe or self.memorisation

    def fingerprint(self) -> str:
        contents = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.blake2b(contents.encode(), digest_size=4).hexdigest()


@dataclass(frozen=True)
class Bits:
    """Bits per dimension of held-out images, each given its label where the network is told labels: of p(x | label).

    A model that draws the label too, all equally likely, takes at most `of_label` more: p(x) >= p(x | label) / classes.
    """

    images: int
    chain: Estimate
    flow: Estimate | None  # None where the network says nothing at t = 1
    of_label: float | None = None  # log2(classes)/d, where the bits are given the label


@dataclass(frozen=True)
class Distance:
    """How far n images are from those learned from, in an eye's features."""

    fid: float
    kid: Estimate
    fid_at_infinity: float | None = None  # None where n is too small for it


@dataclass(frozen=True)
class Point:
    """One sampler's distance."""

    solver: str
    steps: int
    calls: int
    distance: Distance


@dataclass(frozen=True)
class Report:
    """All figures of one evaluation; None for what was not asked or cannot be had."""

    run: str
    settings: Settings
    n: int | None
    eye: str | None = None
    bits: Bits | None = None
    samples: Point | None = None
    held_out: Distance | None = None
    curve: tuple[Point, ...] = ()
    memorisation: dict[str, Comparison] = field(default_factory=dict)  # in pixels, and in features


def evaluate_images(
    path: Path | str,
    settings: Settings,
    again: bool = False,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress | None = None,
) -> tuple[Report, Path]:
    """Judge a finished run of images; its report and the folder, RUN/evaluation/<fingerprint>, with JSON and pictures.

    again     judge anew what was judged with these settings, into a folder of another name.
    say       is told lines for a reader, before long work starts.
    progress  progress(stage, done, total), in calls of the network for one image.

    ValueError, before any of it, for a run or settings that don't fit.
    """
    subject = open_subject(path, settings.seed)
    out = _folder(Path(path), settings, again)
    n, coded = _numbers(subject, settings)
    if not n and not coded:
        raise ValueError(f"{path} has no bits/dim: its network is no denoiser of pixels at every noise level")
    samplers = _samplers(subject, settings)
    eye = features.open_eye(settings.features, subject.recipe, say) if settings.fid or settings.nfe else None
    work = _Work(progress, _total(subject, settings, n, coded, samplers))
    what = [f"bits/dim of {coded} images"] * bool(coded) + [f"{n} samples by each of {len(samplers)} samplers"] * bool(
        n
    )
    say(f"{' and '.join(what)}: as much as {work.total:,} calls of the network for one image")
    report = Report(str(path), settings, n or None, eye.name if eye else None)
    with _whole(out) as unfinished:
        if coded:
            report = dataclasses.replace(report, bits=_bits(subject, settings, coded, work))
        if n:
            report = _judge_samples(subject, settings, report, n, samplers, eye, work, unfinished)
        durable.replace(unfinished / REPORT, json.dumps(dataclasses.asdict(report), indent=1).encode())
    return report, out


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder to write in that becomes `out` when all is written; until then nothing is there but its hidden self."""
    unfinished = out.with_name(durable.PARTIAL + out.name)
    shutil.rmtree(unfinished, ignore_errors=True)  # of one that was killed
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(out)
    except BaseException:
        shutil.rmtree(unfinished)
        with contextlib.suppress(OSError):
            out.parent.rmdir()  # where this would have been the first
        raise


class _Work:
    """How much is done of all there is."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done, self.stage = progress, total, 0, ""

    def begin(self, stage: str) -> None:
        self.stage = stage
        self(0)

    def __call__(self, n: int) -> None:
        self.done = min(self.done + n, self.total)
        if self.progress:
            self.progress(self.stage, self.done, self.total)


class _Budget:
    """Work of a length that is not known, told as a length that is: a call and its way back count as two."""

    def __init__(self, work: _Work, left: int) -> None:
        self.work, self.left = work, left

    def __call__(self, n: int) -> None:
        step = min(2 * n, self.left)
        self.left -= step
        self.work(step)

    def close(self) -> None:
        self.work(self.left)


def _folder(run: Path, settings: Settings, again: bool) -> Path:
    """Where the report goes: nothing that is there is written over."""
    first = path = run / "evaluation" / settings.fingerprint()
    if (path / REPORT).exists() and not again:
        raise ValueError(f"{path / REPORT} has the report of these settings: read it, or give --again for another")
    number = 2
    while path.exists():
        path = first.with_name(f"{first.name}-{number}")
        number += 1
    return path


def _numbers(subject: Subject, settings: Settings) -> tuple[int, int]:
    """How many samples, and how many images whose bits are computed; 0 where none are asked for."""
    held_out = len(subject.held_out)
    n = min(SAMPLES, held_out) if settings.n is None else settings.n
    if settings.samples and not 4 <= n <= held_out:
        raise ValueError(f"n = {n}: expected 4 to {held_out}, as samples are compared with as many held-out images")
    coded = min(CODED, held_out) if settings.bits_n is None else settings.bits_n
    if settings.bits and not 2 <= coded <= held_out:
        raise ValueError(f"bits_n = {coded}: expected 2 to {held_out}, the number of held-out images")
    return n if settings.samples else 0, coded if settings.bits and subject.has_bits else 0


def _samplers(subject: Subject, settings: Settings) -> list[Sampler]:
    """The run's own sampler first; then, for the curve, every solver at the numbers of calls asked for."""
    chosen = [subject.sampler(grid=settings.grid)] if settings.samples else []
    if not settings.nfe:
        return chosen
    if isinstance(subject.trained.task, Distilled):
        for steps in sorted(settings.calls):
            try:
                chosen.append(subject.sampler(steps=steps))
            except ValueError:
                continue  # the student does not know this number
        return chosen
    for solver in solvers.SOLVERS:
        for calls in sorted(set(settings.calls)):
            within = (subject.sampler(solver, steps, settings.grid) for steps in range(calls, 0, -1))
            chosen.append(next(sampler for sampler in within if len(sampler.coefficients) <= calls))
    return chosen


def _total(subject: Subject, settings: Settings, n: int, coded: int, samplers: list[Sampler]) -> int:
    """All calls of the network, each for one image."""
    total = n * sum(len(sampler.coefficients) for sampler in samplers)
    if coded:
        total += settings.chain * (coded + min(FITTED, len(subject.learned)))
        total += FLOW_CALLS * coded if _has_flow(subject) else 0
    return total


def _has_flow(subject: Subject) -> bool:
    """Whether the ODE can be followed to t = 1, where eps and scores say nothing of data if nothing is left of them."""
    ends_in_noise = float(subject.trained.schedule.alpha(torch.tensor(1.0, dtype=torch.float64))) == 0
    return not (ends_in_noise and getattr(subject.trained.recipe, "parameterization", "") in NOISE_ONLY)


def _bits(subject: Subject, settings: Settings, n: int, work: _Work) -> Bits:
    trained, device = subject.trained, subject.device
    first = bits.first_time(trained.schedule, trained.earliest)
    chain = bits.Chain(trained.schedule, settings.chain, first, trained.latest)
    chosen = subject.some(subject.learned, FITTED, "fitted")
    work.begin("bits/dim, the chain's variances")
    generator = Streams(settings.seed, 0, device=device)("variances")
    with torch.no_grad():
        model = subject.denoiser(subject.labels(subject.learned, chosen), work)
        Sigma = chain.variances(model, _scaled(subject.learned, chosen, device), generator)
    found: dict[str, list[float]] = {"chain": [], "flow": []}
    indices = subject.some(subject.held_out, n, "bits")
    for i, part in enumerate(indices.split(TOGETHER)):
        x, labels = _scaled(subject.held_out, part, device), subject.labels(subject.held_out, part)
        streams = Streams(settings.seed, i, device=device)
        work.begin("bits/dim by the chain")
        with torch.no_grad():
            found["chain"] += chain.bits(subject.denoiser(labels, work), Sigma, x, streams("chain")).tolist()
        if _has_flow(subject):
            work.begin("bits/dim by the flow")
            budget = _Budget(work, FLOW_CALLS * len(part))
            denoiser = subject.denoiser(labels, budget)
            found["flow"] += bits.by_flow(
                denoiser, trained.schedule, x, streams("flow"), trained.earliest, trained.std
            ).tolist()
            budget.close()
    flow = estimate(found["flow"]) if found["flow"] else None
    classes = subject.trained.task.classes if isinstance(subject.trained.task, Conditional) else 0
    of_label = math.log2(classes) / math.prod(subject.recipe.shape) if classes else None
    return Bits(len(indices), estimate(found["chain"]), flow, of_label)


def _scaled(source: Source, indices: Tensor, device: torch.device) -> Tensor:
    return pixels.to_model(source.images(indices)).to(device)


def _judge_samples(
    subject: Subject,
    settings: Settings,
    report: Report,
    n: int,
    samplers: list[Sampler],
    eye: Eye | None,
    work: _Work,
    out: Path,
) -> Report:
    """The report with all that is said of samples, and the pictures."""
    chosen = subject.some(subject.held_out, n, "held out")
    held_out, labels = subject.held_out.images(chosen), subject.labels(subject.held_out, chosen)
    judge = _Judge(subject, eye, settings.seed) if eye else None
    drawn, points = None, []
    for sampler in samplers:
        solver, steps = sampler.coefficients.name, len(sampler.coefficients.grid) - 1
        work.begin(f"samples by {solver}, {steps} steps")
        images = subject.draw(sampler, n, labels, work)
        drawn = images if drawn is None else drawn
        if judge:
            points.append(Point(solver, steps, len(sampler.coefficients), judge(images)))
    changes: dict[str, Any] = {}
    if judge:
        changes = {"samples": points[0], "held_out": judge(held_out), "curve": tuple(points[1:])}
        if points[1:]:
            pictures.curve(points[1:], changes["held_out"], n, out / "nfe.png", subject.trained.recipe.name)
    if settings.memorisation and drawn is not None:
        work.begin("nearest neighbours")
        changes["memorisation"] = _memorised(subject, drawn, held_out, eye, out)
    return dataclasses.replace(report, **changes)


class _Judge:
    """Distances to a fixed part of the images learned from, through an eye."""

    def __init__(self, subject: Subject, eye: Eye, seed: int) -> None:
        self.eye, self.seed = eye, seed
        chosen = subject.some(subject.learned, REFERENCE, "reference")
        self.reference = eye.look(subject.learned.images(chosen))

    def __call__(self, images: Tensor) -> Distance:
        seen = self.eye.look(images)
        large = len(seen) >= fid.ENOUGH * seen.shape[1]
        limit = fid.at_infinity(seen, self.reference, Streams(self.seed, 0)("parts")) if large else None
        return Distance(float(frechet(seen, self.reference)), kid.kid(seen, self.reference), limit)


def _memorised(subject: Subject, drawn: Tensor, held_out: Tensor, eye: Eye | None, out: Path) -> dict[str, Comparison]:
    both = torch.cat([drawn, held_out])
    spaces: dict[str, Look] = {"pixels": lambda images: images.flatten(1)}
    if eye:
        spaces["features"] = eye.look
    found = {}
    for space, look in spaces.items():
        nearest = memorisation.neighbours(look(both), _learned(subject, look))
        of_samples, of_others = nearest.split(len(drawn))
        found[space] = memorisation.compare(of_samples.ratio, of_others.ratio)
        if space == "pixels":
            pictures.neighbours((drawn, of_samples), (held_out, of_others), subject.learned, out / "memorisation.png")
    return found


def _learned(subject: Subject, look: Look) -> Iterator[Iterator[Tensor]]:
    """What is seen of all images learned from, part by part, as many as fit in memory: each as all the run has seen.

    Where the run moves images by s pixels, that is (2 s + 1)^2 times the work: a copy is told by its place as well.
    """
    source = subject.learned
    for part in torch.arange(len(source)).split(max(1, memorisation.TOGETHER // math.prod(source.shape))):
        yield map(look, versions(source.images(part), subject.recipe.flip, subject.recipe.shift))
