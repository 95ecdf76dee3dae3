"""The distillation family: a student of a finished run, of the same architecture, for few steps.

    progressive   the student's step is two of its teacher's; at the end of a round the student is the next teacher.
                  What it knows in the end is DDIM on one grid of few steps.
    consistency   f(x, sigma), the same for neighbours on a path; the neighbour is found by a step of the teacher, or by
                  the noise that made x (`from_data`), and its f is told by an average of the student's past weights.
                  It is sampled by jumps to the data, with noise between them.
    reflow        the velocity of straight paths from noise to what the teacher's flow makes of it; sampled by Euler.

Each is a denoiser with a table of its own (`sampler`), so what samples, judges or draws a run does it with these too.
What changes beside the student, a round's teacher or the average that makes the targets, is part of the run's state.
Losses and targets are those of diffusion/distillation.py. A teacher of labels has a student of labels, withheld as
often; its classifier-free guidance, if any, goes into the student's weights (Meng et al. 2023, for one weight).
"""

from __future__ import annotations

import copy
import functools
import hashlib
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from diffusion import distillation as distil
from diffusion import grids, schedules, solvers
from diffusion.losses import denoising_loss
from diffusion.parameterization import mix
from diffusion.sampling import sample
from diffusion.schedules import Schedule
from diffusion.shapes import per_sample
from diffusion.types import Denoiser
from training import draw, durable, launch, recipes, runs, sampling
from training.families.denoising import check_labels
from training.recipes import Recipe
from training.recipes.distill import ConsistencyRecipe, DistillRecipe, ProgressiveRecipe, ReflowRecipe
from training.run_folder import RunFolder
from training.runs import Trained
from training.sampling import Sampler
from training.streams import Streams
from training.task import Batch, Conditional, Distilled, Generative, Prepared
from training.task import build as build_task

NOISE_ONLY = ("eps", "score")  # predictions that say nothing of the data where x_t is all noise
PAIRS = "pairs.safetensors"


