"""Signatures: rings feel neither turns nor shifts, whitening finds what was blended, and nothing stands out alone."""

import numpy as np
import pytest
from scipy import ndimage

from malaria_diffusion.statistics.nearest import dihedral, pixel_vectors
from malaria_diffusion.statistics.signature import RIDGE, Signatures, Whitening, foreground, ring_spectra

SIZE = 32


def spotted(rng, number):
    """Discs of one size with a smooth pattern of their own, on black."""
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    pattern = ndimage.gaussian_filter(rng.normal(size=(number, 3, SIZE, SIZE)), (0, 0, 2, 2))
    cells = 150 + 40 * pattern / pattern.std()
    return (cells.clip(60, 255) * (np.hypot(rows, columns) < 10)).astype(np.uint8)


@pytest.fixture(scope="module")
def members():
    return spotted(np.random.default_rng(0), 300)


@pytest.fixture(scope="module")
def signatures(members):
    return Signatures(pixel_vectors(members), members)


def nearest(signatures, cells):
    turned = np.stack([pixel_vectors(one) for one in dihedral(cells)])
    return signatures.nearest(turned, cells, 10)


def test_spectra_of_rings_feel_neither_turns_nor_mirrors_nor_shifts(members):
    spectra = ring_spectra(members[:5])
    assert spectra.shape == (5, 3 * 8 * 9)
    for one in dihedral(members[:5]):
        np.testing.assert_allclose(ring_spectra(one), spectra, rtol=1e-3, atol=0.05)
    moved = np.roll(members[:5], (1, -1), axis=(2, 3))  # more would blur it with the border
    np.testing.assert_allclose(ring_spectra(moved), spectra, rtol=1e-3, atol=0.05)
    turned = ndimage.rotate(members[:5].astype(float), 15, (2, 3), reshape=False, order=1).round().astype(np.uint8)
    apart = np.linalg.norm(ring_spectra(turned) - spectra, axis=1)
    others = np.linalg.norm(spectra - np.roll(spectra, 1, axis=0), axis=1)
    assert (apart < 0.5 * others).all()


def test_whitened_vectors_are_of_length_one_and_vary_alike_in_every_direction():
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(2000, 6)) * [50, 20, 10, 5, 5, 5] + 100).astype(np.float32)
    white = Whitening(vectors)(vectors)
    np.testing.assert_allclose(np.linalg.norm(white, axis=1), 1, rtol=1e-5)
    variances = np.linalg.eigvalsh(np.cov(white.T))
    assert variances[-1] < 2 * variances[0]
    assert 0 < RIDGE < 0.1
    assert not Whitening(np.ones((20, 6), np.float32))(np.ones((3, 6), np.float32)).any()


@pytest.mark.parametrize("kind", ["turned", "blended", "moved and turned"])
def test_a_near_copy_stands_out_and_a_new_image_does_not(members, signatures, kind):
    cells = members[:30].astype(float)
    if kind == "blended":
        cells = 0.6 * cells + 0.4 * members[100:130]
    else:
        cells = ndimage.rotate(cells, 25, (2, 3), reshape=False, order=1)
        if kind != "turned":
            cells = np.roll(cells, (3, 3), axis=(2, 3))
    member, relative = nearest(signatures, cells.round().astype(np.uint8))
    assert (member == np.arange(30)).mean() > 0.9
    _, of_new = nearest(signatures, spotted(np.random.default_rng(5), 60))
    assert np.median(relative) < of_new.min()


def test_images_of_nothing_stand_out_from_nothing(members, signatures):
    _, relative = nearest(signatures, np.zeros((2, 3, SIZE, SIZE), np.uint8))
    assert np.isfinite(relative).all()
    black = np.zeros((20, 3, SIZE, SIZE), np.uint8)
    _, relative = nearest(Signatures(pixel_vectors(black), black), members[:2])
    np.testing.assert_array_equal(relative, 1)
    assert not foreground(black).any()
