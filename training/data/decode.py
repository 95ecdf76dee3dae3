"""One encoded image to pixels of a wanted size: scaled until its shorter side fits, then cropped about its centre.

What would have to be guessed is refused, by name and in one line: transparency (on which background?), CMYK (in which
ink?), more than 8 bits a channel, several frames, and images smaller than asked for (which would be blurred up).
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")
MAX_PIXELS = 2**26  # 67 million: more is taken for a decompression bomb
MODES = {1: "L", 3: "RGB"}
OPAQUE = ("1", "L", "P", "RGB")
PNG_DEPTH = 24  # where a PNG says how many bits a channel has

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # Pillow's own, laxer limit


def decode(data: bytes, name: str, channels: int, size: int) -> Tensor:
    """uint8 [channels, size, size]; ValueError, naming the image, if it is broken or would need a guess."""
    image = head(data, name, size)
    try:
        image.load()
    except Exception as error:  # torn data make Pillow's decoders raise anything
        raise ValueError(f"{name} is torn or broken: {' '.join(str(error).split())[:100]}") from None
    image = _opaque(ImageOps.exif_transpose(image), name).convert(MODES[channels])
    fitted = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC) if image.size != (size, size) else image
    pixels = np.array(fitted, dtype=np.uint8).reshape(size, size, channels)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def head(data: bytes, name: str, size: int) -> Image.Image:
    """The image as its head tells it, its pixels not read yet; ValueError for what no decoding would mend."""
    if not data:
        raise ValueError(f"{name} is empty: 0 bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"{name} is no image in one of the formats {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{name} has more than {MAX_PIXELS} pixels: refused as a decompression bomb") from None
    except Exception as error:
        raise ValueError(f"{name} is torn or broken: {' '.join(str(error).split())[:100]}") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} has {width} x {height} pixels: refused as a decompression bomb")
    if min(width, height) < size:
        raise ValueError(f"{name} has {width} x {height} pixels, size = {size}: leave it out, or choose a smaller size")
    if getattr(image, "n_frames", 1) > 1:
        raise ValueError(f"{name} has several frames: expected one")
    if image.mode[0] in "IF" or (image.format == "PNG" and data[PNG_DEPTH] > 8):
        raise ValueError(f"{name} has more than 8 bits a channel: convert it to 8 bits first")
    return image


def _opaque(image: Image.Image, name: str) -> Image.Image:
    """The image without its alpha channel, which has to be opaque everywhere."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image)[..., 3].min() < 255:
            raise ValueError(f"{name} is transparent in places: flatten it onto a background first")
        return image.convert("RGB")
    if image.mode not in OPAQUE:
        raise ValueError(f"{name} has colour mode {image.mode}: convert it to grey or RGB first")
    return image
