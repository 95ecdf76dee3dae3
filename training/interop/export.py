"""Export a finished run: a folder of safetensors and JSON that stock diffusers loads, with nothing of ours in it.

    unet             DDPMPipeline; of labels, or of EDM, ConsistencyModelPipeline: of the stock pipelines it is the one
                     that hands labels to a U-Net and scales its input, with any scheduler
    unet of latents  LDMPipeline; of labels, the parts alone, as no stock pipeline takes them
    dit of latents   DiTPipeline
    dit of pixels    the parts alone: DiTPipeline has no place for a transformer without an autoencoder

The folder appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from training import durable, networks, runs
from training.families.latent import Latent
from training.interop import chain
from training.recipes import Recipe
from training.recipes.denoising import DenoisingRecipe
from training.recipes.distill import DistillRecipe
from training.recipes.imported import ImportedRecipe
from training.recipes.latent import LatentRecipe
from training.times import T

DETERMINISTIC = ("DiTPipeline", "LDMPipeline")  # they hand no generator on to the scheduler


@dataclass(frozen=True)
class Exported:
    """Where an export lies, what loads it (None: each part's own class), and what to know about it."""

    folder: Path
    pipeline: str | None
    parts: tuple[str, ...]
    notes: tuple[str, ...]


def export(path: Path | str, out: Path | str | None = None, weights: Literal["ema", "last"] = "ema") -> Exported:
    """Write a finished run's model for diffusers; ValueError, in one line, for a run that no stock scheduler fits."""
    out = Path(path).with_name(f"{Path(path).name}-diffusers") if out is None else Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} exists and is not an empty folder: choose another for the export")
    recipe = _exportable(runs.finished(path).recipe)
    pipeline = pipeline_of(recipe)
    scheduler, config = chain.scheduler_of(recipe, deterministic=pipeline in DETERMINISTIC)
    trained = runs.load(path, weights)
    parts = {"transformer" if recipe.network == "dit" else "unet": stock(trained.network)}
    if isinstance(trained.task, Latent):
        parts["vqvae" if pipeline == "LDMPipeline" else "vae"] = autoencoder(trained.task)
    _write(out, pipeline, parts, scheduler, config)
    return Exported(out, pipeline, (*parts, "scheduler"), tuple(_notes(recipe, scheduler, config)))


def _exportable(recipe: Recipe) -> DenoisingRecipe:
    """The recipe, if it is one of a stock network that stands by itself."""
    if isinstance(recipe, ImportedRecipe):
        raise ValueError(f"{recipe.name}: what it was imported from is an export already")
    if isinstance(recipe, DenoisingRecipe):
        return recipe
    if isinstance(recipe, DistillRecipe):
        raise ValueError(f"{recipe.name} is distilled: it is made for a sampler of its own, which no stock one is")
    raise ValueError(f"{recipe.name} is no denoiser with a network of diffusers: those of images and of latents are")


def pipeline_of(recipe: DenoisingRecipe) -> str | None:
    """The stock pipeline that draws from such a run, if there is one."""
    if isinstance(recipe, LatentRecipe):
        return "DiTPipeline" if recipe.network == "dit" else None if recipe.classes else "LDMPipeline"
    if recipe.network == "dit":
        return None
    return "ConsistencyModelPipeline" if recipe.classes or recipe.preconditioning == "edm" else "DDPMPipeline"


def stock(network: nn.Module) -> Any:
    """The diffusers model inside a run's network."""
    inner = getattr(network, "network", network)
    assert isinstance(inner, networks.Stock)
    return inner.model


def autoencoder(task: Latent) -> Any:
    """The diffusers model of a run's autoencoder, which knows by what its latents were scaled."""
    model = task.autoencoder.model
    model.register_to_config(scaling_factor=task.scale.item())
    return model


def _notes(recipe: DenoisingRecipe, scheduler: str, config: chain.Config) -> list[str]:
    """What is not as it was in the run."""
    notes = []
    if scheduler in chain.CHAINS and recipe.schedule not in chain.NAMED:
        steps = config["num_train_timesteps"]
        notes.append(f"{recipe.schedule} is exported as the chain of its values at t = k/{T}, k = 1 .. {steps}")
        if steps < T:
            notes.append(f"call the pipeline with num_inference_steps of at most {steps}")
    if config.get("timestep_spacing") == "trailing" and scheduler == "DDIMScheduler":
        notes.append(f"call the pipeline with num_inference_steps that divide {T}: others end in noise")
    if config.get("timestep_spacing") == "leading":
        notes.append(f"DDIMScheduler starts below step {config['num_train_timesteps']}: seminar audit says how far")
    if scheduler == "EDMEulerScheduler" and recipe.schedule != "edm":
        notes.append(f"{recipe.schedule}: exported in x_t/alpha, at the levels sigma/alpha")
    if recipe.classes:
        notes.append(f'labels 0 .. {recipe.classes - 1}; {networks.unlabelled(recipe)} says "not told"')
    return notes


def _write(out: Path, pipeline: str | None, parts: dict[str, Any], scheduler: str, config: chain.Config) -> None:
    """All parts under a temporary name, then the folder in its place."""
    import diffusers

    modules = parts | {"scheduler": getattr(diffusers, scheduler)(**config)}
    partial = out.with_name(durable.PARTIAL + out.name)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        if pipeline:
            getattr(diffusers, pipeline)(**modules).save_pretrained(partial)
        else:
            for name, module in modules.items():
                module.save_pretrained(partial / name)
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    durable.sync(out.parent)