class Student:
    """What the kinds share: the teacher, its data, and a network of its architecture."""

    schedule: Schedule

    def __init__(self, recipe: DistillRecipe, teacher: Trained) -> None:
        self.recipe, self.teacher = recipe, teacher
        self.data: Recipe = teacher.task.data if isinstance(teacher.task, Distilled) else teacher.recipe
        self.schedule, self.std, self.shape = teacher.schedule, teacher.std, teacher.task.shape
        self.classes = teacher.task.classes if isinstance(teacher.task, Conditional) else 0
        if recipe.guidance != 1 and not self.classes:
            raise ValueError(f"guidance = {recipe.guidance}: teacher {recipe.teacher} knows no labels to be guided by")

    def facts(self) -> dict[str, Any]:
        """The teacher's recipe and weights, and what its data depend on."""
        weights = hashlib.sha256(self.teacher.folder.ema.read_bytes()).hexdigest()
        return self.lessons.facts() | {"teacher": f"{recipes.fingerprint(self.teacher.recipe)} {weights}"}

    def batch(self, n: int, streams: Streams) -> Batch:
        """The teacher's own."""
        return self.lessons.batch(n, streams)

    @functools.cached_property
    def lessons(self) -> Generative:
        """The teacher's task with all that it was trained on: samplers of a student need nothing of that."""
        if isinstance(self.teacher.task, Prepared):
            self.teacher.task.prepare(self.teacher.folder)
        return self.teacher.task

    def network(self) -> nn.Module:
        """The teacher's network, with its weights."""
        network = self.teacher.task.network()
        network.load_state_dict(self.teacher.network.state_dict())
        return network

    def denoiser(self, network: nn.Module, labels: Tensor | None = None, guidance: float = 1.0) -> Denoiser:
        """The student's own, as `Conditional` has it, but for guidance."""
        if guidance != 1:
            raise ValueError(
                f"guidance = {guidance}: a student is not guided, its teacher was, by {self.recipe.guidance}"
            )
        return self.student(network, labels)

    def student(self, network: nn.Module, labels: Tensor | None) -> Denoiser:
        return told(self.teacher.task, network, labels)

    def taught(self, network: nn.Module, labels: Tensor | None) -> Denoiser:
        """What is to be learned: a network of the teacher's, guided."""
        return told(self.teacher.task, network, labels, self.recipe.guidance)

    def withheld(self, labels: Tensor, streams: Streams) -> Tensor:
        """As the teacher was told them."""
        assert isinstance(self.teacher.task, Conditional)
        return self.teacher.task.withheld(labels, streams)

    def labels(self, batch: Batch, streams: Streams) -> Tensor | None:
        """Those of a batch, some withheld: of a teacher of labels they come last."""
        return self.withheld(batch[-1], streams) if self.classes else None

    def draw(
        self, network: nn.Module, sampler: Sampler, n: int, generator: torch.Generator,
        labels: Tensor | None = None, guidance: float = 1.0,
    ) -> Tensor:  # fmt: skip
        """n samples [n, *shape], the i-th with the i-th of the labels if there are any."""
        check_labels(labels, self.classes, self.data.name)

        def denoiser(part: Tensor | None) -> Denoiser:
            return self.denoiser(network, part, guidance)

        return sampling.draw_told(denoiser, sampler, self.shape, n, generator, labels)

    def sampler(self, steps: int | None = None) -> Sampler:
        raise NotImplementedError

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        raise NotImplementedError

    def preview(self, network: nn.Module, folder: RunFolder) -> Path:
        """samples.png in the run folder: what the student draws, beside the truth."""
        return draw.distilled(folder, self, network)

    def as_data(self, drawn: Tensor) -> Tensor:
        return self.teacher.task.as_data(drawn)

    def picture(self, drawn: Tensor, path: Path, title: str, generator: torch.Generator) -> Path:
        """The teacher's own kind."""
        return self.teacher.task.picture(drawn, path, title, generator)


class Follower(Student):
    """A student with a second network, `held`, which is not trained and follows it from step to step."""

    held: nn.Module

    def network(self) -> nn.Module:
        network = self.beginner()
        self.held = copy.deepcopy(network).requires_grad_(False).eval()
        return network

    def beginner(self) -> nn.Module:
        return super().network()

    def tensors(self) -> dict[str, Tensor]:
        return self.held.state_dict()

    def begin(self, network: nn.Module, step: int) -> None:
        self.held.to(next(network.parameters()).device)
        if step:
            self.follow(network, step)

    def follow(self, network: nn.Module, step: int) -> None:
        """What a step, any but the first, does to `held` before all else."""
        raise NotImplementedError


