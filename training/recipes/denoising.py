"""Settings of a denoiser of pixels or latents: its network, what that predicts, and at which times it learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from training.recipes.noised import NoisedRecipe
from training.recipes.settings import Between, Count, Fraction, Natural, Positive

Real = Annotated[float, Between(-1e300, 1e300)]
MOST_CLASSES = 1000  # DiT's table of labels is of this length; its entry 1000 says "not told"


@dataclass(frozen=True)
class DenoisingRecipe(NoisedRecipe):
    """What recipes of convolutional and transformer denoisers share, whatever they denoise; for small grey images."""

    classes: Natural = 0
    """How many labels the network is told; 0: it is told none."""
    label_dropout: Fraction = 0.1
    """How often a label is withheld, so that guidance has its unconditional model."""

    network: Literal["unet", "dit"] = "unet"
    """A convolutional U-Net or a diffusion transformer."""
    channels: tuple[Count, ...] = (32, 64)
    """unet: of each resolution, the finest first, each half as fine as the one before; dit: one number, its width."""
    layers: Count = 2
    """unet: residual blocks of each resolution; dit: transformer blocks."""
    attention: tuple[bool, ...] = (False, True)
    """unet: whether each resolution attends, the finest first; a dit does everywhere."""
    head: Count = 32
    """Channels of one attention head."""
    patch: Count = 2
    """dit: height and width of a patch, in pixels or latents."""
    dropout: Fraction = 0.0
    """How often a feature is set to 0 in training."""

    preconditioning: Literal["none", "unit", "edm"] = "unit"
    """What stands around the network: nothing, factors that bring its input and target to unit variance, or EDM's
    (training/preconditioning.py)."""
    std: Positive = 0.5
    """Standard deviation of the data, as preconditioning and samplers take it (EDM's sigma_data)."""

    times: Literal["uniform", "chain", "lognormal", "logit_normal"] = "uniform"
    """The law that training draws times from (training/times.py)."""
    times_mean: Real | None = None
    """Mean of a normal law of times; as in the paper that it comes from when left out."""
    times_std: Positive | None = None
    """Standard deviation of a normal law of times; as in the paper that it comes from when left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes > MOST_CLASSES:
            raise ValueError(f"classes = {self.classes}: expected at most {MOST_CLASSES}")
        if self.preconditioning == "edm" and self.parameterization != "x0":
            raise ValueError(
                f"preconditioning = 'edm', parameterization = {self.parameterization!r}: expected 'x0', which is what "
                f"EDM's denoiser predicts"
            )
        (self._check_unet if self.network == "unet" else self._check_dit)()

    def idle(self) -> dict[str, str]:
        vain = {} if self.classes else {"label_dropout": "classes > 0"}
        if self.network == "unet":
            vain["patch"] = "network = 'dit'"
        if not self.times.endswith("normal"):
            vain |= dict.fromkeys(("times_mean", "times_std"), "times = 'lognormal' or 'logit_normal'")
        return super().idle() | vain

    def _check_unet(self) -> None:
        if len(self.attention) != len(self.channels):
            raise ValueError(
                f"attention = {self.attention}, channels = {self.channels}: expected one of each for every resolution"
            )
        attending = [channels for channels, attends in zip(self.channels, self.attention, strict=True) if attends]
        for channels in (
            *attending,
            self.channels[-1],
        ):  # between the way down and the way up there always is attention
            if channels % self.head:
                raise ValueError(f"channels = {channels}, head = {self.head}: expected a multiple of head")

    def _check_dit(self) -> None:
        if len(self.channels) != 1:
            raise ValueError(f"channels = {self.channels}: expected one number, the width of a dit")
        if self.channels[0] % self.head:
            raise ValueError(f"channels = {self.channels[0]}, head = {self.head}: expected a multiple of head")

    def check_size(self, size: int) -> None:
        """ValueError unless the network can work on size x size."""
        if self.network == "dit" and size % self.patch:
            raise ValueError(f"size = {size}, patch = {self.patch}: expected patches to fill the image")
        halved = 2 ** (len(self.channels) - 1)
        if self.network == "unet" and size % halved:
            raise ValueError(
                f"size = {size}: expected a multiple of {halved}, as a unet of {len(self.channels)} resolutions "
                f"divides it by {halved}"
            )
