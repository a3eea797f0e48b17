"""What arms hold, and what they are worth: nested people, equal parts, paired gains."""

import itertools
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from malaria_diffusion.classifier.config import ClassifierParameters, Recipe
from malaria_diffusion.diffusion.config import (
    NetworkParameters,
    Prediction,
    ProcessParameters,
    SamplingParameters,
    ScheduleKind,
)
from malaria_diffusion.diffusion.training.checkpoint import CheckpointError
from malaria_diffusion.diffusion.training.data import TrainingData
from malaria_diffusion.errors import Remedy, UserError
from malaria_diffusion.questions.utility import measure as utility
from malaria_diffusion.questions.utility import small_ddpm
from malaria_diffusion.questions.utility.config import Arm, UtilityParameters
from malaria_diffusion.questions.utility.measure import EPOCHS, cells_shown, crossed_interval, run_trial, utility_table
from malaria_diffusion.questions.utility.small_ddpm import cells_of_small_ddpm, small_training
from malaria_diffusion.questions.utility.trials import Trial, part_of_each, rows_of_share, training_set, trials

from ..toys import toy_training


def people(infected=20, healthy=10, cells=10):
    rows = [
        {"person": f"P{number:02d}", "label": "ill" if number < infected and cell % 2 else "well"}
        for number in range(infected + healthy)
        for cell in range(cells)
    ]
    table = pd.DataFrame(rows)
    return table.assign(
        name=[f"{row.person}_{place}" for place, row in enumerate(table.itertuples())],
        sha256=[f"{place:064d}" for place in range(len(table))],
        split=np.where(table["person"].str[1:].astype(int) % 5 == 0, "test", "train"),
        audit=np.arange(len(table)) % 20 == 7,
    )


# --- who is given ---


def test_a_smaller_share_is_part_of_a_larger_and_the_last_is_everyone():
    table = people()
    shares = [set(rows_of_share(table, share, seed=1)) for share in (0.05, 0.1, 0.25, 0.6, 1.0)]
    for fewer, more in itertools.pairwise(shares):
        assert fewer <= more
    assert shares[-1] == set(np.flatnonzero((table["split"] == "train") & ~table["audit"]))


def test_every_stratum_is_there_whatever_the_share_and_people_come_whole():
    table = people()
    for seed in range(5):
        part = table.iloc[rows_of_share(table, 0.01, seed)]
        assert part.groupby("person")["label"].nunique().tolist() in ([1, 2], [2, 1])
        whole = table[table["person"].isin(part["person"]) & ~table["audit"]]
        assert set(part.index) == set(whole.index)


def test_seeds_choose_other_people():
    table = people()
    chosen = {tuple(table["person"].iloc[rows_of_share(table, 0.25, seed)].unique()) for seed in range(5)}
    assert len(chosen) == 5


def test_a_class_that_only_audit_cells_have_is_missed():
    table = people().assign(audit=lambda frame: frame["label"] == "ill")
    with pytest.raises(UserError, match=r"no cell of \['ill'\]"):
        rows_of_share(table, 0.25, 0)


# --- what is given ---


def source(number, mark, classes=(0, 1), ill=0.2):
    labels = (np.random.default_rng(mark).random(number) < ill).astype(np.int64) * (len(classes) - 1)
    labels[: len(classes)] = classes
    return np.full((number, 3, 4, 4), mark, np.uint8), labels


NOTHING = (np.zeros((0, 3, 4, 4), np.uint8), np.zeros(0, np.int64))


def marks_and_labels(given):
    return given.cells[given.train_rows, 0, 0, 0], given.labels[given.train_rows]


