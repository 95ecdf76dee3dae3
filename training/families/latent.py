"""The latent family: autoencoders (autoencoders.py, quantised.py), and denoisers in the space of a finished one.

A denoiser's data are z = k (mu + s eps), with mu and s the encoder's for an image and k the scale that makes their
variance 1. They are made once, before the first step, and kept in the run's folder; k is part of the network's state,
so that samples can be decoded wherever its weights are.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffusion.latent import scale_factor
from training import launch, recipes, runs, sampling
from training.autoencoders import Autoencoder, Autoencoding
from training.data import pixels
from training.data.reading import read
from training.data.source import Memory, Source
from training.families.denoising import Denoising
from training.quantised import Quantising
from training.recipes import Recipe
from training.recipes.latent import AutoencoderRecipe, LatentRecipe
from training.run_folder import RunFolder
from training.streams import Streams
from training.task import Batch

LATENTS = "latents.safetensors"


class Latent(Denoising):
    """A denoiser in the code of an autoencoder; it has batches once it was given their table."""

    recipe: LatentRecipe
    table = LATENTS
    latents: Memory  # [mu, s] of each image, float32 [N, 2 channels, height, width], and its label if it has one

    def __init__(self, recipe: LatentRecipe, folder: RunFolder) -> None:
        assert isinstance(folder.recipe, AutoencoderRecipe)
        recipe.check_size(folder.recipe.code[1])
        super().__init__(recipe, folder.recipe.code)
        self.folder, self.pixels = folder, autoencoding(folder.recipe)
        network = runs.trained_network(folder, self.pixels)
        assert isinstance(network, Autoencoder)
        self.autoencoder = network
        self.scale = torch.tensor(torch.nan)  # k, known once the latents or a network's weights have been read

    def parts(self) -> Sequence[Tensor]:
        """All images, and once more mirrored, as images of their own, if the autoencoder has seen any so."""
        n = len(self.source) * (2 if self.pixels.recipe.flip else 1)
        return torch.arange(n).split(sampling.sizes(n, self.source.shape))

    @torch.no_grad()
    def make(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """The moments of their latents, and their labels if the network is told any."""
        images, device = rows % len(self.source), launch.join().device
        x = pixels.to_model(self.source.images(images)).to(device)
        mirrored = (rows >= len(self.source)).to(device)[:, None, None, None]
        moments = self.autoencoder.to(device).encode(torch.where(mirrored, x.flip(-1), x))
        labels = {"labels": self.source.labels(images)} if self.classes else {}
        return {"moments": torch.cat(moments, dim=1).cpu()} | labels

    def take(self, table: dict[str, Tensor]) -> None:
        self.latents = Memory(table["moments"], table.get("labels"), self.recipe.classes)
        mu, s = self.latents.pixels.chunk(2, dim=1)
        self.scale = scale_factor(mu.var(correction=0) + s.square().mean())

    @functools.cached_property
    def source(self) -> Source:
        """The autoencoder's images; ValueError if this recipe can't be trained on them."""
        source = self.pixels.source
        if self.classes not in (0, source.classes):
            found = f"{source.classes} classes" if source.classes else "no labels"
            raise ValueError(f"classes = {self.classes}: the images of {self.recipe.autoencoder} have {found}")
        return source

    def facts(self) -> dict[str, Any]:
        """The latents' fingerprint, and the autoencoder's recipe and weights."""
        weights = hashlib.sha256(self.folder.ema.read_bytes()).hexdigest()
        return {
            "latents": self.latents.fingerprint,
            "autoencoder": f"{recipes.fingerprint(self.folder.recipe)} {weights}",
        }

    def network(self) -> nn.Module:
        """The denoiser's network; k is a buffer of it, which weights that are read into it set."""
        network = super().network()
        self.scale = self.scale.clone()
        network.register_buffer("latent_scale", self.scale)
        return network

    def batch(self, n: int, streams: Streams) -> Batch:
        """This share's next n latents in the run's order, with times and labels."""
        moments, indices = read(self.latents, n, streams)
        mu, s = moments.chunk(2, dim=1)
        z = self.scale.cpu() * (mu + s * torch.randn(mu.shape, generator=streams("latent", "cpu")))
        return self.timed(z, self.latents.labels(indices) if self.classes else None, streams)

    @torch.no_grad()
    def as_data(self, drawn: Tensor) -> Tensor:
        """uint8 pixels: the decoder's."""
        model = self.autoencoder.to(drawn.device).model
        parts = (drawn / self.scale.to(drawn)).split(sampling.sizes(len(drawn), self.pixels.recipe.shape))
        return pixels.to_uint8(torch.cat([model.decode(part).sample for part in parts]))


def autoencoding(recipe: AutoencoderRecipe) -> Autoencoding:
    """Its autoencoder's kind at work."""
    return {"kl": Autoencoding, "vq": Quantising}[recipe.kind](recipe)


def build(recipe: Recipe) -> Latent | Autoencoding:
    """The family's entry, for the loop."""
    if isinstance(recipe, AutoencoderRecipe):
        return autoencoding(recipe)
    if not isinstance(recipe, LatentRecipe):
        raise TypeError(f"{recipe.name} is a {type(recipe).__name__}: expected an AutoencoderRecipe or a LatentRecipe")
    if not recipe.autoencoder:
        raise ValueError(f"{recipe.name} needs an autoencoder: the folder of a finished run of latent.autoencoder")
    try:
        folder = runs.finished(recipe.autoencoder)
        if not isinstance(folder.recipe, AutoencoderRecipe):
            raise ValueError(f"{recipe.autoencoder} is a run of {folder.recipe.name}")
    except ValueError as error:
        raise ValueError(f"autoencoder: {error}") from None
    return Latent(recipe, folder)
