"""Handwritten digits that come with scikit-learn: 1797 grey images of 8 x 8 (Alpaydin & Kaynak 1998), ten classes.

Their values k = 0..16 count black pixels in a 4 x 4 block; k becomes the pixel (255 k + 8) // 16, so that 0 is 0 and 16
is 255. The data come in one piece: every sixth image is `test` (300 of them), the others are `train`.
"""

from __future__ import annotations

import torch

from training.data.source import Memory

TEST_EVERY = 6


def digits(split: str) -> Memory:
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = (255 * torch.tensor(data.images, dtype=torch.int64) + 8) // 16
    test = torch.arange(len(pixels)) % TEST_EVERY == 0
    kept = test if split == "test" else ~test
    return Memory(pixels[kept].byte().unsqueeze(1), torch.tensor(data.target, dtype=torch.int64)[kept], 10)