@pytest.mark.parametrize("synthetic", [NOTHING, source(500, 2)])
def test_every_arm_keeps_all_its_real_cells_and_classes_are_equal(synthetic):
    real, val = source(60, 1), source(7, 3)
    given = training_set(real, synthetic, val, 400, 1.0, seed=0)
    marks, labels = marks_and_labels(given)
    assert set(given.train_rows[marks == 1]) == set(range(60))
    assert given.real == 60
    assert np.bincount(labels).tolist() == [200, 200]
    assert given.synthetic == len(set(given.train_rows[marks == 2]))
    if len(synthetic[1]):
        for label in (0, 1):  # as many on top, of each class
            of_class = labels == label
            assert len(set(given.train_rows[of_class & (marks == 2)])) == (real[1] == label).sum()
            times = np.bincount(given.train_rows[of_class])
            times = times[times > 0]
            assert times.max() - times.min() <= 1
    assert (given.cells[given.val_rows] == 3).all()
    assert sorted(given.labels[given.val_rows]) == sorted(val[1])


def test_every_epoch_of_a_walk_holds_all_classes_alike():
    given = training_set(source(200, 1, ill=0.05), source(100, 2), source(7, 3), 400, 0.5, seed=1)
    for part in given.labels[given.train_rows].reshape(4, 100):
        assert np.bincount(part).tolist() == [50, 50]


@pytest.mark.parametrize(("ratio", "expected"), [(0.1, 5), (1.0, 50), (100.0, 200)])
def test_the_share_of_synthetic_cells_is_as_asked_or_all_there_are(ratio, expected):
    real, synthetic = source(50, 1, ill=0.0), source(200, 2, ill=0.0)
    assert abs(training_set(real, synthetic, source(5, 3), 2000, ratio, 0).synthetic - expected) <= 1


def test_a_training_too_short_for_all_cells_says_how_many_it_showed():
    given = training_set(source(300, 1, ill=0.5), source(300, 2, ill=0.5), source(5, 3), 100, 1.0, 0)
    assert given.real + given.synthetic == 100
    assert 30 < given.real < 70


def test_of_synthetic_cells_alone_all_are_shown():
    given = training_set(NOTHING, source(40, 2, ill=0.5), source(5, 3), 200, 1.0, 0)
    assert (given.real, given.synthetic) == (0, 40)


def test_too_few_steps_are_refused():
    with pytest.raises(UserError, match="steps"):
        training_set(source(30, 1), NOTHING, source(5, 3), 1, 1.0, 0)


def test_as_many_real_cells_are_as_many_of_each_class():
    like = (np.zeros((9, 3, 4, 4), np.uint8), np.array([0] * 6 + [1] * 3))
    cells, labels = part_of_each(source(300, 1, ill=0.5), like, 0)
    assert np.bincount(labels).tolist() == [6, 3]
    assert len(cells) == 9
    assert len(part_of_each(source(4, 1, ill=0.5), like, 0)[1]) == 4


def test_of_fewer_arms_only_what_they_are_held_against_is_added():
    asked = UtilityParameters(shares=[0.1, 1.0], seeds=[0], steps=40, ddpm_images=10, arms=[Arm.SHARING, Arm.SYNTHETIC])
    listed = trials(asked)
    assert {trial.arm for trial in listed} == {Arm.REAL, Arm.SHARING, Arm.SYNTHETIC, Arm.MATCHED}
    assert {trial.reference for trial in listed} <= set(listed)
    everything = trials(asked.model_copy(update={"arms": list(Arm)}))
    assert [trial for trial in everything if trial in set(listed)] == listed
    assert trials(asked.model_copy(update={"arms": [Arm.REAL]})) == [
        trial for trial in everything if trial.arm is Arm.REAL
    ]


def test_what_leaves_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match=r"\['augmentation'\] leave nothing to train"):
        UtilityParameters(shares=[1.0], arms=[Arm.AUGMENTATION])
    assert trials(UtilityParameters(shares=[0.5, 1.0], seeds=[0], arms=[Arm.AUGMENTATION]))
    assert trials(UtilityParameters(shares=[1.0], seeds=[0], arms=[Arm.AUGMENTATION, Arm.SYNTHETIC]))


