"""The eyes of FID and KID: which network turns images into the features that are compared.

    (nothing)   a classifier of the run's own data, trained on demand and kept in runs/: compares runs on these data
    a folder    that classifier run
    inception   torch-fidelity's Inception, if that is installed: the FID of papers

A network in a file is refused: TorchScript and pickles run code when they are loaded, and safetensors without code says
nothing of what to do with the weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from training import loop, run_folder, runs
from training.families import classifier
from training.recipes import ClassifierRecipe
from training.recipes.classifier import of_data
from training.recipes.pixels import PixelRecipe

Look = Callable[[Tensor], Tensor]
INCEPTION = "inception"
TOGETHER = 64  # images that Inception sees at once


@dataclass(frozen=True)
class Eye:
    """`look(images)` is their features: uint8 [n, channels, height, width] -> float64 [n, d]."""

    name: str  # says which network and which weights, for a report
    look: Look


def open_eye(features: str | None, recipe: PixelRecipe, say: Callable[[str], None]) -> Eye:
    """The network that `features` names, for the images of a recipe; ValueError, in one line, if there is none.

    say   is told before a classifier is trained.
    """
    if features is None:
        return _of_run(_own(recipe, say), recipe)
    if features == INCEPTION:
        return inception()
    path = Path(features)
    if path.is_file():
        raise ValueError(
            f"features = {features}: a file is not loaded, as TorchScript and pickles can run code: expected the "
            f"folder of a classifier run, or {INCEPTION}"
        )
    return _of_run(path, recipe)


def _own(recipe: PixelRecipe, say: Callable[[str], None]) -> Path:
    """The folder of a finished classifier of the same data, trained now if it is not there."""
    wanted = of_data(recipe)
    path = run_folder.default_path(wanted, seed=0)
    if path.exists() and run_folder.open_run(path).finished:
        return path
    try:
        task = classifier.build(wanted)
        task.source, task.held_out  # noqa: B018  (opens both splits)
    except ValueError as error:
        raise ValueError(
            f"FID looks through a classifier of the run's data, and none can be trained ({error}): give --features, "
            f"the folder of another classifier run or {INCEPTION}"
        ) from None
    say(f"FID looks through a classifier of the same data; training it now, once, {wanted.steps} steps: {path}")
    if not (loop.resume(path) if path.exists() else loop.train(wanted, path)).finished:
        raise ValueError(f"the classifier was stopped: go on with seminar train --resume {path}, or evaluate again")
    return path


def _of_run(path: Path, recipe: PixelRecipe) -> Eye:
    folder = runs.finished(path)
    if not isinstance(folder.recipe, ClassifierRecipe):
        raise ValueError(f"features = {path}: a run of {folder.recipe.name}, expected one of a classifier")
    if folder.recipe.shape != recipe.shape:
        shapes = (" x ".join(map(str, shape)) for shape in (folder.recipe.shape, recipe.shape))
        raise ValueError("features = {}: a classifier of images of {}, the run's are of {}".format(path, *shapes))
    network = cast(classifier.Classifier, runs.trained_network(folder, classifier.build(folder.recipe)))
    digest = hashlib.sha256(folder.ema.read_bytes()).hexdigest()[:8]
    name = f"{folder.recipe.name}, {folder.recipe.features} features, weights {digest}"
    return Eye(name, lambda images: classifier.features(network, images))


def inception() -> Eye:
    """The 2048 features of torch-fidelity's Inception, which fetches its weights when it is first made."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ValueError(
            f"features = {INCEPTION} needs torch-fidelity ({error}): pip install torch-fidelity, and the torchvision "
            f"that fits the torch which is installed"
        ) from None
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])

    @torch.no_grad()
    def look(images: Tensor) -> Tensor:
        colour = images.expand(-1, 3, -1, -1)  # grey: the same in all three
        return torch.cat([network(part)[0].double() for part in colour.split(TOGETHER)])

    return Eye("torch-fidelity inception-v3-compat, 2048 features", look)
