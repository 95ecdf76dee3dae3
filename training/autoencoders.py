r"""An autoencoder of images, as a task: Gaussian code, Gaussian pixels, and the bound between them.

    loss = -E log N(x; decoder(z), noise^2) + beta KL(N(mu, s^2) || N(0, 1)),    z = mu + s eps = encoder(x)

per pixel of x, in nats: with beta = 1 the evidence bound on -log p(x) (Kingma & Welling 2014, eq. 3; vae.beta_bound is
its linear case, whose latents of variance below beta noise^2 die).
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion.gaussian import kl_standard_normal, log_normal
from training import draw
from training.data import pixels
from training.data.catalog import learned_from
from training.data.reading import read
from training.data.source import Source
from training.recipes.latent import AutoencoderRecipe
from training.run_folder import RunFolder
from training.streams import Streams
from training.task import Batch

SHOWN = 10  # images in a preview


class Autoencoder(nn.Module):
    """An autoencoder of diffusers; `model` is the diffusers model itself."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(mu, s) of the code, each [n, *code]."""
        raise NotImplementedError

    def back(self, x: Tensor) -> Tensor:
        """What comes back of x, by way of mu."""
        return self.model.decode(self.encode(x)[0]).sample


class Gaussian(Autoencoder):
    """AutoencoderKL as (x, eps) -> (reconstruction, mu, s)."""

    def forward(self, x: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, s = self.encode(x)
        return self.model.decode(mu + s * eps).sample, mu, s

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        law = self.model.encode(x).latent_dist
        return law.mean, law.std


class Autoencoding:
    """What the loop needs of an autoencoder's recipe; here one whose code is Gaussian."""

    def __init__(self, recipe: AutoencoderRecipe) -> None:
        self.recipe = recipe

    @functools.cached_property
    def source(self) -> Source:
        return learned_from(self.recipe)

    def facts(self) -> dict[str, Any]:
        """The data's fingerprint."""
        return {"data": self.source.fingerprint}

    def network(self) -> Autoencoder:
        from diffusers import AutoencoderKL

        return Gaussian(AutoencoderKL(**self.architecture()))

    def architecture(self) -> dict[str, Any]:
        """What diffusers' autoencoders are told alike."""
        r = self.recipe
        return {
            "in_channels": r.shape[0],
            "out_channels": r.shape[0],
            "down_block_types": ("DownEncoderBlock2D",) * len(r.channels),
            "up_block_types": ("UpDecoderBlock2D",) * len(r.channels),
            "block_out_channels": r.channels,
            "layers_per_block": r.layers,
            "latent_channels": r.latents,
            "norm_num_groups": math.gcd(32, *r.channels, *(c // 4 for c in r.channels)),
            "sample_size": r.size,
            "mid_block_add_attention": r.attention,
        }

    def batch(self, n: int, streams: Streams) -> Batch:
        """This share's next n images in the run's order."""
        return (pixels.to_model(read(self.source, n, streams, self.recipe.flip, self.recipe.shift)[0]),)

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        """The bound a pixel, nats."""
        (x,) = batch
        eps = torch.randn(len(x), *self.recipe.code, generator=streams("noise"), device=x.device)
        decoded, mu, s = (tensor.float() for tensor in network(x, eps))
        return self.missed(x, decoded) + self.recipe.beta * kl_standard_normal(mu, s).sum() / x.numel()

    def missed(self, x: Tensor, decoded: Tensor) -> Tensor:
        """-log N(x; decoded, noise^2) a pixel."""
        return -log_normal(x, decoded, torch.tensor(self.recipe.noise**2, device=x.device)).mean()

    @torch.no_grad()
    def preview(self, network: nn.Module, folder: RunFolder) -> Path:
        """samples.png in the run folder: a row of images, and below it what comes back of them."""
        x = pixels.to_model(self.source.images(torch.arange(min(SHOWN, len(self.source)))))
        assert isinstance(network, Autoencoder)
        back = network.back(x.to(next(network.parameters()).device)).cpu()
        both, rows = pixels.to_uint8(torch.cat([x, back])), torch.tensor([0, 1]).repeat_interleave(len(x))
        return draw.grid(both, folder.path / "samples.png", rows, ("images", "decoded"))