class Progressive(Follower):
    """Halved steps, round by round (Salimans & Ho 2022, algorithm 2)."""

    recipe: ProgressiveRecipe

    def __init__(self, recipe: ProgressiveRecipe, teacher: Trained) -> None:
        super().__init__(recipe, of_one_network(recipe, teacher))
        self.grid = sampling.angle_grid(self.schedule, recipe.start_steps, teacher.latest, self.std)

    def follow(self, network: nn.Module, step: int) -> None:
        """At the start of a round the last one's student becomes the teacher."""
        if self.recipe.within_round(step)[0] == 0:
            self.held.load_state_dict(whole(network))

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        """Over the student's steps, equally likely, each from the law of x_t at its start."""
        x_0 = batch[0]
        times = schedules.resident(self.grid, x_0.device)[
            :: 2 ** self.recipe.round_of(streams.step)
        ]  # of the round's teacher
        chosen = torch.randint(len(times) // 2, (len(x_0),), generator=streams("time"), device=x_0.device)
        t, u, s = (times[2 * chosen + k] for k in range(3))
        x_t, labels = noised(x_0, self.schedule.alpha(t), self.schedule.sigma(t), streams), self.labels(batch, streams)
        first = self.recipe.round_of(streams.step) == 0  # later teachers were students: guidance is in their weights
        student = self.student(network, labels)
        teacher = self.taught(self.held, labels) if first else self.student(self.held, labels)
        return distil.progressive_loss(student, teacher, self.schedule, x_t, (t, u, s), self.std).mean()

    def sampler(self, steps: int | None = None) -> Sampler:
        """DDIM on the last round's grid, started as the first teacher's DDIM would be."""
        if steps not in (None, self.recipe.end_steps):
            raise ValueError(f"steps = {steps}: this student knows a grid of {self.recipe.end_steps} and no other")
        first = solvers.ddim(self.schedule, self.grid)
        last = solvers.ddim(self.schedule, self.grid[:: 2**self.recipe.rounds])
        return Sampler(last, sampling.start_std(self.schedule, first, self.std))


class Consistency(Follower):
    """Consistency distillation, and training (Song et al. 2023, algorithms 2 and 3), on one grid of noise levels.

    A schedule with alpha != 1 has the levels sigma/alpha, at which x/alpha is what EDM calls x. All levels are places
    on the grid, so that the time which belongs to one is looked up, not solved for.
    """

    recipe: ConsistencyRecipe

    def __init__(self, recipe: ConsistencyRecipe, teacher: Trained) -> None:
        super().__init__(recipe, of_one_network(recipe, teacher))
        falling = sampling.angle_grid(self.schedule, recipe.levels, teacher.latest, self.std, end=teacher.earliest)
        self.times = falling.flip(0)
        self.levels = self.schedule.sigma(self.times) / self.schedule.alpha(self.times)

    def beginner(self) -> nn.Module:
        """The teacher's network; without its weights when nothing but data is to be learned from."""
        return self.teacher.task.network() if self.recipe.from_data else super().beginner()

    @torch.no_grad()
    def follow(self, network: nn.Module, step: int) -> None:
        """The average of weights that makes the targets takes in the last step's."""
        new = whole(network)
        for name, held in self.tensors().items():
            held.copy_(held.lerp(new[name], 1 - self.recipe.target_decay) if held.is_floating_point() else new[name])

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        """Over the grid's neighbours, equally likely."""
        x_0 = batch[0]
        levels = schedules.resident(self.levels, x_0.device)
        upper = torch.randint(1, len(levels), (len(x_0),), generator=streams("time"), device=x_0.device)
        level, h = levels[upper], levels[upper] - levels[upper - 1]
        labels = self.labels(batch, streams)
        f, target = self.function(network, labels), self.function(self.held, labels)
        if self.recipe.from_data:
            eps = torch.randn(x_0.shape, generator=streams("noise"), device=x_0.device)
            return distil.consistency_training_loss(f, x_0, eps, level, h, target).mean()
        self.teacher.network.to(x_0.device)
        with torch.no_grad():
            denoise = self.at_level(self.taught(self.teacher.network, labels))
            x = noised(x_0, torch.ones_like(level), level, streams)
        return distil.consistency_distillation_loss(f, denoise, x, level, h, target).mean()

    def at_level(self, denoise: Denoiser) -> distil.Network:
        """(x, sigma) -> x_0, at alpha = 1 and a level of the grid, by a denoiser of the schedule's (x_t, t)."""

        def estimate(x: Tensor, level: Tensor) -> Tensor:
            levels, times = (schedules.resident(table, x.device) for table in (self.levels, self.times))
            t = times[torch.bucketize(level, (levels[1:] + levels[:-1]) / 2)]
            return denoise(per_sample(self.schedule.alpha(t), x) * x, t)

        return estimate

    def function(self, network: nn.Module, labels: Tensor | None) -> distil.Network:
        """(x, sigma) -> f by the network."""
        denoise = self.at_level(told(self.teacher.task, network, labels))
        return distil.consistency_of(denoise, self.std, self.levels[0].item())

    def student(self, network: nn.Module, labels: Tensor | None) -> Denoiser:
        """(x_t, t) -> f: where the path through x_t began; no posterior mean."""
        f = self.function(network, labels)

        def estimate(x: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
            return f(x / per_sample(alpha, x), sigma / alpha)

        return estimate

    def sampler(self, steps: int | None = None) -> Sampler:
        """Jumps from evenly spread places of the grid, started as a DDIM over all of it would be."""
        steps = self.recipe.end_steps if steps is None else steps
        if not 1 <= steps <= self.recipe.levels:
            raise ValueError(f"steps = {steps}: expected 1 to {self.recipe.levels}, the levels this student knows")
        falling = self.times.flip(0)
        visited = torch.linspace(0, self.recipe.levels, steps + 1, dtype=torch.float64).round().long()
        spread = sampling.start_std(self.schedule, solvers.ddim(self.schedule, falling), self.std)
        return Sampler(solvers.consistency(self.schedule, falling[visited]), spread)


class Reflow(Student):
    """Straight paths between paired noise and data (Liu et al. 2023, algorithm 1, one round): a run is a teacher again.

    The flow schedule, alpha = 1 - t and sigma = t, whatever the teacher's; pairs are noise of unit variance, and the
    end of the teacher's path from that noise.
    """

    recipe: ReflowRecipe
    pairs: dict[str, Tensor]  # "noise" and "data", and "labels" if there are any
    digest: str

    def __init__(self, recipe: ReflowRecipe, teacher: Trained) -> None:
        super().__init__(recipe, teacher)
        self.schedule = schedules.SCHEDULES["flow"]()
        self.path = teacher.sampler(steps=recipe.pair_steps)
        if self.path.coefficients.noise.any():
            raise ValueError(f"teacher {recipe.teacher} draws noise on the way: reflow needs a deterministic sampler")
        straight = recipes.change(self.data, schedule="flow", parameterization="velocity")
        self.architecture = build_task(straight)
        self.inherits = isinstance(teacher.task, Reflow) or straight == teacher.recipe

    def prepare(self, folder: RunFolder) -> None:
        """Read the pairs, or make them first: the run folder keeps them."""
        if not self.recipe.pairs:
            return
        path = folder.path / PAIRS
        if not path.exists():
            durable.replace(path, safetensors.torch.save(self.make(self.recipe.pairs, folder.seed)))
        contents = path.read_bytes()
        try:
            self.pairs = safetensors.torch.load(contents)
        except safetensors.SafetensorError:
            raise ValueError(f"{path} is damaged: delete it, and it is made again") from None
        self.digest = hashlib.sha256(contents).hexdigest()

    def make(self, n: int, seed: int) -> dict[str, Tensor]:
        """n pairs [n, *shape], on the CPU."""
        drawn, device = self.starts(n, Streams(seed, 0)("pairs")), launch.join().device
        parts = zip(*(tensor.split(sampling.sizes(n, self.shape)) for tensor in drawn), strict=True)
        data = torch.cat([self.carried(*(tensor.to(device) for tensor in part)).cpu() for part in parts])
        return dict(zip(("noise", "labels"), drawn, strict=False)) | {"data": data}

    def starts(self, n: int, generator: torch.Generator) -> Batch:
        """n times unit noise, and labels if there are any, all equally likely."""
        noise = torch.randn(n, *self.shape, generator=generator)
        return (noise, torch.randint(self.classes, (n,), generator=generator)) if self.classes else (noise,)

    @torch.no_grad()
    def carried(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """The end of the teacher's path from unit noise."""
        denoiser = self.taught(self.teacher.network.to(noise.device), labels)
        return sample(denoiser, self.path.coefficients, self.path.spread * noise)

    def facts(self) -> dict[str, Any]:
        return super().facts() | ({"pairs": self.digest} if self.recipe.pairs else {})

    def network(self) -> nn.Module:
        """The teacher's architecture for velocities of the flow schedule; its weights too, if it predicts those."""
        return super().network() if self.inherits else self.architecture.network()

    def batch(self, n: int, streams: Streams) -> Batch:
        """Noise and data of n pairs, without data where these are made in the step; labels if there are any."""
        generator = streams("data", "cpu")
        if not self.recipe.pairs:
            return self.starts(n, generator)
        chosen = torch.randint(self.recipe.pairs, (n,), generator=generator)
        return tuple(self.pairs[name][chosen] for name in ("noise", "data", "labels") if name in self.pairs)

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        """The squared error of the velocity noise - data at x_t between them, t uniform."""
        noise, data = batch[0], batch[1] if self.recipe.pairs else self.carried(*batch)
        t = torch.rand(len(noise), generator=streams("time"), device=noise.device)
        velocity = self.velocity(network, self.labels(batch, streams))
        return denoising_loss(velocity, self.schedule, data, t, noise, "velocity").mean()

    def velocity(self, network: nn.Module, labels: Tensor | None) -> Denoiser:
        return network if labels is None else lambda x, t: network(x, t, labels)

    def student(self, network: nn.Module, labels: Tensor | None) -> Denoiser:
        """(x_t, t) -> the point at time 0 of a straight path through x_t."""
        velocity = self.velocity(network, labels)
        return lambda x, t: distil.straight_student(x, velocity(x, t.to(x).expand(len(x))), per_sample(t, x))

    def sampler(self, steps: int | None = None) -> Sampler:
        """Euler in equal steps from unit noise."""
        steps = self.recipe.end_steps if steps is None else steps
        return Sampler(solvers.euler(self.schedule, grids.uniform(steps)), 1.0)


def told(task: Generative, network: nn.Module, labels: Tensor | None, guidance: float = 1.0) -> Denoiser:
    """The task's denoiser, of labels if there are any."""
    if labels is None:
        return task.denoiser(network)
    assert isinstance(task, Conditional)
    return task.denoiser(network, labels, guidance)


def whole(network: nn.Module) -> dict[str, Tensor]:
    """The network's tensors; all of each, where every process has a shard."""
    return {
        name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        for name, tensor in network.state_dict().items()
    }


def noised(x_0: Tensor, alpha: Tensor, sigma: Tensor, streams: Streams) -> Tensor:
    """x_t for fresh noise, alpha and sigma [batch]."""
    eps = torch.randn(x_0.shape, generator=streams("noise"), device=x_0.device)
    return mix(x_0, eps, per_sample(alpha, x_0), per_sample(sigma, x_0))


def of_one_network(recipe: DistillRecipe, teacher: Trained) -> Trained:
    """The teacher, if its network is a denoiser at all times that says something of the data at each."""
    if isinstance(teacher.task, Distilled):
        raise ValueError(f"teacher {recipe.teacher} is distilled itself: {recipe.name} needs a denoiser at all times")
    kind = getattr(teacher.recipe, "parameterization", None)
    if kind in NOISE_ONLY:
        raise ValueError(
            f"teacher {recipe.teacher} predicts {kind}, which says nothing of the data where x_t is all noise: "
            f"{recipe.name} needs one that predicts x0, v or velocity"
        )
    return teacher


KINDS: dict[type[Recipe], type[Student]] = {
    ProgressiveRecipe: Progressive,
    ConsistencyRecipe: Consistency,
    ReflowRecipe: Reflow,
}


def build(recipe: Recipe) -> Student:
    """The family's entry, for the loop."""
    if not isinstance(recipe, DistillRecipe):
        raise TypeError(f"{recipe.name} is a {type(recipe).__name__}: expected a DistillRecipe")
    if not recipe.teacher:
        raise ValueError(f"{recipe.name} needs a teacher: the folder of a finished run of a generative model")
    try:
        teacher = runs.load(recipe.teacher)
    except ValueError as error:
        raise ValueError(f"teacher: {error}") from None
    return KINDS[type(recipe)](recipe, teacher)