def test_all_arms_once_for_each_seed():
    listed = trials(UtilityParameters(shares=[0.1, 1.0], seeds=[0, 7], steps=40, ddpm_images=10))
    assert len(set(listed)) == len(listed) == 14
    assert {trial.steps for trial in listed} == {40}
    assert [(trial.arm, trial.share) for trial in listed if trial.seed == 7] == [
        (Arm.SYNTHETIC, 0.0),
        (Arm.MATCHED, 1.0),
        (Arm.REAL, 0.1),
        (Arm.AUGMENTATION, 0.1),
        (Arm.SHARING, 0.1),
        (Arm.REAL, 1.0),
        (Arm.SHARING, 1.0),
    ]


@pytest.mark.parametrize("steps", [[], [900, 300], [300, 300], 3, [2, 300]])
def test_numbers_of_steps_must_rise(steps):
    with pytest.raises(ValueError, match="steps"):
        UtilityParameters(shares=[1.0], seeds=[0], steps=steps, ddpm_images=10)


@pytest.mark.parametrize("shares", [[0.5], [1.0, 0.5], [0.5, 0.5, 1.0], [0.0, 1.0], []])
def test_shares_must_rise_to_all(shares):
    with pytest.raises(ValueError, match="shares"):
        UtilityParameters(shares=shares, seeds=[0], steps=40, ddpm_images=10)


# --- what it is worth ---


