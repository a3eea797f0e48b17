"""Every benchmark of the DDPM runs at its smallest and writes the figures it promises. How fast is never asked here."""

import importlib.util
import json
import math
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from .processes import run_forked
from .toys import toy_training

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MISSING = [package for package in ("accelerate", "datasets") if importlib.util.find_spec(package) is None]
NO_PEER = ["--no-peer"] if MISSING else []
needs_peer = pytest.mark.skipif(bool(MISSING), reason=f'{MISSING} not installed: pip install -e ".[benchmark]"')
COMMON = ["--device", "cpu", "--threads", "1"]
NETWORK = ["--size", "16", "--channels", "8", "16", "--norm-groups", "4", "--precision", "float32"]
ROUNDS = ["--rounds", "1", "--steps", "2", "--warm", "1", "--images", "16", "--batch", "4"]
# a compiled network would take a minute: with this what is to be compiled runs as it is
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}


def start(script, *options, **environment):
    return run_forked(
        BENCHMARKS / f"{script}.py", *map(str, options), folder=BENCHMARKS, variables=ENVIRONMENT | environment
    )


def figures_of(script, folder, *options, **environment):
    path = folder / f"{script}.json"
    result = start(script, *COMMON, *options, "--json", path, **environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.strip()
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def training_speed(tmp_path_factory):
    small = ["--matmul-side", 64, "--copy-mib", 1]
    return figures_of("training_speed", tmp_path_factory.mktemp("speed"), *NETWORK, *ROUNDS, *small, *NO_PEER)


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    small = ["--batch", 4, "--steps", 1, "--images", 16, "--sampled", 4, 130]
    folder = tmp_path_factory.mktemp("memory")
    return figures_of("memory", folder, *NETWORK, *small, *NO_PEER, FORK_FRESH_PROCESSES="1")


@pytest.fixture(scope="module")
def resume_cost(tmp_path_factory):
    small = ["--batch", 4, "--cells", 64, "--rounds", 1, "--minutes", 0.03, "--checkpoint-seconds", 0.5]
    folder = tmp_path_factory.mktemp("resume")
    return figures_of("resume_cost", folder, *NETWORK, *small, *NO_PEER, FORK_FRESH_PROCESSES="1")


def is_positive(value):
    return math.isfinite(value) and value > 0


def numbers(value):
    """All numbers within."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, int | float) else []


def test_training_speed(training_speed):
    found = training_speed["batches"]["4"]
    assert {"ours_eager", "ours_compiled"} <= found["images_per_second"].keys()
    for key in ("images_per_second", "fraction_of_roofline", "roofline", "losses"):
        assert all(is_positive(number) for number in numbers(found[key])), key
    assert found["compile_seconds"] >= 0
    assert isinstance(found["losses_fall"], bool)


@needs_peer
def test_training_speed_beside_diffusers(training_speed):
    found = training_speed["batches"]["4"]
    assert {"peer_default", "peer_best"} <= found["images_per_second"].keys()
    ratios = ("ratio_to_default", "ratio_to_best", "eager_ratio_to_default", "eager_ratio_to_best")
    assert all(is_positive(found[key]) for key in ratios)
    assert str(found["peer_workers"]) in found["peer_trial_seconds"]


def test_feed_speed(tmp_path):
    found = figures_of("feed_speed", tmp_path, *NETWORK, *ROUNDS)["batches"]["4"]
    assert {"feed", "training_steps", "steps_without_feed", found["best_peer"]} <= found["images_per_second"].keys()
    assert all(is_positive(number) for number in numbers(found["images_per_second"]))
    assert 0 < found["waiting_share"] < 1
    assert all(math.isfinite(found[key]) for key in ("cost_share", "feed_to_steps", "feed_to_peer", "goal"))


def test_memory(memory):
    ours = {"training_accumulation_1", "training_accumulation_4", "sampling_few", "sampling_many"}
    assert ours <= memory["peak_mib"].keys()
    assert all(is_positive(number) for number in numbers(memory["peak_mib"]))
    assert memory["above_imports_mib"].keys() == memory["peak_mib"].keys()
    assert memory["output_mib"] == {"sampling_few": 4 * 3 * 16**2 / 2**20, "sampling_many": 130 * 3 * 16**2 / 2**20}
    assert all(is_positive(memory[key]) for key in ("sampling_ratio_without_output", "accumulation_ratio"))


@needs_peer
def test_memory_beside_diffusers(memory):
    assert {"peer_training", "peer_training_mixed"} <= memory["peak_mib"].keys()
    assert all(is_positive(memory[key]) for key in ("ratio_to_peer", "ratio_to_peer_mixed"))


def test_resume_cost(resume_cost):
    parts = {"imports", "building", "loading", "first_step", "total"}
    assert resume_cost["restart_seconds"]["ours"].keys() == parts
    for key in ("restart_seconds", "save_seconds", "checkpoint_mib", "fingerprint_seconds", "share_by_policy"):
        assert all(is_positive(number) for number in numbers(resume_cost[key])), key
    assert resume_cost["checkpoints_written"] > 0
    assert 0 < resume_cost["checkpoint_share"] < 1
    assert resume_cost["goals_met"].keys() == {"restart", "checkpoint_share"}


@needs_peer
def test_resume_cost_beside_accelerate(resume_cost):
    assert "peer" in resume_cost["restart_seconds"]
    assert all(is_positive(resume_cost[key]) for key in ("restart_ratio_to_peer", "save_ratio_to_peer"))


@pytest.fixture
def model_and_cells(tmp_path):
    """Options for a model with random weights, and cells of three splits."""
    import torch

    from malaria_diffusion.diffusion.config import NetworkParameters, ProcessParameters
    from malaria_diffusion.diffusion.model import DiffusionModel, Lineage
    from malaria_diffusion.diffusion.network.unet import build_network
    from malaria_diffusion.diffusion.process.gaussian import GaussianDiffusion

    process = ProcessParameters(
        timesteps=8, schedule="linear", beta_start=0.01, beta_end=0.5, prediction="v_prediction"
    )
    network = NetworkParameters(channels=[8, 8], layers_per_block=1, attention_sides=[], norm_groups=4, dropout=0.0)
    lineage = Lineage(
        identity="0123456789abcdef",
        epochs=1,
        images_seen=16,
        cells_fingerprint="cells",
        training_cells_fingerprint="training cells",
        class_names=["A", "B"],
        size=8,
        training_people=["train1"],
        training_people_hash="people",
        training_cells=["0123456789abcdef"],
        phantom=True,
        process=process,
        network=network,
        training=toy_training(),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DiffusionModel(build_network(network, 8, 2).eval(), GaussianDiffusion.from_parameters(process), lineage)
    model.save(tmp_path / "model")
    splits = np.repeat(["train", "val", "test"], 20)
    table = pd.DataFrame(
        {"label": ["A", "B"] * 30, "split": splits, "person": np.char.add(splits, "1"), "audit": False}
    )
    table.to_parquet(tmp_path / "table.parquet")
    cells = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "cells.npy", cells)
    places = ["--model", tmp_path / "model", "--cells", tmp_path / "cells.npy", "--table", tmp_path / "table.parquet"]
    small = ["--images", 8, "--evaluations", 4, 6, "--speed-images", 2, "--ancestral-steps", 3, "--rounds", 1]
    return [*places, *small, "--work", tmp_path / "work", "--figure", tmp_path / "curve.png"]


def test_sampling_speed(model_and_cells, tmp_path):
    found = figures_of("sampling_speed", tmp_path, *model_and_cells)
    solvers = {"ddim", "dpm-solver++", "sde-dpm-solver++", "unipc"}
    assert found["solvers"].keys() == found["evaluations_equal"].keys() == found["ratio_to_ancestral"].keys() == solvers
    for one in (found["floor"], found["ancestral"], *(found["solvers"][name]["6"] for name in solvers)):
        assert len(one["values"]) == 5
        assert all(math.isfinite(number) for number in numbers(one))
    assert all(is_positive(number) for number in found["images_per_second"].values())
    assert found["ancestral_ratio_to_peer"].keys() == {"float32", "bfloat16"}
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").iterdir()}
    assert len(kept) == 5 * 9


def test_what_counts_as_good_as_the_ancestral_sampler(monkeypatch):
    """How often is yes said to as good a solver, to one at the margin, and to worse ones? Does noise help?"""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from sampling_speed import MARGIN, is_as_good

    rng = np.random.default_rng(0)

    def said_yes(times, noise):
        ancestral = rng.normal(1, 0.07, (1000, 5))  # as much as sets of 200 images differed from seed to seed
        solver = times * rng.normal(1, noise, (1000, 5))
        return np.mean([is_as_good(*pair) for pair in zip(solver, ancestral, strict=True)])

    assert said_yes(1.0, 0.1) > 0.9
    for noise in (0.05, 0.1, 0.3):
        assert said_yes(1 + MARGIN, noise) < 0.08
        assert said_yes(1.5, noise) < 0.03
    assert said_yes(1.0, 0.3) < said_yes(1.0, 0.1)
    assert is_as_good([-0.01] * 5, [0.001, 0.002, 0.0, 0.003, -0.001])  # near the floor a ratio would mean nothing


def test_a_model_of_held_out_people_is_refused(model_and_cells, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import sampling_speed

    table = pd.read_parquet(tmp_path / "table.parquet")
    table.replace({"person": {"val1": "train1"}}).to_parquet(tmp_path / "table.parquet")
    monkeypatch.setattr(sys, "argv", ["sampling_speed", *COMMON, *map(str, model_and_cells)])
    with pytest.raises(SystemExit, match="trained on people of the split val: train1"):
        sampling_speed.main()


@pytest.mark.parametrize("script", ["training_speed", "memory", "resume_cost"])
def test_what_the_peer_lacks_is_said_in_one_sentence(script, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module(script)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setattr(sys, "argv", [script])
    with pytest.raises(SystemExit, match=r"'accelerate'.*pip install -e \"\.\[benchmark\]\""):
        module.main()


@pytest.mark.parametrize(
    "script",
    [
        "training_speed",
        "feed_speed",
        "sampling_speed",
        "memory",
        "resume_cost",
        "contention",
        "coverage",
        "gate",
        "diffusion_settings",
    ],
)
def test_help(script):
    result = start(script, "--help")
    assert result.returncode == 0, result.stderr
    assert f"usage: {script}" in result.stdout


@pytest.fixture
def contention(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    import contention

    return contention


def test_contention_is_measured_in_a_fresh_process(contention):
    found = contention.measure({}, steps=1, threads=1, batch=2)
    assert found.keys() == {"alone", "beside"}
    assert all(is_positive(speed) for speed in found.values())


def test_contention_compares_what_it_has_measured(contention, tmp_path, monkeypatch):
    asked = []

    def measure(environment, steps, threads, batch):
        asked.append((environment, steps, threads))
        assert batch == 16
        if threads == 1:
            return {"alone": 4.0, "beside": 4.0}
        return {"alone": 8.0, "beside": 2.0} if environment else {"alone": 6.0, "beside": 5.0}

    monkeypatch.setattr(contention, "measure", measure)
    asked_for = ["--rounds", "2", "--steps", "3", "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", ["contention", "--threads", "2", *asked_for])
    contention.main()
    ways = [({}, 3, 2), (contention.SPINNING, 3, 2), ({}, 3, 1)]
    assert asked == ways + ways[::-1]  # in turns
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["images_per_second"] == {
        "as shipped, alone": 6,
        "spinning, alone": 8,
        "one thread, alone": 4,
        "as shipped, beside": 5,
        "spinning, beside": 2,
        "one thread, beside": 4,
    }
    assert found["as_shipped_over"] == {
        "spinning, alone": 0.75,
        "one thread, alone": 1.5,
        "spinning, beside": 2.5,
        "one thread, beside": 1.25,
    }


def test_coverage(tmp_path):
    parts = ["classifier", "recognition", "kernel distance", "neighbour scores", "factors", "gain", "alike"]
    parts += ["attack", "descriptors", "readers"]
    result = start("coverage", "--trials", 1, "--only", *parts, "--json", tmp_path / "coverage.json")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = pd.DataFrame(json.loads((tmp_path / "coverage.json").read_text())["rows"])
    assert rows[["holds", "says yes"]].stack().dropna().between(0, 1).all()
    assert {"accuracy", "ece", "kernel distance", "alike: perfect", "3 readers, bias 1.5"} <= set(rows["what"])
    assert set(rows["people"]) == {35, 15, 6, 103}


def test_a_generator_that_is_off_in_one_way_is_not_very_similar(monkeypatch):
    spec = importlib.util.spec_from_file_location("simulated_coverage", BENCHMARKS / "coverage.py")
    coverage = importlib.util.module_from_spec(spec)  # not as "coverage", which is a package that others look for
    spec.loader.exec_module(coverage)
    monkeypatch.setattr(coverage, "CELLS", 800)
    monkeypatch.setattr(coverage, "PEOPLE", (35,))
    monkeypatch.setattr(coverage, "CORRELATION", 0.01)
    found = pd.DataFrame(coverage.of_similarity(1, np.random.default_rng(3))).set_index("what")
    assert found.index[found["confirmed"] == 1].tolist() == ["very similar: perfect"]
    assert found.loc["very similar: all features off by 0.18 deviations", "refuted"] == 1


def test_gate(tmp_path):
    result = start("gate", "--trials", 1, "--people", 12, "--json", tmp_path / "gate.json")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = pd.DataFrame(json.loads((tmp_path / "gate.json").read_text())["rows"]).set_index("model")
    assert rows.drop(columns="people").stack().isin([0, 1]).all()
    assert (rows["gate"] <= rows.drop(columns=["gate", "people"]).min(axis=1)).all()
    assert rows.loc["5 of 100 are copies", "copies"] == 0
    assert rows.loc["perfect", "membership"] == 1


def test_diffusion_settings(tmp_path):
    people = np.repeat(["train", "val", "test"], [40, 24, 16])
    labels = np.tile(["ill", "well"], 40)
    table = pd.DataFrame({"label": labels, "split": people, "person": people, "audit": False, "name": "cell"})
    table.to_parquet(tmp_path / "table.parquet")
    np.save(tmp_path / "cells.npy", np.random.default_rng(0).integers(0, 256, (80, 3, 16, 16), np.uint8))
    work = tmp_path / "work"
    places = ["--cells", tmp_path / "cells.npy", "--table", tmp_path / "table.parquet", "--work", work]
    names = ["Adam", "patches, Muon, around log SNR 0"]
    result = start("diffusion_settings", *places, "--settings", names[0], "--images", 8, "--speeds-only")
    assert result.returncode == 0, result.stdout + result.stderr
    speeds = json.loads((work / "speeds-1-threads.json").read_text())
    assert speeds.keys() == {names[0]}
    assert is_positive(speeds[names[0]])
    asked = ["diffusion_settings", *places, "--settings", *names, "--images", 8, "--seeds", 0, 1]
    # a budget is images: the same whatever the machine does while they are seen
    (work / "speeds-1-threads.json").write_text(json.dumps({names[0]: 0.8, names[1]: 1.6}))
    path = tmp_path / "settings.json"
    asked += ["--minutes", 1, "--json", path]
    result = start(*asked)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = json.loads(path.read_text())["rows"]
    assert [row["setting"] for row in rows] == names
    for row, images in zip(rows, (48, 96), strict=True):
        assert len(row["seeds"]) == 2
        for seed in row["seeds"]:
            # what does not fill a batch of 16 waits for another epoch, of which there are two or three
            assert images - 3 * 15 <= seed["images_seen"] <= images
            assert all(math.isfinite(value) for value in seed.values())
            assert {"kernel_distance", "precision", "recall", "loss", "loss_0", "loss_5"} <= seed.keys()
        assert row["seeds"][0] != row["seeds"][1]
    kept = {place: place.stat().st_mtime_ns for place in work.rglob("checkpoint.safetensors")}
    assert len(kept) == 4
    assert start(*asked).stdout == result.stdout  # nothing is trained or measured again
    assert {place: place.stat().st_mtime_ns for place in work.rglob("checkpoint.safetensors")} == kept


def test_classifier_parity(tmp_path):
    rng = np.random.default_rng(0)
    splits = np.repeat(["train", "val", "test"], [16, 8, 8])
    labels = np.tile(["ill", "well"], 16)
    np.save(tmp_path / "cells.npy", rng.integers(0, 256, (32, 3, 32, 32), np.uint8))
    pd.DataFrame({"label": labels, "split": splits, "audit": False}).to_parquet(tmp_path / "table.parquet")
    places = ["--cells", tmp_path / "cells.npy", "--table", tmp_path / "table.parquet", "--work", tmp_path / "work"]
    path = tmp_path / "parity.json"
    result = start("classifier_parity", *places, "--epochs", 1, "--seeds", 2, "--json", path)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(path.read_text())
    for who in ("ours", "ultralytics"):
        assert len(found[who]["accuracy"]) == 2
        assert all(0 <= accuracy <= 1 for accuracy in found[who]["accuracy"])
        assert all(is_positive(seconds) for seconds in found[who]["seconds"])
    assert np.mean(found["ours"]["accuracy"]) - np.mean(found["ultralytics"]["accuracy"]) == pytest.approx(
        found["difference"]
    )


def test_classifier_settings(tmp_path):
    rng = np.random.default_rng(0)
    people = np.arange(24).repeat(4)
    labels = np.tile(["Parasitized", "Uninfected"], 48)
    table = pd.DataFrame({"label": labels, "split": np.where(people < 20, "train", "test"), "audit": people % 10 == 0})
    np.save(tmp_path / "cells.npy", rng.integers(0, 256, (96, 3, 32, 32), np.uint8))
    table.assign(person=[f"P{person}" for person in people]).to_parquet(tmp_path / "table.parquet")
    places = ["--cells", tmp_path / "cells.npy", "--table", tmp_path / "table.parquet", "--work", tmp_path / "work"]
    path = tmp_path / "settings.json"
    settings = ["--settings", "AdamW, batch 64", "its best epoch"]
    asked = ["classifier_settings", *places, "--folds", 2, "--seeds", 2, "--json", path, *settings]
    result = start(*asked)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "80 cells of 20 people" in result.stdout  # none of them of the test
    found = pd.read_json(path)
    views = ["one view", "eight views", "eight views, all seeds together"]
    assert list(zip(found["setting"], found["views"], strict=True)) == [(s, v) for s in settings[1:] for v in views]
    wrong, by_all = map(int, re.search(r"(\d+) cells are wrong by any .* a fold, (\d+) by all", result.stdout).groups())
    errors = 80 * (1 - found[found["views"] == "eight views"][["highest_seed", "lowest_seed"]].to_numpy())
    assert by_all <= round(errors.min()) <= round(errors.max()) <= wrong
    assert (found["lowest_seed"] <= found["accuracy"]).all()
    assert (found["accuracy"] <= found["highest_seed"]).all()
    assert found["difference"][0] == 0
    np.testing.assert_allclose(found["difference"], found["accuracy"] - found["accuracy"][0], atol=1e-9)
    assert (found["accuracy_low"] <= found["accuracy"]).all()
    trained = {place: place.stat().st_mtime_ns for place in (tmp_path / "work").rglob("finished.json")}
    assert len(trained) == 4  # two seeds, two folds; the best and the last epoch are of the same training
    assert start(*asked).stdout == result.stdout
    assert {place: place.stat().st_mtime_ns for place in (tmp_path / "work").rglob("finished.json")} == trained
