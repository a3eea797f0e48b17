"""From the bytes of one image file to a square RGB array."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from malaria_diffusion.cells.marking import says_trained

# 4096 x 4096; a cell crop is four orders of magnitude smaller, a decompression bomb larger
MAX_PIXELS = 2**24
# what cameras and file formats store grey levels in
BITS = (8, 10, 12, 14, 16)
PHANTOM_KEY = "phantom"
# what a PNG file that a model has made says of itself
SOURCE_KEY, SYNTHETIC = "Source", "synthetic"


class RejectedImage(ValueError):  # noqa: N818  (not a failure: the image is listed and skipped)
    """The image cannot be used; the message is the reason listed in `rejected_cells`."""


class Decoded(NamedTuple):
    """One image, ready for the memory map.

    Attributes:
        pixels: uint8, (3, S, S), RGB.
        width: Original width in pixels, upright.
        height: Original height in pixels, upright.
        bits: The first of `BITS` that hold every grey level of the file; 8 but for 16-bit greyscale.
        phantom: Whether the file says that it was drawn and not photographed.
        synthetic: Whether it says that a model has made it.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    bits: int
    phantom: bool
    synthetic: bool


def decode(
    data: bytes,
    size: int,
    background: tuple[int, int, int] = (0, 0, 0),
    common_side: int | None = None,
    bits: int = 16,
) -> Decoded:
    """Decode, pad to a square and resize.

    The whole image stays in the frame and keeps its aspect ratio: it is centred on a square of background
    colour before an antialiased (bicubic) resize.

    Args:
        data: File content in any format Pillow reads; grey, palette, alpha and 16-bit images included.
        size: Side S of the result in pixels.
        background: RGB colour around the object and under transparent pixels, 0 to 255.
        common_side: Side in original pixels of the square that becomes S x S. None: each image's own larger
            side, so that it fills the frame. A number: the same for all, so that sizes stay comparable.
        bits: Of 16-bit greyscale those in use: 2^bits - 1 becomes 255, and what is brighter too.

    Raises:
        RejectedImage: the bytes are empty, unreadable, too large, too thin, or show nothing but background.
    """
    if not data:
        raise RejectedImage("empty file")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            width, height = opened.size
            if max(width, height) ** 2 > MAX_PIXELS:  # what it has once padded
                raise RejectedImage(f"too large: {width} x {height} pixels, at most {MAX_PIXELS:,} once square")
            if opened.format == "EPS":  # Pillow would run it
                raise RejectedImage("EPS is a program, not an image")
            phantom = PHANTOM_KEY in opened.info
            synthetic = opened.info.get(SOURCE_KEY) == SYNTHETIC or says_trained(opened.info)
            ImageOps.exif_transpose(opened, in_place=True)
            width, height = opened.size
            found = _bits_of(opened)
            image = _to_rgb(opened, background, bits)
    except RejectedImage:
        raise
    except Image.DecompressionBombError as error:
        raise RejectedImage(f"too large: {error}") from error
    except UnidentifiedImageError as error:
        raise RejectedImage("not an image") from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged data
        raise RejectedImage(f"unreadable: {error}") from error

    if image.getextrema() == tuple((value, value) for value in background):
        raise RejectedImage("nothing but background")
    return Decoded(fit(image, size, background, common_side), width, height, found, phantom, synthetic)


def fit(
    image: Image.Image, size: int, background: tuple[int, int, int] = (0, 0, 0), common_side: int | None = None
) -> NDArray[np.uint8]:
    """Centre an RGB image on a square of background colour and resize it.

    Args:
        image: In Pillow's mode RGB.
        size: See `decode`.
        background: See `decode`.
        common_side: See `decode`.

    Returns:
        uint8, (3, size, size).

    Raises:
        RejectedImage: the image is larger than `common_side`, or would be thinner than one pixel.
    """
    side = max(image.size)
    if common_side is not None:
        if side > common_side:
            raise RejectedImage(f"larger than common_side: {side} px, at most {common_side} px")
        side = common_side
    if min(image.size) * size < side:
        raise RejectedImage(f"too thin: {image.width} x {image.height} pixels, less than one of {size} once resized")
    if image.size != (side, side):
        canvas = Image.new("RGB", (side, side), background)
        canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = canvas
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def _bits_of(image: Image.Image) -> int:
    if not image.mode.startswith("I;16"):
        return 8
    top = int(np.asarray(image).max())
    return next(bits for bits in BITS if top < 2**bits)


def _to_rgb(image: Image.Image, background: tuple[int, int, int], bits: int) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow's own conversion would clip at 255
        top = 2**bits - 1
        levels = np.minimum(np.asarray(image), top).astype(np.uint32) * 255 // top
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.mode in {"I", "F"}:
        raise RejectedImage(f"32-bit greyscale (mode {image.mode}) has no known range: store it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        base = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(base, image).convert("RGB")
    return image.convert("RGB")
