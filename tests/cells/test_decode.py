"""Decoding: any sound image file becomes a square of the whole cell, anything else a reason."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from malaria_diffusion.cells.decode import RejectedImage, decode

BACKGROUND = (10, 20, 30)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(width: int = 64, height: int = 64) -> Image.Image:
    y, x = np.mgrid[:height, :width] / 64
    return Image.fromarray(np.stack([60 + 120 * x, 180 - 90 * y, 90 + 50 * x * y], axis=-1).astype(np.uint8))


def disc(width: int, height: int, diameter: int) -> bytes:
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(x - (width - 1) / 2, y - (height - 1) / 2) <= diameter / 2
    return encode(Image.fromarray(np.where(inside, 255, 0).astype(np.uint8)))


def decoded(data: bytes, size: int = 64, **options: object) -> np.ndarray:
    """Height x width x RGB."""
    return decode(data, size, **options).pixels.transpose(1, 2, 0)


def extent(pixels: np.ndarray) -> tuple[int, int]:
    """Height and width of what is brighter than half."""
    bright = pixels.max(axis=-1) > 127
    return tuple(int(np.ptp(np.flatnonzero(bright.any(axis=axis)))) + 1 for axis in (1, 0))


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 8),
        ("JPEG", {"quality": 95}, 8),
    ],
)
def test_formats_give_the_same_pixels(kind, options, tolerance):
    result = decode(encode(smooth(), kind, **options), 64)
    assert result.pixels.dtype == np.uint8
    assert result.pixels.shape == (3, 64, 64)
    assert (result.width, result.height, result.phantom) == (64, 64, False)
    difference = result.pixels.transpose(1, 2, 0).astype(int) - np.asarray(smooth())
    assert np.abs(difference).max() <= tolerance


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_modes_without_alpha_keep_their_colours(mode):
    image = smooth().convert(mode)
    data = encode(image, "TIFF" if mode == "CMYK" else "PNG")
    assert Image.open(io.BytesIO(data)).mode == mode
    assert np.array_equal(decoded(data), np.asarray(image.convert("RGB")))


def alpha_of_a_half() -> np.ndarray:
    alpha = np.full((64, 64), 255, np.uint8)
    alpha[:, :32] = 0
    return alpha


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_show_the_background(mode):
    image = smooth().convert(mode)
    image.putalpha(Image.fromarray(alpha_of_a_half()))
    data = encode(image)
    assert Image.open(io.BytesIO(data)).mode == mode
    pixels = decoded(data, background=BACKGROUND)
    assert (pixels[:, :32] == BACKGROUND).all()
    assert np.array_equal(pixels[:, 32:], np.asarray(image.convert("RGB"))[:, 32:])


def test_half_transparent_pixels_are_mixed_with_the_background():
    pixels = decoded(encode(Image.new("RGBA", (64, 64), (210, 120, 30, 128))), background=BACKGROUND)
    assert np.abs(pixels.astype(int) - [110, 70, 30]).max() <= 1


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_shows_the_background(mode):
    image = Image.new(mode, (64, 64), 7 if mode != "RGB" else (7, 7, 7))
    if mode == "P":
        image.putpalette([value for index in range(256) for value in (index, 255 - index, 200)])
    image.paste(40 if mode != "RGB" else (40, 40, 40), (32, 0, 64, 64))
    data = encode(image, transparency=7 if mode != "RGB" else (7, 7, 7))
    assert Image.open(io.BytesIO(data)).mode == mode
    pixels = decoded(data, background=BACKGROUND)
    assert (pixels[:, :32] == BACKGROUND).all()
    assert (pixels[:, 32:] == ((40, 215, 200) if mode == "P" else (40, 40, 40))).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_range(kind):
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    data = encode(Image.fromarray(ramp), kind)
    assert Image.open(io.BytesIO(data)).mode == "I;16"
    pixels = decoded(data)
    assert np.array_equal(pixels, np.repeat((ramp // 257).astype(np.uint8)[..., None], 3, axis=-1))
    assert (pixels.min(), pixels.max()) == (0, 255)


@pytest.mark.parametrize(("bits", "found"), [(8, 8), (9, 10), (10, 10), (12, 12), (13, 14), (15, 16), (16, 16)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_says_how_many_bits_it_needs_and_keeps_the_range_of_those(kind, bits, found):
    ramp = np.linspace(0, 2**bits - 1, 64 * 64).astype(np.uint16).reshape(64, 64)
    result = decode(encode(Image.fromarray(ramp), kind), 64, bits=found)
    assert result.bits == found
    assert np.array_equal(result.pixels[0], (ramp / (2**found - 1) * 255 + 1e-9).astype(np.uint8))
    assert decode(encode(Image.fromarray(ramp), kind), 64, bits=8).pixels.max() == 255


@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 40), (40, 64), (33, 64), (64, 1)])
def test_a_crop_is_centred_on_background_and_otherwise_untouched(width, height):
    image = smooth(width, height)
    ImageDraw.Draw(image).rectangle((0, 0, width - 1, height - 1), outline=(255, 255, 255))
    result = decode(encode(image), 64, BACKGROUND)
    assert (result.width, result.height) == (width, height)
    pixels = result.pixels.transpose(1, 2, 0)
    left, top = (64 - width) // 2, (64 - height) // 2
    inside = np.zeros((64, 64), bool)
    inside[top : top + height, left : left + width] = True
    assert np.array_equal(pixels[inside].reshape(height, width, 3), np.asarray(image))
    assert (pixels[~inside] == BACKGROUND).all()


@pytest.mark.parametrize("size", [16, 32, 128])
@pytest.mark.parametrize(("width", "height"), [(96, 96), (96, 60), (60, 96), (95, 61)])
def test_nothing_at_the_rim_is_cut_off(width, height, size):
    image = Image.new("RGB", (width, height), (60, 60, 60))
    middle = (width // 2, height // 2)
    spots = {(x, y) for x in (0, middle[0], width - 1) for y in (0, middle[1], height - 1)} - {middle}
    for x, y in spots:
        left, top = min(max(x - 6, 0), width - 12), min(max(y - 6, 0), height - 12)
        image.paste((255, 255, 255), (left, top, left + 12, top + 12))
    pixels = decoded(encode(image), size)
    scale = size / max(width, height)
    for x, y in spots:
        at_x = (x + (max(width, height) - width) / 2) * scale
        at_y = (y + (max(width, height) - height) / 2) * scale
        reach = max(2, round(8 * scale))
        near = pixels[max(0, int(at_y) - reach) : int(at_y) + reach, max(0, int(at_x) - reach) : int(at_x) + reach]
        assert near.max() > 200
    assert pixels[size // 2, size // 2].max() < 100


@pytest.mark.parametrize("size", [32, 64, 160])
@pytest.mark.parametrize(("width", "height"), [(100, 60), (60, 100), (100, 100)])
def test_a_circle_stays_a_circle(width, height, size):
    tall, wide = extent(decoded(disc(width, height, 50), size))
    assert abs(tall - wide) <= 1
    assert wide == pytest.approx(50 / max(width, height) * size, abs=2)


def test_without_common_side_every_crop_fills_the_frame():
    assert extent(decoded(disc(20, 20, 20), 80)) == pytest.approx(extent(decoded(disc(40, 40, 40), 80)), abs=2)


@pytest.mark.parametrize("size", [40, 80, 120])
def test_common_side_keeps_relative_sizes(size):
    for diameter in (20, 40, 80):
        found = extent(decoded(disc(diameter, diameter, diameter), size, common_side=80))
        assert found == pytest.approx((diameter * size / 80,) * 2, abs=2)


def test_common_side_centres():
    pixels = decoded(encode(smooth(20, 10)), 40, common_side=40)
    assert np.array_equal(pixels[15:25, 10:30], np.asarray(smooth(20, 10)))
    assert np.count_nonzero(pixels.any(axis=-1)) == 200


@pytest.mark.parametrize(("width", "height"), [(41, 20), (20, 41)])
def test_a_crop_larger_than_common_side_is_rejected(width, height):
    with pytest.raises(RejectedImage, match="larger than common_side: 41 px, at most 40 px"):
        decode(encode(smooth(width, height)), 32, common_side=40)


def test_a_turned_photograph_is_set_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decoded(encode(smooth(), exif=exif))
    assert np.array_equal(pixels, np.rot90(np.asarray(smooth()), -1))
    turned = decode(encode(smooth(64, 40), exif=exif), 64)
    assert (turned.width, turned.height) == (40, 64)
    assert not turned.pixels[:, :, [0, -1]].any()


def test_one_pixel_fills_the_frame():
    assert (decoded(encode(Image.new("RGB", (1, 1), (9, 99, 199)))) == (9, 99, 199)).all()


def test_a_gif_is_its_first_frame():
    first = smooth().quantize(64)
    data = encode(first, "GIF", save_all=True, append_images=[Image.new("P", (64, 64), 3)])
    assert np.array_equal(decoded(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert np.abs(decoded(data).astype(int) - np.asarray(smooth())).mean() < 8


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "empty file", id="empty"),
        pytest.param(b"patient,cells\n8,1000\n" * 50, "not an image", id="text"),
        pytest.param(encode(smooth())[:40], "not an image", id="png header only"),
        pytest.param(encode(smooth())[:-200], "unreadable: ", id="truncated png"),
        pytest.param(encode(smooth(), "JPEG")[:-200], "unreadable: ", id="truncated jpeg"),
        pytest.param(encode(Image.new("RGB", (64, 64))), "nothing but background", id="black"),
        pytest.param(encode(Image.new("L", (64, 64))), "nothing but background", id="black grey"),
        pytest.param(encode(Image.new("RGBA", (64, 64), (255, 0, 0, 0))), "nothing but background", id="transparent"),
        pytest.param(encode(Image.new("I", (64, 64), 7), "TIFF"), "32-bit greyscale", id="32-bit integers"),
        pytest.param(encode(Image.new("F", (64, 64), 0.5), "TIFF"), "32-bit greyscale", id="floats"),
        pytest.param(png_that_claims(100_000, 100_000), "too large: ", id="bomb"),
        pytest.param(png_that_claims(10_000, 10_000), "too large: 10000 x 10000", id="small bomb"),
        pytest.param(png_that_claims(5_000, 5_000), "too large: 5000 x 5000", id="tiny bomb"),
        pytest.param(encode(Image.new("RGB", (5_000, 4), "red")), "too large: 5000 x 4", id="bomb once padded"),
        pytest.param(encode(Image.new("RGB", (20_000, 300), "red")), "too large: 20000 x 300", id="20,000 pixels"),
        pytest.param(encode(Image.new("RGB", (4_096, 1), "red")), "too thin: 4096 x 1", id="a line"),
        pytest.param(encode(Image.new("RGB", (3, 100), "red")), "too thin: 3 x 100", id="a thin strip"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_usable_image_is_rejected_at_once_with_its_reason(data, reason):
    start = time.perf_counter()
    with pytest.raises(RejectedImage, match=f"^{reason}"):
        decode(data, 32)
    assert time.perf_counter() - start < 1


def test_background_is_what_is_configured():
    plain = encode(Image.new("RGB", (64, 64), BACKGROUND))
    assert (decoded(plain) == BACKGROUND).all()
    with pytest.raises(RejectedImage, match="nothing but background"):
        decode(plain, 32, BACKGROUND)


def test_one_pixel_is_more_than_background():
    image = Image.new("RGB", (64, 64))
    image.putpixel((63, 0), (0, 0, 1))
    assert np.argwhere(decoded(encode(image))).tolist() == [[0, 63, 2]]


def test_a_drawn_image_is_known_by_its_text():
    note, other = PngInfo(), PngInfo()
    note.add_text("phantom", "drawn, not photographed")
    other.add_text("microscope", "phantom")
    assert decode(encode(smooth(), pnginfo=note), 32).phantom
    assert not decode(encode(smooth(), pnginfo=other), 32).phantom


def test_a_generated_image_is_known_by_its_text():
    note, other = PngInfo(), PngInfo()
    note.add_text("Source", "synthetic")
    other.add_text("Source", "a microscope")
    assert decode(encode(smooth(), pnginfo=note), 32).synthetic
    assert not decode(encode(smooth(), pnginfo=other), 32).synthetic
