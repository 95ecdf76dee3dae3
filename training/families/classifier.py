"""The classifier family: which class an image belongs to, learned by cross-entropy.

It serves as the eye of FID and KID: `features` is the layer before the last, of a network that had to tell these very
images apart. Such distances compare runs on the same data and nothing else; the FID of papers is taken in the features
of one Inception network trained on ImageNet.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import draw, durable
from training.data import pixels
from training.data.catalog import held_out, learned_from
from training.data.reading import read
from training.data.source import Source
from training.recipes import ClassifierRecipe, Recipe
from training.run_folder import RunFolder
from training.streams import Streams
from training.task import Batch

TOGETHER = 256  # images that pass the network at once
ACCURACY = "accuracy.json"


class Block(nn.Module):
    """x + what two convolutions make of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(channels, channels), _convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class Classifier(nn.Module):
    """Pixels in [-1, 1] to logits. Groups are normalised, not batches: an image's features are its own."""

    def __init__(self, recipe: ClassifierRecipe, classes: int) -> None:
        super().__init__()
        wide = recipe.channels
        layers: list[nn.Module] = [nn.Conv2d(recipe.shape[0], wide[0], 3, padding=1)]
        for i, channels in enumerate(wide):
            if i:
                layers.append(_convolution(wide[i - 1], channels, stride=2))
            layers += [Block(channels) for _ in range(recipe.layers)]
        self.body = nn.Sequential(*layers)
        self.gather = nn.Linear(wide[-1] * _side(recipe) ** 2, recipe.features)
        self.dropout, self.head = nn.Dropout(recipe.dropout), nn.Linear(recipe.features, classes)

    def features(self, x: Tensor) -> Tensor:
        """[n, d]: the last layer but one, each image's brought to mean 0 and variance 1.

        So KID's x . y / d is a cosine, whatever the scale that training has found.
        """
        gathered = F.silu(self.gather(self.body(x).flatten(1)))
        return F.layer_norm(gathered, gathered.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(x)))


def _convolution(channels: int, out: int, stride: int = 1) -> nn.Module:
    normal = nn.GroupNorm(1, channels)
    return nn.Sequential(normal, nn.SiLU(), nn.Conv2d(channels, out, 3, stride=stride, padding=1))


def _side(recipe: ClassifierRecipe) -> int:
    """Height and width of the coarsest resolution."""
    side = recipe.size
    for _ in recipe.channels[1:]:
        side = (side + 1) // 2
    return side


class Labelled:
    """What the loop needs of a classifier recipe."""

    def __init__(self, recipe: ClassifierRecipe) -> None:
        self.recipe = recipe

    @functools.cached_property
    def source(self) -> Source:
        """The images it learns from; ValueError, in one line, if they are not labelled or there are no others."""
        source = learned_from(self.recipe)
        self._check_labels(source, self.recipe.split)
        return source

    @functools.cached_property
    def held_out(self) -> Source:
        """The images that its accuracy is told of."""
        source = held_out(self.recipe)
        self._check_labels(source, "held-out")
        return source

    @functools.cached_property
    def classes(self) -> int:
        return max(self.source.classes, self.held_out.classes)

    def _check_labels(self, source: Source, which: str) -> None:
        if not source.classes:
            raise ValueError(f"{self.recipe.data} {self.recipe.path} has no {which} labels: a classifier needs them")

    def facts(self) -> dict[str, Any]:
        """The data's fingerprint, and how many classes they and the held-out images have together."""
        return {"data": self.source.fingerprint, "classes": self.classes}

    def network(self) -> Classifier:
        return Classifier(self.recipe, self.classes)

    def batch(self, n: int, streams: Streams) -> Batch:
        """This share's next n images in the run's order, and their labels."""
        images, indices = read(self.source, n, streams, self.recipe.flip, self.recipe.shift)
        return pixels.to_model(images), self.source.labels(indices)

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        """Mean cross-entropy in nats."""
        x, labels = batch
        return F.cross_entropy(network(x).float(), labels)

    def preview(self, network: nn.Module, folder: RunFolder) -> Path:
        """confusion.png in the run folder, and accuracy.json: how the held-out images fare."""
        confusion = self.confusion(network)
        right, n = int(confusion.trace()), int(confusion.sum())
        report = {"accuracy": right / n, "images": n}
        durable.replace(folder.path / ACCURACY, json.dumps(report).encode())
        title = f"{self.recipe.name}: {right} of {n} held-out images right, {right / n:.2%}"
        return draw.confusion(confusion, folder.path / "confusion.png", title)

    @torch.no_grad()
    def confusion(self, network: nn.Module) -> Tensor:
        """How many held-out images of each class (rows) are taken for which (columns): int64 [classes, classes]."""
        counts = torch.zeros(self.classes, self.classes, dtype=torch.int64)
        device = next(network.parameters()).device
        for indices in torch.arange(len(self.held_out)).split(TOGETHER):
            told = network(pixels.to_model(self.held_out.images(indices)).to(device)).argmax(1).cpu()
            counts.index_put_((self.held_out.labels(indices), told), torch.tensor(1), accumulate=True)
        return counts


@torch.no_grad()
def features(network: Classifier, images: Tensor) -> Tensor:
    """The features of images, uint8 [n, channels, height, width]: float64 [n, features]."""
    device = next(network.parameters()).device
    parts = [network.features(pixels.to_model(part).to(device)).double().cpu() for part in images.split(TOGETHER)]
    return torch.cat(parts)


def build(recipe: Recipe) -> Labelled:
    """The family's entry, for the loop."""
    if not isinstance(recipe, ClassifierRecipe):
        raise TypeError(f"{recipe.name} is a {type(recipe).__name__}: expected a ClassifierRecipe")
    return Labelled(recipe)
