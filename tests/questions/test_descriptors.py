"""Descriptors measure what they say: closed forms, planted spots, and what must not change them."""

import numpy as np
import pytest
from PIL import Image

from malaria_diffusion.cells.phantom.draw import PARASITIZED, PhantomParameters, phantom_cells
from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.descriptors.describe import (
    DESCRIPTORS,
    IMAGE_FACTORS,
    dark_mask,
    describe,
    image_factors,
)

BLACK = (0, 0, 0)
PINK = (220, 160, 170)
PURPLE = (120, 60, 150)


def distance(size, a, b, centre=None, turn=0.0):
    """1 on the ellipse of half axes a and b."""
    y, x = np.mgrid[:size, :size] - np.array([(size - 1) / 2] * 2 if centre is None else centre).reshape(2, 1, 1)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return np.hypot(along / a, across / b)


def cell(size=64, a=28, b=28, turn=0.0, colour=PINK, spots=(), radius=4, spot_colour=PURPLE):
    image = np.zeros((3, size, size), dtype=np.uint8)
    image[:, distance(size, a, b, turn=turn) <= 1] = np.array(colour)[:, None]
    for at in spots:
        image[:, distance(size, radius, radius, at) <= 1] = np.array(spot_colour)[:, None]
    return image


def noisy_cells(count=8, size=32):
    rng = np.random.default_rng(0)
    cells = np.stack([cell(size, 14, 11, k, spots=[(12, 18)], radius=3) for k in range(count)]).astype(int)
    noise = rng.integers(-8, 9, cells.shape)
    return np.where(cells > 0, (cells + noise).clip(40, 255), 0).astype(np.uint8)


def one(image):
    return describe(image[None], BLACK, 30).iloc[0]


@pytest.mark.parametrize("turn", [0.0, 0.4, np.pi / 2])
def test_an_ellipse_has_its_eccentricity_and_area(turn):
    found = one(cell(128, 50, 30, turn))
    assert found["eccentricity"] == pytest.approx(0.8, abs=0.01)
    assert found["fill_fraction"] == pytest.approx(np.pi * 50 * 30 / 128**2, rel=0.01)


def test_a_disc_is_round_and_a_line_is_not():
    assert one(cell())["eccentricity"] < 0.1
    line = np.zeros((3, 64, 64), dtype=np.uint8)
    line[:, 30] = 200
    assert 0.999 < one(line)["eccentricity"] < 1
    dot = np.zeros((3, 64, 64), dtype=np.uint8)
    dot[:, 30, 30] = 200
    assert one(dot)["eccentricity"] == 0


@pytest.mark.parametrize(
    ("colour", "hue"), [((200, 50, 50), 360), ((50, 50, 200), 240), ((200, 50, 200), 300), ((90, 90, 90), 360)]
)
def test_hue_and_saturation_of_plain_colours(colour, hue):
    found = one(cell(colour=colour))
    assert found["hue"] == pytest.approx(hue)
    assert found["saturation"] == pytest.approx(1 - min(colour) / max(colour))


def test_hue_does_not_wrap_between_pink_and_orange():
    """Half the cell at 350 degrees, half at 10: their mean is red, not cyan."""
    image = cell(colour=(200, 50, 75))
    image[:, :, 32:] = image[[0, 2, 1], :, 32:]
    assert one(image)["hue"] == pytest.approx(360, abs=0.5)
    hues = [one(cell(colour=(200, 50 + 15 * k, 110 - 15 * k)))["hue"] for k in range(5)]
    assert np.all((np.diff(hues) > 0) & (np.diff(hues) < 30))


def test_a_brighter_lamp_changes_neither_stain_nor_spots():
    image = cell(colour=(120, 80, 90), spots=[(25, 25)], spot_colour=(60, 30, 80)) // 10 * 10
    bright = (image * 1.9).astype(np.uint8)
    changed = ["hue", "saturation", "texture", "dark_spots", "dark_area"]
    assert one(bright)[changed].to_numpy(float) == pytest.approx(one(image)[changed].to_numpy(float), rel=1e-5)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_planted_spots_are_counted(count, size):
    at = np.array([(0.3, 0.35), (0.65, 0.3), (0.35, 0.65), (0.68, 0.66)])[:count] * size
    found = one(cell(size, 0.45 * size, 0.45 * size, spots=at, radius=size / 14))
    assert found["dark_spots"] == count
    assert found["dark_area"] == pytest.approx(count * (1 / 14 / 0.45) ** 2, rel=0.3)


def test_specks_the_rim_and_pale_spots_are_no_spots():
    speck = cell(32, 14, 14)
    speck[:, 16, 16] = 50
    rim = cell(32, 14, 14, colour=PURPLE)
    rim[:, distance(32, 13, 13) <= 1] = np.array(PINK)[:, None]
    pale = cell(64, spots=[(30, 30)], spot_colour=(250, 220, 220))
    bluish = cell(64, spots=[(30, 30)], spot_colour=(220, 160, 120))  # absorbs blue only: no parasite does
    assert [one(image)["dark_spots"] for image in (speck, rim, pale, bluish)] == [0, 0, 0, 0]


def test_spots_are_judged_by_the_cells_own_stain():
    """A cell in the colour of another one's spot has none."""
    assert one(cell(colour=PURPLE))["dark_spots"] == 0
    assert one(cell(colour=PURPLE, spots=[(30, 30)], spot_colour=(60, 30, 75)))["dark_spots"] == 1