def judged(rates, seed=0, cells=40):
    """Predictions of a classifier that is right with each person's rate."""
    rng = np.random.default_rng(seed)
    label = np.tile(["ill", "well"], len(rates) * cells // 2)
    right = rng.random(len(label)) < np.repeat(rates, cells)
    return pd.DataFrame(
        {
            "label": label,
            "predicted": np.where(right, label, np.where(label == "ill", "well", "ill")),
            "person": np.repeat([f"P{k}" for k in range(len(rates))], cells),
        }
    )


GIVEN = SimpleNamespace(real=30, synthetic=10)


def table_of(results):
    table = utility_table(results, dict.fromkeys(results, GIVEN), 0.95)
    return table.set_index(["arm", "share"])


@pytest.mark.parametrize("seeds", [2, 10])
def test_accuracy_and_gain_are_means_over_seeds(seeds):
    rates = {(Arm.REAL, 0.1): 0.7, (Arm.MATCHED, 1.0): 0.8, (Arm.SHARING, 0.1): 0.9, (Arm.SYNTHETIC, 0.0): 0.6}
    results = {
        Trial(*key, seed, 300): judged(np.full(10, rate), seed) for seed in range(seeds) for key, rate in rates.items()
    }
    table = table_of(results)

    def accuracy(arm, share):
        tables = [results[Trial(arm, share, seed, 300)] for seed in range(seeds)]
        each = [(table["label"] == table["predicted"]).mean() for table in tables]
        row = table.loc[(arm.value, share)]
        assert row[["lowest", "highest"]].tolist() == pytest.approx([min(each), max(each)])
        return np.mean(each)

    references = {Arm.SHARING: (Arm.REAL, 0.1), Arm.SYNTHETIC: (Arm.MATCHED, 1.0)}
    for (arm, share), row in table.iterrows():
        assert row["accuracy"] == pytest.approx(accuracy(Arm(arm), share))
        reference = accuracy(*references.get(Arm(arm), (Arm(arm), share)))
        assert row["gain"] == pytest.approx(accuracy(Arm(arm), share) - reference)
        assert (row["steps"], row["real_cells"], row["synthetic_cells"]) == (300, 30, 10)
        if seeds == 10:
            assert row["low"] <= row["accuracy"] <= row["high"]
    assert (table.loc[Arm.REAL.value, "gain"] == 0).all()
    stated = table[["low", "high", "gain_low", "gain_high"]].notna()
    assert stated.all(axis=None) if seeds == 10 else not stated.any(axis=None)


def test_gains_are_paired_by_person():
    """People differ widely, the gain hardly: its interval must be far narrower than that of an accuracy."""
    rates = np.random.default_rng(3).uniform(0.4, 0.85, 30)
    results = {}
    for seed in range(10):
        results[Trial(Arm.REAL, 1.0, seed, 300)] = judged(rates, seed, 200)
        results[Trial(Arm.SHARING, 1.0, seed, 300)] = judged(rates + 0.1, seed, 200)
    row = table_of(results).loc[(Arm.SHARING.value, 1.0)]
    assert row["gain"] == pytest.approx(0.1, abs=0.02)
    assert row["gain_high"] - row["gain_low"] < (row["high"] - row["low"]) / 3


def test_budgets_are_judged_apart():
    results = {
        Trial(arm, 1.0, 0, steps): judged(np.full(8, rate), steps)
        for steps, arm, rate in (
            (100, Arm.REAL, 0.6),
            (100, Arm.SHARING, 0.9),
            (900, Arm.REAL, 0.9),
            (900, Arm.SHARING, 0.6),
        )
    }
    table = utility_table(results, dict.fromkeys(results, GIVEN), 0.95)
    gains = table[table["arm"] == "data sharing"].set_index("steps")["gain"]
    assert gains[100] > 0.2
    assert gains[900] < -0.2


def gain_of_nothing(rng, seeds, people=35, cells=60):
    """Gains of cells by an arm that differs from the other in its seeds' luck and people's taste alone."""
    of_seed = rng.normal(0, 0.015, (seeds, 1))
    of_person = np.repeat(rng.normal(0, 0.02, people), cells)
    both = np.repeat(rng.normal(0, 0.02, (seeds, people)), cells, axis=1)
    noise = rng.choice([-1.0, 0.0, 1.0], (seeds, people * cells), p=[0.04, 0.92, 0.04])
    return of_seed + of_person + both + noise, np.repeat(np.arange(people), cells).astype(str)


def test_the_interval_of_a_gain_holds_nothing_where_there_is_none():
    """95 of 100, to three standard errors; the bootstrap of two seeds held it in 85 and less."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        low, high = crossed_interval(*gain_of_nothing(rng, 10), 0.95)
        held += low <= 0 <= high
    assert 0.915 * 300 <= held <= 0.99 * 300


def test_a_gain_is_found_where_there_is_one():
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(50):
        values, people = gain_of_nothing(rng, 10)
        found += crossed_interval(values + 0.03, people, 0.95).low > 0
    assert found > 40


# --- what is trained ---

CLASSIFIER = ClassifierParameters(
    architecture="yolov8n-cls",
    weights=None,
    image_size=32,
    epochs=9,
    batch_size=8,
    optimizer="SGD",
    learning_rate=0.01,
    momentum=0.9,
    weight_decay=0,
    warmup_epochs=3,
    final_learning_rate_fraction=0.1,
    kept_epoch="best",
    flips=True,
    colour=0.0,
    test_time_augmentation=False,
    precision="float32",
    seed=5,
    device="cpu",
)


def test_steps_are_equal_whatever_is_given():
    assert cells_shown(40, CLASSIFIER) / CLASSIFIER.batch_size == 40
    assert cells_shown(43, CLASSIFIER) / EPOCHS % CLASSIFIER.batch_size == 0


def test_a_trial_may_run_in_another_process():
    asked = (Trial(Arm.REAL, 1.0, 3, 300), training_set(source(20, 1), NOTHING, source(5, 2), 16, 1.0, 0))
    trial, given, recipe = pickle.loads(pickle.dumps((*asked, Recipe(CLASSIFIER, Path("here")))))
    assert (trial, recipe.parameters, recipe.folder) == (asked[0], CLASSIFIER, Path("here"))
    assert np.array_equal(given.cells, asked[1].cells)
    error = pickle.loads(pickle.dumps(UserError("too few", Remedy.DATA)))
    assert (str(error), error.remedy) == ("too few", Remedy.DATA)


def test_a_judged_trial_is_not_judged_again(tmp_path, monkeypatch):
    trained, asked = [], []

    def train(data, parameters, folder, weights):
        trained.append(parameters)
        (tmp_path / "run" / "weights").mkdir(parents=True, exist_ok=True)
        return tmp_path / "run" / "weights" / "best.pt", pd.DataFrame()

    def predict(checkpoint, cells, device):
        asked.append(len(cells))
        time.sleep(0.2)
        return np.tile(np.array([[0.3, 0.7]], np.float32), (len(cells), 1))

    monkeypatch.setattr(utility, "train_classifier", train)
    monkeypatch.setattr(utility, "predict", predict)
    given = training_set(source(20, 1), NOTHING, source(5, 2), 16, 1.0, 0)

    def run(test):
        return run_trial(Trial(Arm.REAL, 1.0, 3, 300), given, ["well", "ill"], test, Recipe(CLASSIFIER, tmp_path))

    some, others = np.zeros((12, 3, 8, 8), np.uint8), np.ones((7, 3, 8, 8), np.uint8)
    with ThreadPoolExecutor(2) as side_by_side:  # as two arms that are given the same cells
        first, again = side_by_side.map(run, [some, some])
    assert np.array_equal(first, again)
    assert asked == [12]
    assert (trained[0].epochs, trained[0].seed, trained[0].warmup_epochs) == (EPOCHS, 3, 1)
    assert (trained[0].flips, trained[0].colour, trained[0].kept_epoch) == (True, 0.1, "last")
    assert run(others).shape == (7, 2)
    assert asked == [12, 7]


TRAINING = toy_training(epochs=8, batch_size=16, decay_epochs=8, quality_epochs=2, quality_images=200)


@pytest.mark.parametrize(("rows", "images"), [(1000, 5000), (50, 5000), (10, 400), (5000, 100)])
def test_a_small_training_sees_about_as_many_images(rows, images):
    training = small_training(TRAINING, rows, images, 2, seed=4)
    per_epoch = rows // training.batch_size * training.batch_size
    assert abs(training.epochs * per_epoch - images) <= max(per_epoch / 2, per_epoch - images)
    assert training.decay_epochs == training.quality_epochs == training.epochs
    assert training.seed == 4
    assert small_training(TRAINING.model_copy(update={"decay_epochs": None}), rows, images, 2, 4).decay_epochs is None


def test_a_small_ddpm_is_trained_once_on_its_people_alone(tmp_path, monkeypatch):
    cells = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), np.uint8)
    data = TrainingData(cells, np.arange(60) % 2, np.arange(0, 32), np.arange(40, 60), 2, "these 32")
    process = ProcessParameters(
        timesteps=10, schedule=ScheduleKind.LINEAR, beta_start=1e-3, beta_end=0.3, prediction=Prediction.V
    )
    network = NetworkParameters(channels=[8, 8], layers_per_block=1, attention_sides=[], norm_groups=4, dropout=0)
    sampling = SamplingParameters(count=1, evaluations=4, batch_size=5, precision="float32", device="cpu")
    labels = np.array([0, 0, 1, 1, 1])
    training = small_training(TRAINING, 32, 64, 2, seed=0)

    def generate(data, **changes):
        like, trained = SimpleNamespace(process=process, network=network), training.model_copy(update=changes)
        return cells_of_small_ddpm(data, like, trained, sampling, labels, tmp_path)

    first = generate(data)
    assert first.shape == (5, 3, 8, 8)
    assert first.dtype == np.uint8
    trained = []
    monkeypatch.setattr(small_ddpm, "train", lambda *arguments: trained.append(arguments))
    assert np.array_equal(generate(data), first)
    assert not trained
    with pytest.raises(CheckpointError):  # other people: another training, which is not read from here
        generate(data._replace(train_rows=np.arange(8, 40), fingerprint="those 32"))
    assert len(trained) == 1
    with pytest.raises(CheckpointError):  # weights of another epoch to guide by, which were not kept
        generate(data, guide_epochs=1)
    assert len(trained) == 2
