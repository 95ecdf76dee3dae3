r"""An autoencoder whose code is made of entries of a codebook (van den Oord et al. 2017, eq. 3).

    loss = -log N(x; decoder(e), noise^2) + beta (|sg(z) - e|^2 + |z - sg(e)|^2/4)/(2 noise^2),    z = encoder(x)

with e the entry nearest to z, place by place, and sg what no gradient goes through; the decoder's goes on from e to z
as it is. Squares are means over what they are of, so that with beta = 1 code and pixels are told alike how much they
err. A denoiser of latents learns z, and the decoder takes what it draws to the nearest entries.

diffusers' entries begin within 1/codes of 0, where all that an encoder first says is far away and nearest to the same
few: the others are never moved. They begin as standard normal here, which is the size of what is said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from training import draw, sampling
from training.autoencoders import Autoencoder, Autoencoding
from training.data import pixels
from training.run_folder import RunFolder
from training.streams import Streams
from training.task import Batch

COUNTED = 4096  # images whose entries are counted for the report


class Quantised(Autoencoder):
    """VQModel as x -> (reconstruction, its quantiser's squares)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        decoded = self.model.decode(self.encode(x)[0])
        return decoded.sample, decoded.commit_loss

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(z, 0): the code before it is quantised, without noise."""
        z = self.model.encode(x).latents
        return z, torch.zeros_like(z)

    def entries(self, x: Tensor) -> Tensor:
        """The numbers of the entries that x is made of, flat."""
        return self.model.quantize(self.encode(x)[0])[2][2]


class Quantising(Autoencoding):
    """What the loop needs of its recipe."""

    def network(self) -> Autoencoder:
        from diffusers import VQModel

        model: Any = VQModel(**self.architecture(), num_vq_embeddings=self.recipe.codes)
        model.quantize.legacy = False  # which had beta, 1/4, at the other square
        nn.init.normal_(model.quantize.embedding.weight)
        return Quantised(model)

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        """A pixel's, nats."""
        (x,) = batch
        decoded, squares = (tensor.float() for tensor in network(x))
        return self.missed(x, decoded) + self.recipe.beta * squares / (2 * self.recipe.noise**2)

    @torch.no_grad()
    def use(self, network: Quantised) -> Tensor:
        """How often each entry occurs in the first images of the data, [codes]."""
        device, n = next(network.parameters()).device, min(COUNTED, len(self.source))
        parts = torch.arange(n).split(sampling.sizes(n, self.recipe.shape))
        named = (network.entries(pixels.to_model(self.source.images(part)).to(device)) for part in parts)
        return torch.cat(list(named)).bincount(minlength=self.recipe.codes).cpu()

    def preview(self, network: nn.Module, folder: RunFolder) -> Path:
        """samples.png, and codebook.png: how many of the entries are used, and how evenly."""
        assert isinstance(network, Quantised)
        counts = self.use(network)
        perplexity = Categorical(counts / counts.sum()).perplexity()
        title = f"{int((counts > 0).sum())} of {len(counts)} entries used, perplexity {perplexity:.1f}"
        draw.shares(counts / counts.sum(), folder.path / "codebook.png", title)
        return super().preview(network, folder)
