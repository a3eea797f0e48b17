"""The distance that steers the training: unbiased, exact, reproducible, and moved by what an eye would see."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from malaria_diffusion.diffusion.training import quality
from malaria_diffusion.diffusion.training.quality import KEY, QualityMeasure, nearest_in_pixels
from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.kernel_distance import LIMIT
from malaria_diffusion.statistics.random_network import random_features

SIZE = 16


def discs(seed, count, spotted=0.5, size=SIZE):
    """Coloured discs on black, a share of them with a dark spot."""
    generator = np.random.default_rng(seed)
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size
    centre = generator.uniform(0.45, 0.55, (count, 2, 1, 1))
    away = np.hypot(rows - centre[:, 0], columns - centre[:, 1])
    colour = generator.normal((200, 150, 160), 12, (count, 3))[:, :, None, None]
    images = colour * (away < generator.uniform(0.35, 0.45, (count, 1, 1)))[:, None]
    spot = centre + generator.uniform(-0.15, 0.15, (count, 2, 1, 1))
    inside = np.hypot(rows - spot[:, 0], columns - spot[:, 1]) < 0.1
    has_spot = np.arange(count) < spotted * count
    images *= 1 - 0.5 * (inside & has_spot[:, None, None])[:, None]
    return as_image(images + generator.normal(0, 2, images.shape))


def as_image(values):
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def noisy(images, deviation):
    return as_image(images + np.random.default_rng(9).normal(0, deviation, images.shape))


def blurred(images, sigma):
    return as_image(gaussian_filter(images.astype(float), (0, 0, sigma, sigma)))


@pytest.fixture(scope="module")
def typical():
    return discs(2, 400)


@pytest.fixture(scope="module")
def reference():
    return discs(0, 200)


@pytest.fixture(scope="module")
def measure(reference, typical):
    return QualityMeasure(reference, typical)


@pytest.fixture(scope="module")
def floor(typical):
    """Distances of one half of a set of images from the other, for 15 ways of halving it."""
    images, generator, found = discs(3, 400), np.random.default_rng(0), []
    for _ in range(15):
        one, other = np.split(generator.permutation(images), 2)
        found.append(QualityMeasure(one, typical[::4]).distance(other))
    return np.array(found)


def test_recall_falls_with_what_is_left_out_and_needs_neighbours(measure):
    images = discs(5, 400)
    brightness = images.mean(axis=(1, 2, 3))
    small = brightness < np.median(brightness)
    assert measure.recall(images) > 0.8
    assert measure.recall(images[small]) < 0.8 * measure.recall(images)
    assert measure.recall(noisy(np.repeat(images[:10], 20, axis=0), 1)) < 0.2
    assert measure.recall(np.full((200, 3, SIZE, SIZE), 7, np.uint8)) == 0
    assert 0 <= measure.recall(discs(5, 7)) <= 1
    with pytest.raises(UserError, match="6 images; 7 are needed"):
        measure.recall(discs(5, 6))


def test_halves_of_one_set_are_at_no_distance_on_average(floor):
    assert abs(floor.mean()) < 3 * floor.std(ddof=1) / np.sqrt(len(floor))
    assert floor.min() < 0 < floor.max()


def test_the_estimate_written_out(measure, reference):
    images = discs(1, 7)
    x, y = measure.features(images), measure.features(reference)

    def k(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    of_images = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    of_reference = np.mean([((y @ b / len(b) + 1) ** 3)[np.arange(len(y)) != j] for j, b in enumerate(y)])
    across = np.mean([k(a, b) for a in x for b in y])
    assert measure.distance(images) == pytest.approx(of_images + of_reference - 2 * across, rel=1e-9, abs=1e-12)


def test_order_and_batches_change_nothing(measure, reference, typical, monkeypatch):
    images = discs(1, 50)
    distance, nearest = measure.distance(images), nearest_in_pixels(images, reference)
    assert measure.distance(np.random.default_rng(0).permutation(images)) == pytest.approx(distance, rel=1e-9)
    monkeypatch.setattr(quality, "AT_ONCE", 7)
    again = QualityMeasure(reference[::-1], typical[::-1])
    assert again.distance(images) == pytest.approx(distance, rel=1e-9)
    np.testing.assert_allclose(nearest_in_pixels(images, reference), nearest, rtol=1e-9)


def test_either_side_may_be_the_reference(measure, reference, typical):
    others = discs(1, 50, spotted=1)
    assert QualityMeasure(others, typical).distance(reference) == pytest.approx(measure.distance(others), rel=1e-9)


@pytest.mark.parametrize(
    ("spoil", "strengths"), [(blurred, (0.3, 0.4, 0.5, 0.7)), (noisy, (3, 6, 12, 24))], ids=["blur", "noise"]
)
def test_worse_is_further(measure, floor, spoil, strengths):
    images = discs(1, 200)
    distances = [measure.distance(spoil(images, strength)) for strength in strengths]
    assert distances[0] > 3 * floor.std()
    assert all(np.diff(distances) > 0)


def test_what_the_eye_sees(measure, floor):
    images = discs(1, 200)
    mirrored, few = images[..., ::-1], np.tile(images[::20], (20, 1, 1, 1))
    tinted = as_image(images * np.array([1.05, 1, 0.95]).reshape(1, 3, 1, 1))
    strange = np.concatenate(
        [images[:190], np.random.default_rng(0).integers(0, 256, (10, *images.shape[1:]), np.uint8)]
    )
    assert abs(measure.distance(mirrored) - measure.distance(images)) < 3 * floor.std()
    for worse in (few, tinted, strange):
        assert measure.distance(worse) > 3 * floor.std()


def test_another_mixture_of_classes_is_seen(measure, floor):
    distances = [measure.distance(discs(1, 200, spotted)) for spotted in (0.5, 0.75, 1)]
    assert distances[0] < distances[1] < distances[2]
    assert distances[0] < 3 * floor.std() < distances[2]


def test_strange_images_count_no_more_than_the_limit(measure):
    strange = np.random.default_rng(0).integers(0, 256, (5, 3, SIZE, SIZE), dtype=np.uint8)
    lengths = np.sqrt(np.square(measure.features(strange)).mean(axis=1))
    np.testing.assert_allclose(lengths, LIMIT)


def test_features_of_typical_images_are_centred_white_and_of_size_one(measure, typical):
    features = measure.features(typical)
    assert features.shape == (400, 2 * (3 + 16 + 32 + 64))
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=0.02)
    assert np.square(features).mean() == pytest.approx(1, rel=0.02)  # but for the limit
    raw = random_features(typical, KEY)
    spread = [np.linalg.eigvalsh(np.cov(points.T))[-20:] for points in (raw / raw.std(axis=0), features)]
    assert spread[0][-1] / spread[0][0] > 20
    assert spread[1][-1] / spread[1][0] < 5


def test_random_numbers_of_others_are_neither_used_nor_moved(reference, typical, measure):
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    before, numpy_before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    distance = QualityMeasure(reference, typical).distance(reference[:50])
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_equal(np.random.get_state(), numpy_before)  # noqa: NPY002
    assert distance == measure.distance(reference[:50])


def test_the_features_stay_what_they_are():
    """Distances of earlier trainings are only comparable while they do."""
    ramp = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(1, 3, 8, 8)
    features = random_features(ramp, KEY)[0]
    np.testing.assert_allclose(features[:6], np.array([31.5, 95.5, 159.5, 63, 127, 191]) / 127.5 - 1, rtol=1e-6)
    np.testing.assert_allclose(
        features[[6, 40, 229]], [0.3162634402885814, 0.2421758378270218, 0.26443598609546576], rtol=1e-6
    )


@pytest.mark.parametrize("size", [8, 9, 31])
def test_any_size(size):
    images = discs(0, 20, size=size)
    assert np.isfinite(QualityMeasure(images, images).distance(discs(1, 20, size=size)))


def test_images_that_are_all_alike():
    one = np.repeat(discs(0, 1), 5, axis=0)
    measure = QualityMeasure(one, one)
    assert measure.distance(one) == pytest.approx(0, abs=1e-9)
    assert np.isfinite(measure.distance(discs(1, 10)))


def test_nearest_neighbours(reference):
    images = np.concatenate([discs(1, 20), reference[[150, 3]]])
    pixels = [[np.sqrt(np.mean(((a / 127.5 - 1) - (b / 127.5 - 1)) ** 2)) for b in reference] for a in images]
    np.testing.assert_allclose(nearest_in_pixels(images, reference), np.min(pixels, axis=1), atol=1e-12)
    assert not nearest_in_pixels(images, reference)[20:].any()
    assert nearest_in_pixels(images, reference)[:20].min() > 0.1


def test_black_is_two_away_from_white():
    black, white = np.zeros((1, 3, 8, 8), np.uint8), np.full((300, 3, 8, 8), 255, np.uint8)
    assert nearest_in_pixels(black, white) == 2


@pytest.mark.parametrize(
    "images", [discs(0, 1), discs(0, 4, size=8), discs(0, 4).astype(float), discs(0, 4)[:, :1], discs(0, 4)[0]]
)
def test_what_cannot_be_measured_is_said(measure, images):
    with pytest.raises(UserError, match=r"at least 2 images, uint8, \(N, 3, 16, 16\); found"):
        measure.distance(images)


@pytest.mark.parametrize("images", [discs(0, 1), discs(0, 4)[:, :, :8], discs(0, 4)[0], discs(0, 4) / 255])
def test_a_reference_that_is_none(images):
    with pytest.raises(UserError, match="at least 2 images"):
        QualityMeasure(images, discs(1, 4))
    with pytest.raises(UserError, match="at least 2 images"):
        QualityMeasure(discs(1, 4), images)
