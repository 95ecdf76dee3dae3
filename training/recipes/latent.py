"""The latent recipes: an autoencoder of images, and denoisers of what it makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.recipes.base import Recipe
from training.recipes.denoising import DenoisingRecipe
from training.recipes.pixels import PixelRecipe
from training.recipes.settings import Count, Interior, NotNegative, Positive, Several


@dataclass(frozen=True)
class AutoencoderRecipe(PixelRecipe):
    """A convolutional autoencoder; each resolution after the first is half as fine.

    kl   a Gaussian code                 AutoencoderKL, training/autoencoders.py
    vq   a code of a codebook's entries  VQModel, training/quantised.py
    """

    kind: Literal["kl", "vq"] = "kl"
    """A Gaussian code, or one of a codebook's entries."""
    codes: Several = 256
    """vq: entries of the codebook."""
    channels: tuple[Count, ...] = (32, 64)
    """Of each resolution, the finest first, each half as fine as the one before."""
    layers: Count = 1
    """Residual blocks of each resolution."""
    attention: bool = False
    """Attend in the middle, at the coarsest resolution."""
    latents: Count = 4
    """Channels of the code."""
    noise: Positive = 0.1
    """Standard deviation of a pixel about its reconstruction, on [-1, 1]."""
    beta: NotNegative = 1.0
    """Weight of kl's divergence (1: the loss is a bound on -log p), or of vq's quantisation error."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % self.reduction:
            raise ValueError(
                f"size = {self.size}: expected a multiple of {self.reduction}, as {len(self.channels)} resolutions "
                f"divide it by {self.reduction}"
            )

    def idle(self) -> dict[str, str]:
        return super().idle() | ({} if self.kind == "vq" else {"codes": "kind = 'vq'"})

    @property
    def reduction(self) -> int:
        """Pixels to a latent, along one side."""
        return 2 ** (len(self.channels) - 1)

    @property
    def code(self) -> tuple[int, int, int]:
        """(channels, height, width) of the latents."""
        side = self.size // self.reduction
        return (self.latents, side, side)


@dataclass(frozen=True)
class LatentRecipe(DenoisingRecipe):
    """A denoiser of latents that are scaled to variance 1: std = 1, where `unit` and no preconditioning are the same.

    Its data are those of the autoencoder's run.
    """

    autoencoder: str = ""
    """Folder of a finished run of latent.autoencoder, from the working directory."""
    preconditioning: Literal["none", "unit", "edm"] = "none"
    std: Positive = 1.0
    latest: Interior = 1 - 1e-6


AUTOENCODER = AutoencoderRecipe(
    name="latent.autoencoder",
    data="fashion-mnist", size=28,
    steps=5000, batch=64, lr=1e-3, log_every=25, save_every=500,
)  # fmt: skip

UNET = LatentRecipe(
    name="latent.unet",
    channels=(64, 96), layers=1, attention=(False, True),
    steps=20_000, batch=64, lr=1e-3, log_every=25, save_every=500,
)  # fmt: skip

DIT = LatentRecipe(
    name="latent.dit",
    classes=10, network="dit", channels=(192,), layers=6, attention=(True,), patch=2,
    steps=20_000, batch=64, lr=1e-3, log_every=25, save_every=500,
)  # fmt: skip

LATENTS: dict[str, Recipe] = {recipe.name: recipe for recipe in (AUTOENCODER, UNET, DIT)}
