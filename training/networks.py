"""Networks of diffusers, made from a recipe; `Stock.model` is the diffusers model itself, as an export wants it.

A stock model counts time by the steps 0 .. 999 of a chain: our t = k/T is its timestep k - 1 = T t - 1. A label "not
told" has a number of its own: in a U-Net the one after the last class, in a DiT 1000, as the stock pipeline has it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from training.recipes.denoising import MOST_CLASSES, DenoisingRecipe
from training.times import T


class Stock(nn.Module):
    """A diffusers model as (x, t, label) -> output; no label, or `unlabelled`, tells it nothing.

    `chain` is the number of steps in which the model counts time; None: it is given t as it is.
    """

    def __init__(self, model: nn.Module, unlabelled: int | None, chain: int | None = T) -> None:
        super().__init__()
        self.model, self.unlabelled, self.chain = model, unlabelled, chain

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        timestep = (t if self.chain is None else step_of(t, self.chain)).to(x).expand(len(x))
        if label is None:
            if self.unlabelled is None:
                return self.model(x, timestep).sample
            label = torch.full((len(x),), self.unlabelled, device=x.device)
        return self.model(x, timestep, class_labels=label).sample


def step_of(t: Tensor, T: int) -> Tensor:
    """T t - 1; the whole number itself where t is k/T to within its rounding, so that an export says the same."""
    timestep = T * t - 1
    whole = timestep.round()
    return torch.where((timestep - whole).abs() <= T * torch.finfo(t.dtype).eps, whole, timestep)


def make(recipe: DenoisingRecipe, shape: tuple[int, int, int]) -> Stock:
    """The recipe's network for x of this shape, its weights new."""
    chain = None if recipe.preconditioning == "edm" else T  # EDM gives its network c_noise in time's place
    if recipe.network == "dit":
        return Stock(_dit(recipe, shape), unlabelled(recipe), chain)
    return Stock(_unet(recipe, shape), unlabelled(recipe) if recipe.classes else None, chain)


def unlabelled(recipe: DenoisingRecipe) -> int:
    """The label that says "not told"."""
    return MOST_CLASSES if recipe.network == "dit" else recipe.classes


def _unet(recipe: DenoisingRecipe, shape: tuple[int, int, int]) -> nn.Module:
    """Ho et al. 2020's U-Net, whose output layer begins at zero."""
    from diffusers import UNet2DModel

    attends = recipe.attention
    model: Any = UNet2DModel(
        sample_size=shape[1],
        in_channels=shape[0],
        out_channels=shape[0],
        block_out_channels=recipe.channels,
        layers_per_block=recipe.layers,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        attention_head_dim=recipe.head,
        # at least four channels a group: the mean of one channel alone would be lost to every layer
        norm_num_groups=math.gcd(32, *recipe.channels, *(c // 4 for c in recipe.channels)),
        dropout=recipe.dropout,
        num_class_embeds=recipe.classes + 1 if recipe.classes else None,
    )
    nn.init.zeros_(model.conv_out.weight)
    nn.init.zeros_(model.conv_out.bias)
    return model


def _dit(recipe: DenoisingRecipe, shape: tuple[int, int, int]) -> nn.Module:
    """Peebles & Xie 2023's transformer, whose blocks begin as the identity and whose output layer begins at zero."""
    from diffusers import DiTTransformer2DModel

    model: Any = DiTTransformer2DModel(
        sample_size=shape[1],
        in_channels=shape[0],
        out_channels=shape[0],  # said, because DiTPipeline reads it
        patch_size=recipe.patch,
        num_layers=recipe.layers,
        num_attention_heads=recipe.channels[0] // recipe.head,
        attention_head_dim=recipe.head,
        dropout=recipe.dropout,
        num_embeds_ada_norm=MOST_CLASSES,
    )
    zero = [model.proj_out_1, model.proj_out_2, *(block.norm1.linear for block in model.transformer_blocks)]
    for linear in zero:
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    for block in model.transformer_blocks:
        nn.init.normal_(block.norm1.emb.class_embedder.embedding_table.weight, std=0.02)
    return told_all(model)


def told_all(model: Any) -> Any:
    """A DiT that forgets none of its labels by itself: they are withheld by the loss, from all blocks at once."""
    for block in model.transformer_blocks:
        block.norm1.emb.class_embedder.dropout_prob = 0.0
    return model
