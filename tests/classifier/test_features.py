"""Features: what enters the last layer, whatever the batch; of cells alone, and finite."""

from pathlib import Path

import numpy as np
import pytest
import torch

from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.features import KEY, LEAST_SIDE, embed, reported_space
from malaria_diffusion.classifier.predictor import predict
from malaria_diffusion.classifier.sandbox import private_ultralytics
from malaria_diffusion.diffusion.training import quality
from malaria_diffusion.errors import UserError
from malaria_diffusion.statistics.random_network import random_features

YOLO = "malaria_diffusion.classifier.yolo"


def save(path, architecture="yolov8n-cls", **arguments):
    """A classifier of random weights as a checkpoint; returns its last layer."""
    with private_ultralytics():
        from ultralytics.nn.tasks import ClassificationModel

        torch.manual_seed(0)
        model = ClassificationModel(f"{architecture}.yaml", nc=3, verbose=False)
    torch.save({"model": model.half(), "train_args": arguments}, path)
    return model.model[-1].linear.float()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "network.pt"
    return path, save(path, imgsz=32)


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (23, 3, 32, 32), dtype=np.uint8)


def test_the_last_layer_makes_predictions_of_the_features(network, cells):
    path, linear = network
    features = embed(path, cells, 32, "cpu")
    assert features.shape == (23, 1280)
    assert features.dtype == np.float32
    with torch.no_grad():
        probabilities = linear(torch.from_numpy(features)).softmax(1).numpy()
    np.testing.assert_allclose(probabilities, predict(path, cells, device="cpu"), atol=1e-6)


def test_rows_keep_their_order_in_any_batches(network, cells, monkeypatch):
    whole = embed(network[0], cells, 32, "cpu")
    spread = np.abs(whole - whole.mean(axis=0)).max()
    order = np.random.default_rng(1).permutation(len(cells))
    for size in (1, 7, 23):
        monkeypatch.setattr(f"{YOLO}.AT_ONCE", size)
        again = embed(network[0], cells[order], 32, "cpu")
        np.testing.assert_allclose(again, whole[order], atol=1e-3 * spread)


def test_cells_are_resized_to_what_is_asked_for(network, cells):
    small, large = (embed(network[0], cells[:4], size, "cpu") for size in (32, 64))
    assert np.abs(large - small).max() > 0


def test_other_architectures_embed_too(cells, tmp_path):
    linear = save(tmp_path / "s.pt", "yolov8s-cls", imgsz=32)
    assert embed(tmp_path / "s.pt", cells[:2], 32, "cpu").shape == (2, linear.in_features)


def test_no_cells_have_no_features(network, cells):
    assert embed(network[0], cells[:0], 32, "cpu").shape == (0, 1280)


@pytest.mark.parametrize("change", [lambda x: x / 255, lambda x: x[:, :1], lambda x: x[:, :, :16], lambda x: x[0]])
def test_other_arrays_than_cells_are_refused(network, cells, change):
    with pytest.raises(UserError, match="expected uint8 of shape"):
        embed(network[0], change(cells), 32, "cpu")


def test_features_that_are_no_numbers_are_refused(network, cells, tmp_path):
    checkpoint = torch.load(network[0], weights_only=False)
    checkpoint["model"].model[0].conv.weight.data.fill_(torch.nan)
    torch.save(checkpoint, tmp_path / "broken.pt")
    with pytest.raises(UserError, match=r"broken\.pt.*not finite"):
        embed(tmp_path / "broken.pt", cells[:2], 32, "cpu")


def test_initial_weights_are_the_space_if_there_are_any():
    given = Path("some/yolov8n-cls.pt")
    parameters = ClassifierParameters(architecture="yolov8n-cls", image_size=128)
    assert reported_space(given, parameters) == ("yolov8n-cls, initial weights yolov8n-cls.pt, 128 px", given, 128)
    assert reported_space(given, ClassifierParameters(image_size=32)).image_size == LEAST_SIDE


def test_without_initial_weights_the_space_is_a_random_network_that_does_not_steer(cells):
    """No cell of the study has trained it, and what it finds near is not what the training was picked by."""
    space = reported_space(None, ClassifierParameters(image_size=32))
    assert space.checkpoint is None
    assert str(KEY) in space.name
    assert quality.KEY != KEY
    features = space.embed(cells, "cpu")
    np.testing.assert_array_equal(features, random_features(cells, KEY))
    assert np.abs(features - random_features(cells, quality.KEY)).max() > 0.01
    with pytest.raises(UserError, match="expected uint8 of shape"):
        space.embed(cells / 255, "cpu")
