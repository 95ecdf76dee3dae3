"""The image recipes: denoisers of pixels, unconditional or told the class."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.recipes.base import Recipe
from training.recipes.denoising import DenoisingRecipe
from training.recipes.pixels import PixelRecipe


@dataclass(frozen=True)
class ImageRecipe(PixelRecipe, DenoisingRecipe):
    """A denoiser of the pixels of a data set, scaled to [-1, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_size(self.size)


DIGITS = ImageRecipe(
    name="images.digits-unet",
    std=0.75,
    layers=1, steps=1000, batch=128, lr=2e-3, log_every=25, save_every=500,
)  # fmt: skip

FASHION_UNET = ImageRecipe(
    name="images.fashion-unet",
    data="fashion-mnist", size=28, std=0.71, log_every=25, save_every=500,
    channels=(16, 32, 64), layers=1, attention=(False, False, True),
    steps=6000, batch=64, lr=2e-3,
)  # fmt: skip

FASHION_DIT = ImageRecipe(
    name="images.fashion-dit",
    data="fashion-mnist", size=28, std=0.71, log_every=25, save_every=500,
    classes=10, network="dit", channels=(192,), layers=6, attention=(True,), patch=4,
    steps=20_000, batch=64, lr=1e-3,
)  # fmt: skip

# Ho et al. 2020, appendix B: 35.7 M parameters, channels 128 x (1, 2, 2, 2), two blocks a resolution, attention at 16 x
# 16, dropout 0.1, Adam 2e-4, batch 128, 800 k steps, warm-up over 5000, gradients cut to norm 1, mirrored images, 1000
# steps of linear betas, eps with its plain squared error. Their EMA of decay 0.9999 looks back over 10^4 steps, 1/80 of
# the run: a relative width of 0.0125.
CIFAR10_UNET = ImageRecipe(
    name="images.cifar10-unet",
    data="cifar10", colour="rgb", size=32, std=0.5, flip=True,
    channels=(128, 256, 256, 256), layers=2, attention=(False, True, False, False), head=256, dropout=0.1,
    parameterization="eps", schedule="ddpm_linear", preconditioning="none", weights="plain", times="chain",
    latest=1 - 1e-6,
    steps=800_000, batch=128, lr=2e-4, lr_decay="constant", warmup=5000 / 800_000, beta2=0.999, ema=(0.0125,),
    log_every=100, save_every=10_000,
)  # fmt: skip

# Karras et al. 2022, tables 1 and 7 (DDPM++ of Song et al. 2021): channels 128 x (2, 2, 2), four blocks a resolution,
# attention at 16 x 16, dropout 0.13, Adam 1e-3, batch 512, 200 M images, ln sigma ~ N(-1.2, 1.2^2), sigma_data 0.5,
# EMA of half-life 0.5 M images: it looks back over 0.5/(200 ln 2) = 0.0036 of the run. Their augmentation (geometric
# transforms in 12 % of the images, which the network is told of) is not part of this suite; mirroring stands for it.
# Their gradients are not cut to a norm; where they replace entries that are not finite, a step is skipped here.
CIFAR10_EDM = ImageRecipe(
    name="images.cifar10-edm",
    data="cifar10", colour="rgb", size=32, std=0.5, flip=True,
    channels=(256, 256, 256), layers=4, attention=(False, True, False), head=256, dropout=0.13,
    parameterization="x0", schedule="edm", preconditioning="edm", times="lognormal",
    earliest=1e-6, latest=1 - 1e-6,
    steps=390_625, batch=512, lr=1e-3, lr_decay="constant", warmup=0.05, beta2=0.999, clip=math.inf, ema=(0.0036,),
    log_every=100, save_every=10_000,
)  # fmt: skip

FOLDER = ImageRecipe(
    name="images.folder",
    data="folder", colour="rgb", size=64, std=0.5,
    channels=(64, 128, 192, 256), layers=2, attention=(False, False, True, True), head=64,
    steps=100_000, batch=64, lr=3e-4, log_every=100, save_every=2000,
)  # fmt: skip

IMAGES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (DIGITS, FASHION_UNET, FASHION_DIT, CIFAR10_UNET, CIFAR10_EDM, FOLDER)
}
