"""FID and KID: what their libraries say of the same weights, and nothing without the right file."""

import logging
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import NoTrainInceptionV3, _compute_fid
from torchmetrics.image.kid import poly_mmd

from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.errors import UserError
from malaria_diffusion.questions.fidelity.config import FidelityParameters
from malaria_diffusion.questions.fidelity.inception import (
    SKIPPED,
    URL,
    embed,
    frechet_inception_distance,
    inception,
    inception_table,
)
from malaria_diffusion.questions.fidelity.steps import measure_inception
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.config import ComparisonParameters

D = 40


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The published network as a file, of random weights that keep its features' size."""
    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "none.pth")
    with patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], folder / "none.pth")
    generator = torch.Generator().manual_seed(0)
    state = network.state_dict()
    for values in state.values():
        if values.ndim == 4:
            values.normal_(0, (2 / values[0].numel()) ** 0.5, generator=generator)
    torch.save(state, folder / "inception.pth")
    return folder / "inception.pth"


def test_features_are_those_of_torchmetrics_fid(weights):
    cells = np.random.default_rng(0).integers(0, 256, (3, 3, 24, 24), dtype=np.uint8)
    peer = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights), antialias=False)
    with torch.inference_mode():
        expected = peer(torch.from_numpy(cells)).numpy()
    found = embed(inception(weights), cells, "cpu")
    assert found.shape == (3, 2048)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.std())
    assert expected.std(axis=0).mean() > 0.001


@pytest.mark.parametrize("number", [15, 200])
def test_fid_is_torchmetrics_also_of_fewer_images_than_dimensions(number):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(number, D)), rng.normal(0.2, 1.5, (number + 3, D))
    moments = [torch.from_numpy(values) for side in (x, y) for values in (side.mean(axis=0), np.cov(side.T))]
    assert frechet_inception_distance(x, y) == pytest.approx(float(_compute_fid(*moments)), rel=1e-5)
    assert frechet_inception_distance(x, x[::-1]) == pytest.approx(0, abs=1e-9)


def study(rng, collapsed=False):
    """A perfect generator of people's cells, or one that makes one image over and over, with noise."""
    features, cells = {}, {}
    for side in ("real", "floor", "synthetic"):
        owner = np.repeat(np.arange(12), 8)
        x = 0.3 * rng.normal(size=(12, D))[owner] + rng.normal(size=(96, D))
        features[side] = x
        cells[side] = pd.DataFrame({"label": np.tile(["ill", "well"], 48), "person": owner.astype(str)})
    features["synthetic"] = rng.normal(0, 1.09**0.5, (96, D))  # of new people
    if collapsed:
        features["synthetic"] = features["synthetic"][0] + 0.3 * features["synthetic"]
    return features, cells


def test_kid_and_fid_of_a_perfect_generator_are_at_their_floors_and_of_a_collapse_above():
    tables = [
        inception_table(*study(np.random.default_rng(2), collapsed), Bootstrap(200, 0.95, np.random.default_rng(0)))
        for collapsed in (False, True)
    ]
    for table in tables:
        assert list(zip(table["metric"], table["group"], table["n"], strict=True))[:3] == [
            ("KID", "all", 96), ("KID", "ill", 48), ("KID", "well", 48),
        ]  # fmt: skip
        assert table.loc[table["metric"] == "FID", "low"].isna().all()
    perfect, collapsed = (table.set_index(["metric", "group"]) for table in tables)
    row = perfect.loc[("KID", "all")]
    assert row["difference_low"] < 0 < row["difference_high"]
    assert row["low"] < 0 < row["high"]
    assert collapsed.loc[("KID", "all"), "difference_low"] > 0
    fid = perfect.loc[("FID", "all")]
    assert fid["value"] > 10  # of identical distributions: why it has a floor
    assert abs(fid["difference"]) < 0.2 * fid["floor"]
    assert collapsed.loc[("FID", "all"), "difference"] > 0.5 * fid["floor"]


def test_kid_of_images_of_different_people_is_torchmetrics():
    features, cells = study(np.random.default_rng(3))
    for side in ("real", "floor"):
        cells[side]["person"] = np.arange(96).astype(str)
    table = inception_table(features, cells, Bootstrap(10, 0.95, np.random.default_rng(0)))
    expected = poly_mmd(torch.from_numpy(features["real"]), torch.from_numpy(features["synthetic"]))
    assert table["value"][0] == pytest.approx(float(expected), rel=1e-9)


def test_without_weights_nothing_is_measured_and_the_log_says_where_they_are(caplog):
    with caplog.at_level(logging.INFO):
        table = measure_inception(None, ClassifierParameters(), FidelityParameters(), ComparisonParameters())
    assert table.empty
    assert caplog.messages == [SKIPPED]
    assert f"curl -LO {URL}" in SKIPPED
    assert "validation.fidelity.inception_weights" in SKIPPED


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_a_file_that_is_not_there_or_damaged_or_something_else_is_refused(weights, tmp_path, damage):
    path = tmp_path / "weights.pth"
    if damage == "cut":
        path.write_bytes(weights.read_bytes()[:100_000])
    elif damage == "other":
        torch.save({"fc.weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"inception_weights.*weights\.pth.*curl"):
        inception(path)


def test_a_malicious_file_does_not_run(tmp_path):
    torch.save({"model": Payload(tmp_path / "trace")}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="does not hold the weights"):
        inception(tmp_path / "weights.pth")
    assert not (tmp_path / "trace").exists()


class Payload:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        import os

        return os.mkdir, (self.folder,)
