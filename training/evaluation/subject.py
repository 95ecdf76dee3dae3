"""The run that is judged: its network, the images it learned from, and the images it has never seen."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion.model import Denoiser
from training import evaluate, runs, sampling
from training.data.catalog import held_out, learned
from training.data.source import Source
from training.recipes import Recipe
from training.recipes.distill import DistillRecipe
from training.recipes.latent import LatentRecipe
from training.recipes.pixels import PixelRecipe
from training.run_folder import open_run
from training.runs import Trained
from training.sampling import Sampler, Told
from training.streams import Streams


@dataclass(frozen=True)
class Subject:
    """A finished run of images, on the device where it is judged."""

    trained: Trained
    recipe: PixelRecipe  # whose data these are
    seed: int

    @property
    def device(self) -> torch.device:
        return next(self.trained.network.parameters()).device

    @property
    def has_bits(self) -> bool:
        """Whether its network is a denoiser of pixels at all times: none of latents, and no student of few steps."""
        return isinstance(self.trained.recipe, PixelRecipe)

    @functools.cached_property
    def learned(self) -> Source:
        """The images the run learned from."""
        return learned(self.recipe)

    @functools.cached_property
    def held_out(self) -> Source:
        """The images it has not seen: of the other split, or held out."""
        return held_out(self.recipe)

    def some(self, source: Source, n: int, purpose: str) -> Tensor:
        """Indices of n different images of a source, or of all, by chance."""
        order = torch.randperm(len(source), generator=Streams(self.seed, 0)(purpose))
        return order[: min(n, len(source))]

    def labels(self, source: Source, indices: Tensor) -> Tensor | None:
        """Their labels on the device, if the network is told labels."""
        return source.labels(indices).to(self.device) if getattr(self.trained.task, "classes", 0) else None

    def denoiser(self, labels: Tensor | None, told: Told) -> Denoiser:
        """The denoiser of these labels, or of none; told(number of samples) at every call."""
        task: Any = self.trained.task
        denoiser = self.trained.denoiser if labels is None else task.denoiser(self.trained.network, labels)
        return sampling.watched(denoiser, told)

    def sampler(self, solver: str | None = None, steps: int | None = None, grid: str | None = None) -> Sampler:
        return self.trained.sampler(solver, steps, grid, **(evaluate.OPTIONS.get(solver, {}) if solver else {}))

    def draw(self, sampler: Sampler, n: int, labels: Tensor | None, told: Told) -> Tensor:
        """n samples as uint8 pixels on the CPU: each part of them from a seed of its own, whatever the sampler.

        So two samplers start from the same noise, though one of them draws more on the way.
        """
        shape = self.trained.task.shape
        parts = sampling.sizes(n, shape)
        of_parts = [None] * len(parts) if labels is None else labels.split(parts)
        drawn = []
        for i, (size, part) in enumerate(zip(parts, of_parts, strict=True)):
            generator = Streams(self.seed, i, device=self.device)("samples")
            x = sampling.draw(self.denoiser(part, told), sampler, shape, size, generator)
            drawn.append(self.trained.task.as_data(x).cpu())
        return torch.cat(drawn)


def open_subject(path: Path | str, seed: int) -> Subject:
    """The finished run of images in a folder; ValueError for any other."""
    trained = runs.load(path)
    recipe = data_recipe(trained.recipe)
    if not isinstance(recipe, PixelRecipe):
        raise ValueError(f"{path} is a run of {trained.recipe.name}: it draws no images of a data set")
    trained.network.to("cuda" if torch.cuda.is_available() else "cpu")
    return Subject(trained, recipe, seed)


def data_recipe(recipe: Recipe) -> Recipe:
    """The recipe whose data a run is judged by: its own, or that of its teacher, or of its autoencoder."""
    if isinstance(recipe, DistillRecipe):
        return data_recipe(open_run(Path(recipe.teacher)).recipe)
    if isinstance(recipe, LatentRecipe):
        return data_recipe(open_run(Path(recipe.autoencoder)).recipe)
    return recipe