def test_spots_belong_to_their_cell():
    spotted = np.arange(1030) % 3 > 0  # neighbours in the stack too
    cells = np.stack([cell(32, 14, 14, spots=[(15, 15)] * int(spot), radius=3) for spot in spotted])
    assert (describe(cells, BLACK, 30)["dark_spots"] == spotted).all()
    assert (dark_mask(cells, BLACK, 30).any(axis=(1, 2)) == spotted).all()


def test_texture_grows_with_grain_and_not_with_a_slope():
    rng = np.random.default_rng(1)
    plain = cell(64, colour=(160, 120, 130)).astype(float)
    grain = [plain * (1 + strength * rng.normal(size=(64, 64))) for strength in (0, 0.03, 0.1)]
    textures = [one(image.clip(0, 255).astype(np.uint8))["texture"] for image in grain]
    slope = one((plain * np.linspace(0.7, 1.3, 64)).astype(np.uint8))["texture"]
    assert textures[0] == pytest.approx(0, abs=1e-6)
    assert textures == sorted(textures)
    assert slope < textures[1]


def test_flips_and_rotations_change_nothing():
    cells = noisy_cells()
    for measure in (describe, image_factors):
        expected = measure(cells, BLACK, 30)
        for changed in (cells[:, :, ::-1], cells[:, :, :, ::-1], np.rot90(cells, axes=(2, 3)), cells.swapaxes(2, 3)):
            found = measure(np.ascontiguousarray(changed), BLACK, 30)
            assert found.to_numpy(float) == pytest.approx(expected.to_numpy(float), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("background", [(0, 0, 0), (255, 255, 255)])
def test_a_cell_without_foreground_is_marked_and_has_no_missing_value(background):
    cells = np.stack([np.full((3, 32, 32), background[0], dtype=np.uint8), np.full((3, 32, 32), 120, dtype=np.uint8)])
    for measure, columns in ((describe, DESCRIPTORS), (image_factors, IMAGE_FACTORS)):
        found = measure(cells, background, 30)
        assert found["empty"].tolist() == [True, False]
        assert np.isfinite(found.to_numpy(float)).all()
        assert (found.loc[0, list(columns)] == 0).all()
        assert list(measure(cells[:0], background, 30).columns) == list(found.columns)
    assert not dark_mask(cells, background, 30).any()


@pytest.mark.parametrize("shape", [(2, 32, 32), (2, 1, 32, 32), (2, 3, 32, 16)])
def test_what_is_no_image_is_refused(shape):
    for measure in (describe, dark_mask, image_factors):
        with pytest.raises(UserError, match="expected uint8 of shape"):
            measure(np.zeros(shape, dtype=np.uint8), BLACK, 30)


def test_focus_tells_sharp_from_blurred_and_brightness_the_lamp():
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(2)
    fine = cell(64, 40, 40).astype(float) * (1 + 0.15 * rng.normal(size=(64, 64)))
    blurred = gaussian_filter(fine, (0, 1, 1))
    sharp, soft, dim = (
        image_factors(image.clip(0, 255).astype(np.uint8)[None], BLACK, 30).iloc[0]
        for image in (fine, blurred, fine / 2)
    )
    assert sharp["focus"] > 2 * soft["focus"]
    assert dim["focus"] == pytest.approx(sharp["focus"], rel=0.1)
    assert dim["brightness"] == pytest.approx(sharp["brightness"] / 2, rel=0.02)


def test_a_parasite_is_not_taken_for_stain_or_focus():
    """Factors of acquisition would otherwise tell infection by the parasite itself."""
    rng = np.random.default_rng(3)
    plain = cell().astype(float) * (1 + 0.03 * rng.normal(size=(64, 64)))
    spotted = np.where(cell() == cell(spots=[(30, 30)], radius=6), plain, cell(spots=[(30, 30)], radius=6))
    found = image_factors(np.stack([plain, spotted]).clip(0, 255).astype(np.uint8), BLACK, 30)[list(IMAGE_FACTORS)]
    assert found.loc[1].to_numpy() == pytest.approx(found.loc[0].to_numpy(), rel=0.06)


def square(image, size, resample):
    height, width = image.shape[:2]
    side = max(height, width)
    canvas = Image.new("RGB" if image.ndim == 3 else "L", (side, side))
    canvas.paste(Image.fromarray(image), ((side - width) // 2, (side - height) // 2))
    return np.asarray(canvas.resize((size, size), resample))


def test_dark_spots_of_phantom_cells_lie_on_their_parasites():
    phantoms = [
        phantom
        for phantom in phantom_cells(PhantomParameters(infected_people=10, healthy_people=1, cells_per_person=12))
        if phantom.label == PARASITIZED
    ]
    cells = np.stack([square(phantom.image, 32, Image.Resampling.BICUBIC).transpose(2, 0, 1) for phantom in phantoms])
    masks = [square(phantom.parasite_mask.astype(np.uint8) * 255, 32, Image.Resampling.BOX) for phantom in phantoms]
    parasites, dark = np.stack(masks) > 127, dark_mask(cells, BLACK, 30)
    both = (parasites & dark).sum()
    assert both / dark.sum() > 0.65
    assert both / parasites.sum() > 0.65
    assert (parasites & dark).any(axis=(1, 2)).mean() > 0.95
