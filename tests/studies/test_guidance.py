"""The scale of guidance: chosen by distance and recall, class by class, never where there is none to choose."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from malaria_diffusion.diffusion.config import SamplingParameters
from malaria_diffusion.errors import UserError
from malaria_diffusion.studies.config import GuidanceParameters
from malaria_diffusion.studies.guidance import choose_guidance, guidance_table

from ..toys import toy

SAMPLING = SamplingParameters(
    count=1, seed=0, solver="ancestral", evaluations=None, variance="beta", clipping="static", guidance=1,
    batch_size=8, precision="float32", device="cpu",
)  # fmt: skip
LABELS, CLASSES = np.repeat([0, 1], 100), ["bright", "dark"]


def images(rng, labels, contrast=40.0):
    """Noise, darker in class 1."""
    level = np.array([160, 80])[labels].reshape(-1, 1, 1, 1)
    return (level + contrast * rng.normal(size=(len(labels), 3, 8, 8))).clip(0, 255).astype(np.uint8)


def fake_model(null_class=2, guide="early"):
    lineage = SimpleNamespace(null_class=null_class, class_names=CLASSES)
    return SimpleNamespace(lineage=lineage, guide=guide, sample=None)


def cells_of(pictures, labels=LABELS):
    return toy(pictures, pd.DataFrame({"label": np.array(CLASSES)[labels]}), classes=CLASSES)


@pytest.fixture
def table():
    """Scales that are right (1), ignore the class (2), are too even (3), or draw one image over and over (6)."""
    asked = []

    def sample(labels, parameters):
        asked.append((parameters.guidance, parameters.seed))
        rng = np.random.default_rng(parameters.seed)
        match parameters.guidance:
            case 2:
                return images(rng, rng.permutation(labels))
            case 3:
                return images(rng, labels, 25)
            case 6:
                return images(rng, np.array([0, 1]))[labels]
        return images(rng, labels)

    model, rng = fake_model(), np.random.default_rng(5)
    model.sample = sample
    val, typical = cells_of(images(rng, LABELS)), images(rng, LABELS.repeat(3))
    found = guidance_table(model, [1, 2, 3, 6], LABELS, SAMPLING, val, typical)
    assert asked == [(scale, 0) for scale in (1, 2, 3, 6)]
    return found.set_index("guidance", drop=False)


def test_the_right_scale_is_nearest_and_a_class_drawn_wrong_is_far(table):
    assert list(table.columns) == ["guidance", "kernel_distance", "recall"]
    assert table["kernel_distance"].idxmin() == 1
    assert table.loc[2, "kernel_distance"] > table.loc[1, "kernel_distance"] + 0.02
    assert choose_guidance(table.reset_index(drop=True)) == 1


def test_one_image_over_and_over_has_no_recall(table):
    assert table.loc[1, "recall"] > 0.5
    assert table.loc[6, "recall"] < 0.1


@pytest.mark.parametrize(
    ("distances", "recalls", "chosen"),
    [
        ([0.3, 0.2, 0.1], [0.8, 0.8, 0.8], 3.0),
        ([0.3, 0.2, 0.1], [0.8, 0.8, 0.71], 2.0),  # the nearest has lost variety
        ([0.3, 0.2, 0.1], [0.8, 0.8, 0.73], 3.0),
        ([0.1, 0.1, 0.1], [0.8, 0.8, 0.8], 1.0),  # of equals the smallest
        ([0.3, 0.2, 5.9], [0.4, 0.5, 0.9], 2.0),  # guided too far: recall of images that are far from all and apart
        ([-0.1, 0.2, 0.1], [0.0, 0.0, 0.0], 1.0),
    ],
)
def test_the_nearest_of_those_that_keep_recall_is_chosen(distances, recalls, chosen):
    table = pd.DataFrame({"guidance": [1.0, 2.0, 3.0], "kernel_distance": distances, "recall": recalls})
    assert choose_guidance(table) == chosen
    assert choose_guidance(table[::-1]) == chosen


def test_without_label_dropout_or_a_guide_there_is_nothing_to_choose():
    cells = images(np.random.default_rng(0), LABELS)
    with pytest.raises(UserError, match=r"diffusion\.training\.label_dropout.*guide_epochs"):
        guidance_table(fake_model(None, None), [1, 2], LABELS, SAMPLING, cells_of(cells), cells)


@pytest.mark.parametrize("scales", [[], [0.5], [1, np.nan], [1, np.inf]])
def test_impossible_scales_are_refused(scales):
    with pytest.raises(ValidationError, match="scales"):
        GuidanceParameters(scales=scales, images=20)


def test_a_class_without_validation_cells_is_named():
    cells = images(np.random.default_rng(0), LABELS)
    with pytest.raises(UserError, match="'dark'"):
        guidance_table(fake_model(), [1], LABELS, SAMPLING, cells_of(cells[:100], LABELS[:100]), cells)


def test_a_class_with_too_few_images_to_choose_by_is_named_before_any_is_made():
    cells = images(np.random.default_rng(0), LABELS)
    few = np.array([0] * 7 + [1] * 6)
    with pytest.raises(UserError, match=r"guidance\.images gives 6 images of class 'dark', 7 are needed.* 14 at least"):
        guidance_table(fake_model(), [1], few, SAMPLING, cells_of(cells), cells)
