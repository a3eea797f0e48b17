import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
import torch
from pydantic import ValidationError
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.data import ClassifierData
from malaria_diffusion.classifier.predictor import load_predictor, predict
from malaria_diffusion.classifier.sandbox import private_ultralytics
from malaria_diffusion.classifier.trainer import resolve_weights, train_classifier
from malaria_diffusion.errors import UserError

TRAIN, VAL = np.arange(64), np.arange(64, 96)
NAMES = ["dark", "bright"]


def parameters(**changes) -> ClassifierParameters:
    values = {
        "image_size": 32,
        "epochs": 2,
        "batch_size": 16,
        "optimizer": "AdamW",
        "learning_rate": 0.002,
        "momentum": 0.9,
        "weight_decay": 0.01,
        "warmup_epochs": 0,
        "final_learning_rate_fraction": 0.1,
        "kept_epoch": "best",
        "flips": True,
        "colour": 0.0,
        "test_time_augmentation": False,
        "precision": "float32",
        "seed": 0,
        "device": "cpu",
    }
    return ClassifierParameters(**values | changes)


@pytest.fixture(scope="module")
def toy() -> tuple[np.ndarray, np.ndarray]:
    """Noise, and in the cells of class 1 a bright square somewhere."""
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 100, (96, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(96) % 2
    for cell in cells[1::2]:
        row, column = rng.integers(0, 16, 2)
        cell[:, row : row + 16, column : column + 16] += 120
    return cells, labels


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    return train_classifier(
        ClassifierData(*toy, NAMES, TRAIN, VAL), parameters(epochs=12), tmp_path_factory.mktemp("run")
    )


def test_a_separable_problem_is_learned(toy, trained):
    checkpoint, history = trained
    probabilities = predict(checkpoint, toy[0][VAL])
    assert (probabilities.argmax(1) == toy[1][VAL]).mean() >= 0.95
    assert history.epoch.tolist() == list(range(1, 13))
    assert history.images_seen.tolist() == [64 * epoch for epoch in range(1, 13)]
    assert history.train_loss.iloc[-1] < history.train_loss.iloc[0]


def test_the_checkpoint_kept_has_the_best_validation_accuracy(toy, trained):
    checkpoint, history = trained
    accuracy = (predict(checkpoint, toy[0][VAL]).argmax(1) == toy[1][VAL]).mean()
    assert accuracy == pytest.approx(history.val_accuracy.max(), abs=1e-4)


def test_the_last_epoch_is_kept_if_asked_for_without_training_again(toy, tmp_path):
    labels = toy[1].copy()
    labels[VAL] = 1 - labels[VAL]  # the more is learned, the worse it gets
    best, history = train_classifier(ClassifierData(toy[0], labels, NAMES, TRAIN, VAL), parameters(epochs=12), tmp_path)
    asked = parameters(epochs=12, kept_epoch="last")
    last, again = train_classifier(ClassifierData(toy[0], labels, NAMES, TRAIN, VAL), asked, tmp_path)
    pd.testing.assert_frame_equal(history, again)
    losses = []
    for checkpoint in (best, last):
        own = predict(checkpoint, toy[0][VAL])[np.arange(len(VAL)), labels[VAL]]
        losses.append(-np.log(own).mean())
    expected = history.val_loss[[history.val_accuracy[::-1].idxmax(), history.index[-1]]]
    assert abs(np.subtract(*expected)) > 0.1  # so that the two can be told apart
    np.testing.assert_allclose(losses, expected, atol=0.02)


def test_probabilities_sum_to_one_whatever_the_batch(toy, trained, monkeypatch):
    probabilities = predict(trained[0], toy[0])
    assert probabilities.shape == (96, 2)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    monkeypatch.setattr("malaria_diffusion.classifier.yolo.AT_ONCE", 7)
    np.testing.assert_allclose(predict(trained[0], toy[0]), probabilities, atol=1e-5)


def test_ultralytics_own_predictor_agrees(toy, trained):
    with private_ultralytics():
        from ultralytics import YOLO

        images = [np.ascontiguousarray(cell.transpose(1, 2, 0)[:, :, ::-1]) for cell in toy[0][:4]]  # it takes BGR
        theirs = np.stack([result.probs.data.numpy() for result in YOLO(trained[0])(images, device="cpu")])
    np.testing.assert_allclose(theirs, predict(trained[0], toy[0][:4]), atol=1e-4)


def test_the_same_seed_gives_the_same_history(toy, tmp_path):
    histories = [
        train_classifier(ClassifierData(*toy, NAMES, TRAIN, VAL), parameters(seed=seed), tmp_path / str(run))[1]
        for run, seed in enumerate((1, 1, 2))
    ]
    pd.testing.assert_frame_equal(histories[0], histories[1], check_exact=True)
    assert not histories[0].equals(histories[2])


@pytest.mark.parametrize(("optimizer", "momentum"), [("SGD", "momentum"), ("AdamW", "betas")])
def test_the_live_optimizer_is_what_the_parameters_say(toy, tmp_path, optimizer, momentum):
    chosen = parameters(optimizer=optimizer, momentum=0.8, batch_size=8, final_learning_rate_fraction=1)
    steps = []
    hook = register_optimizer_step_pre_hook(
        lambda live, args, kwargs: steps.append((type(live).__name__, [dict(group) for group in live.param_groups]))
    )
    try:
        _, history = train_classifier(ClassifierData(*toy, NAMES, TRAIN, VAL), chosen, tmp_path)
    finally:
        hook.remove()
    assert len(steps) == 2 * 64 / 8  # a step per batch: nothing is accumulated
    for name, groups in steps:
        assert name == optimizer
        assert {group["lr"] for group in groups} == {0.002}
        assert {np.ravel(group[momentum])[0] for group in groups} == {0.8}
        assert {group["weight_decay"] for group in groups} == {0.0, 0.01}
    assert history.attrs["effective"] == {
        "optimizer": optimizer,
        "learning_rate": 0.002,
        "momentum": 0.8,
        "weight_decay": 0.01,
        "batch_size": 8,
        "images_per_epoch": 64,
        "device": "cpu",
        "precision": "float32",
    }


def test_the_learning_rate_rises_from_zero_and_falls(toy, tmp_path):
    rates = []
    hook = register_optimizer_step_pre_hook(
        lambda live, args, kwargs: rates.append([g["lr"] for g in live.param_groups])
    )
    try:
        train_classifier(ClassifierData(*toy, NAMES, TRAIN, VAL), parameters(epochs=3, warmup_epochs=1), tmp_path)
    finally:
        hook.remove()
    assert (np.ptp(rates, axis=1) == 0).all()  # biases warm up like the rest
    rates = np.array(rates)[:, 0]
    np.testing.assert_allclose(rates[:5], 0.002 * np.array([0, 0.25, 0.5, 0.75, 0.7]), rtol=1e-6)
    assert (np.diff(rates[5:]) <= 0).all()


def test_augmented_cells_are_whole_cells_mirrored(toy):
    with private_ultralytics():
        from malaria_diffusion.classifier.augmentation import augment, prepare
        from malaria_diffusion.classifier.yolo import CellDataset

    cells = CellDataset(ClassifierData(*toy, tuple(NAMES), TRAIN, VAL), TRAIN, parameters())
    batch = cells.__getitems__(list(range(64)))
    seen = augment(prepare(batch["img"], 32), batch["flips"], batch["gains"])
    kinds = set()
    for image, row in zip(seen, cells.order, strict=True):
        whole = torch.from_numpy(toy[0][row] / np.float32(255))
        views = [view.rot90(turns, (-2, -1)) for view in (whole, whole.flip(-1)) for turns in range(4)]
        kinds.add(next(kind for kind, view in enumerate(views) if torch.allclose(image, view)))
    assert kinds == set(range(8))


def test_a_tint_multiplies_channels_and_leaves_black_black(toy):
    with private_ultralytics():
        from malaria_diffusion.classifier.augmentation import augment, prepare
        from malaria_diffusion.classifier.yolo import CellDataset

    images, labels = toy[0].copy(), toy[1]
    images[:, :, :8] = 0
    cells = CellDataset(
        ClassifierData(images, labels, tuple(NAMES), TRAIN, VAL), TRAIN, parameters(flips=False, colour=0.2)
    )
    batch = cells.__getitems__(list(range(64)))
    plain = prepare(batch["img"], 32)
    seen = augment(plain, batch["flips"], batch["gains"])
    assert (seen[:, :, :8] == 0).all()
    assert torch.equal(seen, (plain * batch["gains"][:, :, None, None]).clamp(max=1))
    logs = batch["gains"].log()
    assert 0.1 < logs.std() < 0.3
    assert abs(torch.corrcoef(logs.T)[0, 1]) < 0.5  # each channel its own
    first = cells.gains
    cells.start_epoch(1)
    assert not torch.equal(first, cells.gains)


def computed_in(toy, folder: Path, **changes) -> set[torch.dtype]:
    """The dtypes that convolutions give in training."""
    seen = set()

    def look(module, inputs, output) -> None:
        if isinstance(module, torch.nn.Conv2d) and module.training:
            seen.add(output.dtype)

    hook = torch.nn.modules.module.register_module_forward_hook(look)
    try:
        checkpoint, history = train_classifier(
            ClassifierData(*toy, NAMES, TRAIN, VAL), parameters(epochs=1, **changes), folder
        )
    finally:
        hook.remove()
    assert str(next(iter(seen))) == f"torch.{history.attrs['effective']['precision']}"
    assert not torch.is_autocast_enabled("cpu")
    assert predict(checkpoint, toy[0][:4]).dtype == np.float32
    return seen


def test_training_computes_in_the_precision_asked_for(toy, tmp_path):
    assert computed_in(toy, tmp_path, precision="bfloat16") == {torch.bfloat16}
    assert computed_in(toy, tmp_path, precision="float32") == {torch.float32}


def test_a_precision_that_the_device_lacks_is_refused(toy, tmp_path, monkeypatch):
    with private_ultralytics():
        from malaria_diffusion.classifier import yolo
    monkeypatch.setattr(yolo, "resolve_device", lambda name: torch.device("mps"))
    with pytest.raises(UserError, match=r"validation\.classifier\.precision` is bfloat16, which mps"):
        train_classifier(ClassifierData(*toy, NAMES, TRAIN, VAL), parameters(precision="bfloat16"), tmp_path)


@pytest.mark.parametrize("averaged", [True, False])
def test_eight_views_are_averaged_where_the_checkpoint_says_so(tmp_path, averaged):
    cells = np.random.default_rng(0).integers(0, 100, (96, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(96) % 2  # bright above or below: mirrored, a cell is of the other class
    cells[labels == 0, :, :16] += 120
    cells[labels == 1, :, 16:] += 120
    # never valid together, but only a network that has not learned from the views tells them well apart
    asked = parameters(epochs=12, flips=False).model_copy(update={"test_time_augmentation": averaged})
    checkpoint, _ = train_classifier(ClassifierData(cells, labels, NAMES, TRAIN, VAL), asked, tmp_path)
    one_view = load_predictor(checkpoint, test_time_augmentation=False)
    turned = [np.rot90(cells[:6], turns, (2, 3)) for turns in range(4)]
    each = np.array([one_view(view) for turn in turned for view in (turn, turn[..., ::-1])])
    assert np.ptp(each, axis=0).min() > 0.9
    expected = each.mean(axis=0) if averaged else each[0]
    np.testing.assert_allclose(predict(checkpoint, cells[:6]), expected, atol=1e-5)
    forced = load_predictor(checkpoint, test_time_augmentation=not averaged)(cells[:6])
    np.testing.assert_allclose(forced, each[0] if averaged else each.mean(axis=0), atol=1e-5)


def test_an_epoch_shows_each_cell_once_in_an_order_of_its_own(toy):
    with private_ultralytics():
        from malaria_diffusion.classifier.yolo import CellDataset

    cells = CellDataset(ClassifierData(*toy, tuple(NAMES), TRAIN, VAL), TRAIN, parameters())
    orders = []
    for epoch in (0, 1, 0):
        cells.start_epoch(epoch)
        orders.append(cells.order)
    assert all(sorted(order) == TRAIN.tolist() for order in orders)
    assert (orders[0] == orders[2]).all()
    assert (orders[0] != orders[1]).any()


def test_a_single_cell_left_over_is_skipped(toy, tmp_path):
    _, history = train_classifier(ClassifierData(*toy, NAMES, TRAIN[:33], VAL), parameters(epochs=1), tmp_path)
    assert history.images_seen.tolist() == [32]


@contextmanager
def counted_steps() -> Iterator[list[torch.optim.Optimizer]]:
    """Every step of an optimizer, as they come."""
    steps = []
    hook = register_optimizer_step_pre_hook(lambda live, args, kwargs: steps.append(live))
    try:
        yield steps
    finally:
        hook.remove()


class Killed(BaseException):
    pass


def kill_in_epoch(epoch: int):
    def on_epoch(record: dict[str, float]) -> None:
        if record["epoch"] == epoch:
            raise Killed

    return on_epoch


@pytest.mark.parametrize("changes", [{}, {"colour": 0.1, "precision": "bfloat16"}])
def test_a_killed_run_goes_on_where_it_was(toy, tmp_path, changes):
    asked = parameters(epochs=4, **changes)
    whole = train_classifier(ClassifierData(*toy, NAMES, TRAIN, VAL), asked, tmp_path / "whole")[1]
    with pytest.raises(Killed):
        train_classifier(ClassifierData(*toy, NAMES, TRAIN, VAL), asked, tmp_path / "run", on_epoch=kill_in_epoch(3))
    records = []
    with counted_steps() as steps:
        checkpoint, history = train_classifier(
            ClassifierData(*toy, NAMES, TRAIN, VAL), asked, tmp_path / "run", on_epoch=records.append
        )
    assert len(steps) == 2 * 4  # the last two epochs only
    assert history.epoch.tolist() == [1, 2, 3, 4]
    assert records == history.to_dict("records")
    pd.testing.assert_frame_equal(history[:2], whole[:2])
    np.testing.assert_allclose(history.learning_rate, whole.learning_rate)
    np.testing.assert_allclose(history.train_loss, whole.train_loss, atol=0.1)
    assert np.isfinite(predict(checkpoint, toy[0])).all()


def test_a_finished_run_is_not_trained_again(toy, trained):
    checkpoint, history = trained
    before, records = checkpoint.read_bytes(), []
    again = train_classifier(
        ClassifierData(*toy, NAMES, TRAIN, VAL), parameters(epochs=12), checkpoint.parents[2], on_epoch=records.append
    )
    assert again[0] == checkpoint
    assert checkpoint.read_bytes() == before
    pd.testing.assert_frame_equal(again[1], history)
    assert again[1].attrs == history.attrs
    assert records == history.to_dict("records")


@pytest.mark.parametrize(
    ("name", "epoch", "call", "epochs_left"),
    [
        ("write_bytes", 2, 1, 2),  # of the last checkpoint
        ("copyfile", 1, 1, 2),  # of the best
        ("strip_optimizer", 3, 1, 0),
        ("strip_optimizer", 3, 2, 0),
        ("dumps", 3, 1, 0),  # of the record
    ],
)
def test_a_kill_in_the_middle_of_a_file_costs_an_epoch_at_most(
    toy, tmp_path, monkeypatch, name, epoch, call, epochs_left
):
    with private_ultralytics():
        from malaria_diffusion.classifier import yolo

    owner = {"write_bytes": Path, "copyfile": shutil, "strip_optimizer": yolo, "dumps": json}[name]
    whole, records, calls = getattr(owner, name), [], []

    def torn(*arguments):
        if len(records) == epoch:
            calls.append(arguments)
        if len(calls) < call:
            return whole(*arguments)
        for path in [argument for argument in arguments if isinstance(argument, str | Path)][-1:]:
            with Path(path).open("wb") as file:
                file.write(b"torn")
        raise Killed

    data, asked = ClassifierData(*toy, NAMES, TRAIN, VAL), parameters(epochs=3)
    undisturbed = train_classifier(data, asked, tmp_path / "whole")[1]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(owner, name, torn)
        train_classifier(data, asked, tmp_path / "run", on_epoch=records.append)
    records.clear()
    with counted_steps() as steps:
        checkpoint, history = train_classifier(data, asked, tmp_path / "run", on_epoch=records.append)
    assert len(steps) == 4 * epochs_left
    assert records == history.to_dict("records")
    assert history.attrs == undisturbed.attrs
    done = 3 - epochs_left
    pd.testing.assert_frame_equal(history[:done], undisturbed[:done])
    assert {path.name for path in checkpoint.parent.iterdir()} == {"best.pt", "last.pt"}
    for path in checkpoint.parent.iterdir():
        assert torch.load(path, weights_only=False)["optimizer"] is None
        assert np.isfinite(predict(path, toy[0])).all()


def test_where_the_last_checkpoint_is_damaged_the_best_is_gone_on_with(toy, tmp_path):
    data, asked = ClassifierData(*toy, NAMES, TRAIN, VAL), parameters(epochs=3)
    with pytest.raises(Killed):
        train_classifier(data, asked, tmp_path, on_epoch=kill_in_epoch(2))
    (last,) = tmp_path.rglob("last.pt")
    last.write_bytes(last.read_bytes()[:1000])
    with counted_steps() as steps:
        _, history = train_classifier(data, asked, tmp_path)
    assert len(steps) == 2 * 4
    assert history.epoch.tolist() == [1, 2, 3]


@pytest.mark.parametrize("change", ["parameters", "data", "torn files"])
def test_another_run_is_not_resumed(toy, tmp_path, change):
    cells, labels = toy
    with pytest.raises(Killed):
        train_classifier(
            ClassifierData(cells, labels, NAMES, TRAIN, VAL), parameters(), tmp_path, on_epoch=kill_in_epoch(2)
        )
    if change == "torn files":
        for checkpoint in tmp_path.rglob("*.pt"):
            checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    chosen = parameters(seed=1) if change == "parameters" else parameters()
    labels = labels[::-1] if change == "data" else labels
    with counted_steps() as steps:
        _, history = train_classifier(ClassifierData(cells, labels, NAMES, TRAIN, VAL), chosen, tmp_path)
    assert len(steps) == 2 * 4
    assert history.epoch.tolist() == [1, 2]


def test_initial_weights_fill_all_but_a_head_of_other_classes(toy, trained, tmp_path):
    with private_ultralytics():
        from ultralytics.nn.tasks import ClassificationModel

        from malaria_diffusion.classifier.checkpoint import read_model, transfer_weights

        theirs = read_model(trained[0])[0].state_dict()
        for classes in (2, 3):
            model = ClassificationModel("yolov8n-cls.yaml", nc=classes, verbose=False)
            transfer_weights(trained[0], model, "yolov8n-cls")
            copied = {name for name, value in model.state_dict().items() if torch.equal(value, theirs[name])}
            head = {"model.9.linear.weight", "model.9.linear.bias"}
            assert theirs.keys() - copied == (set() if classes == 2 else head)


def test_weights_of_another_architecture_are_refused(toy, trained, tmp_path):
    with pytest.raises(ValueError, match=r"does not hold a yolov8s-cls.*validation\.classifier\.architecture"):
        train_classifier(
            ClassifierData(*toy, NAMES, TRAIN, VAL),
            parameters(architecture="yolov8s-cls"),
            tmp_path,
            weights=trained[0],
        )


class Payload:
    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("archive", [True, False])
def test_a_malicious_file_is_refused_and_does_not_run(toy, tmp_path, archive):
    file, trace = tmp_path / "weights.pt", tmp_path / "trace"
    torch.save({"model": Payload(trace)}, file, _use_new_zipfile_serialization=archive)
    with pytest.raises(ValueError, match=rf"{os.mkdir.__module__}\.mkdir" if archive else "cannot be read"):
        train_classifier(ClassifierData(*toy, NAMES, TRAIN, VAL), parameters(), tmp_path / "run", weights=file)
    with pytest.raises(ValueError, match=r"weights\.pt"):
        predict(file, toy[0])
    assert not trace.exists()


def test_no_python_writes_a_file_that_is_refused():
    code = (  # what Python 3.11.2 does
        "import pickle, torchvision.transforms.functional as F;"
        "import malaria_diffusion.classifier.checkpoint;"
        "F.InterpolationMode.__reduce_ex__ = lambda self, protocol: (getattr, (type(self), self.name));"
        "print(pickle.dumps(F.InterpolationMode.BILINEAR, 2))"
    )
    written = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "bilinear" in written
    assert "getattr" not in written


def test_a_diverging_run_ends_with_one_sentence(toy, tmp_path, monkeypatch):
    with private_ultralytics():
        from ultralytics.utils.loss import v8ClassificationLoss
    whole = v8ClassificationLoss.__call__

    def diverging(self, preds, batch):
        loss, _ = whole(self, preds, batch)
        return loss * torch.inf, {"loss": loss.detach() * torch.inf}

    monkeypatch.setattr(v8ClassificationLoss, "__call__", diverging)
    said = r"in epoch 1 the training loss became nan, expected .*; lower `validation\.classifier\.learning_rate`"
    with pytest.raises(UserError, match=said):
        train_classifier(ClassifierData(*toy, NAMES, TRAIN, VAL), parameters(), tmp_path)


def test_too_little_memory_ends_with_one_sentence(toy, tmp_path, monkeypatch):
    with private_ultralytics():
        from malaria_diffusion.classifier.yolo import CellTrainer

    def full(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CellTrainer, "preprocess_batch", full)
    with pytest.raises(UserError, match=r"takes more memory than cpu has; lower `validation\.classifier\.batch_size`"):
        train_classifier(ClassifierData(*toy, NAMES, TRAIN, VAL), parameters(), tmp_path)


def test_weights_that_diverge_after_the_last_loss_of_an_epoch_are_found(toy, tmp_path):
    steps = []

    def diverging(optimizer, args, kwargs):
        steps.append(optimizer)
        if len(steps) == 2 * 4:
            optimizer.param_groups[0]["params"][0].data.fill_(torch.nan)

    hook = register_optimizer_step_post_hook(diverging)
    try:
        with pytest.raises(UserError, match="in epoch 2 the validation loss became nan"):
            train_classifier(ClassifierData(*toy, NAMES, TRAIN, VAL), parameters(), tmp_path)
    finally:
        hook.remove()


def test_weights_are_found_by_path_then_by_name(tmp_path):
    file = tmp_path / "yolov8n-cls.pt"
    file.touch()
    assert resolve_weights(None, tmp_path) is None
    assert resolve_weights(str(file), tmp_path / "elsewhere") == file
    assert resolve_weights(file.name, tmp_path) == file


def test_an_official_file_is_downloaded_once(tmp_path, monkeypatch):
    with private_ultralytics():
        from ultralytics.utils import downloads
    asked = []
    monkeypatch.setattr(requests, "head", lambda url, timeout: requests.models.Response())
    monkeypatch.setattr(requests.models.Response, "raise_for_status", lambda self: None)
    monkeypatch.setattr(downloads, "attempt_download_asset", lambda file, **kwargs: asked.append(file) or file.touch())
    assert resolve_weights("yolov8n-cls.pt", tmp_path) == resolve_weights("yolov8n-cls.pt", tmp_path)
    assert asked == [tmp_path / "yolov8n-cls.pt"]


@pytest.mark.parametrize(("weights", "reason"), [("yolov8n-cls.pt", "ConnectionError"), ("mine.pt", "official")])
def test_missing_weights_are_one_clear_sentence(tmp_path, monkeypatch, weights, reason):
    def offline(*args, **kwargs):
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "head", offline)
    with pytest.raises(UserError, match=rf"{weights}.*{reason}.*`validation\.classifier\.weights`") as caught:
        resolve_weights(weights, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": np.zeros((96, 32, 32, 3), np.uint8)}, r"\(96, 32, 32, 3\).*\(N, 3, S, S\)"),
        ({"cells": np.zeros((96, 3, 32, 32), np.float32)}, "float32.*uint8"),
        ({"labels": np.zeros(95, int)}, r"\(95,\).*\(96,\)"),
        ({"labels": np.full(96, 2)}, r"\[2\].*0\.\.1"),
        ({"train_rows": np.array([0, 96])}, r"train_rows.*0\.\.95"),
        ({"val_rows": np.array([], int)}, "val_rows must be at least 1"),
        ({"val_rows": np.array([63, 64])}, "1 cells are in both"),
    ],
)
def test_unfit_data_is_refused(toy, tmp_path, change, message):
    data = ClassifierData(*toy, NAMES, TRAIN, VAL)._replace(**change)
    with pytest.raises(ValueError, match=message):
        train_classifier(data, parameters(), tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"image_size": 48}, {"image_size": 16}, {"architecture": "resnet18"}, {"batch_size": 1}, {"epochz": 1}],
)
def test_unfit_parameters_are_refused(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        parameters(**change)


def test_eight_views_are_refused_of_a_network_that_learned_from_one():
    with pytest.raises(ValidationError, match="test_time_augmentation needs flips"):
        parameters(flips=False, test_time_augmentation=True)


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
pillows_open = Image.open
from malaria_diffusion.classifier.config import ClassifierParameters
from malaria_diffusion.classifier.data import ClassifierData
from malaria_diffusion.classifier.predictor import predict
from malaria_diffusion.classifier.trainer import train_classifier
assert not {"torch", "ultralytics"} & sys.modules.keys(), "importing the module is not cheap"
cells = np.random.default_rng(0).integers(0, 256, (24, 3, 40, 40), dtype=np.uint8)
parameters = ClassifierParameters.model_validate_json(sys.argv[1])
rows = np.arange(24)
data = ClassifierData(cells, rows % 2, ["a", "b"], rows[:16], rows[16:])
checkpoint, _ = train_classifier(data, parameters, Path(sys.argv[2]))
predict(checkpoint, cells)
assert Image.open is pillows_open, "Pillow now looks for a package before it says that bytes are no image"
assert not {"mlflow", "wandb", "kedro"} & sys.modules.keys(), "an experiment tracker was imported"
"""


def test_nothing_is_written_outside_the_folder(tmp_path):
    places = {name: tmp_path / name for name in ("home", "here", "temp", "run")}
    for place in places.values():
        place.mkdir()
    environment = os.environ | {"HOME": str(places["home"]), "TMPDIR": str(places["temp"])}
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "YOLO_CONFIG_DIR", "MPLCONFIGDIR", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, parameters(epochs=1).model_dump_json(), str(places["run"])],
        cwd=places["here"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert {path.parts[0] for path in written} == {"run"}
    inside = ["/".join(path.parts[2:]) for path in written if path.suffix != ".lock"]  # which some versions leave
    assert inside == ["args.yaml", "finished.json", "weights/best.pt", "weights/last.pt"]
