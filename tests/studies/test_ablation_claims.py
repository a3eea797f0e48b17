"""The verdicts on made-up tables in which the truth is known."""

import numpy as np
import pandas as pd
import pytest

from malaria_diffusion.studies.ablation.claims import judge_claims

STEPS = np.array([50, 100, 250, 500, 1000])
BETTER, LONGER, OVERFITTING = "more steps denoise better", "training takes longer", "few steps look like overfitting"


def table(seeds=1, **columns):
    """What a study would find; each column a function of T, the seed and the scaling, or a number."""
    values = {
        "kernel_distance": 0.05,
        "kernel_distance_error": 0.002,
        "nearest_ratio": 1.1,
        "nearest_ratio_error": 0.01,
        "closer_to_training": 0.52,
        "closer_to_training_error": 0.04,
        "training_seconds": 0.01,
        "sampling_seconds": lambda steps: steps / 1000,
        "loss_gap": 0.02,
        "alpha_bar_last": 0.0,
        "floor_kernel_distance": 0.005,
        "floor_kernel_distance_high": 0.01,
    } | columns
    parts = []
    for betas in ("unscaled", "scaled"):
        for seed in range(seeds):
            part = pd.DataFrame({"timesteps": STEPS, "betas": betas, "seed": seed})
            part["identity"] = [f"{seed} {steps} {'' if steps == 1000 else betas}" for steps in STEPS]
            parts.append(
                part.assign(**{name: made(STEPS) if callable(made) else made for name, made in values.items()})
            )
    return pd.concat(parts, ignore_index=True)


def judged(found, claim, betas="unscaled"):
    claims = judge_claims(found)
    return claims[(claims["claim"] == claim) & claims["betas"].isin([betas, "both"])].iloc[0]


def falling(steps):
    return 0.02 + 2 / steps


@pytest.mark.parametrize(
    ("columns", "verdict"),
    [
        ({"kernel_distance": falling}, "confirmed"),
        ({"kernel_distance": lambda steps: 0.1 - falling(steps)}, "refuted"),
        ({"kernel_distance": 0.05}, "refuted"),
        # better, but by less than what real people differ by
        ({"kernel_distance": lambda steps: 0.02 + 0.1 / steps}, "refuted"),
        ({"kernel_distance": falling, "kernel_distance_error": 0.02}, "not decided"),
        # the ends differ, but what lies between them has no order: the chance of a training may be as large
        ({"kernel_distance": np.array([0.06, 0.02, 0.05, 0.07, 0.02])}, "not decided"),
        ({"kernel_distance": np.array([0.06, 0.02, 0.05, 0.02, 0.05]), "kernel_distance_error": 0.01}, "not decided"),
    ],
)
def test_more_steps_denoise_better(columns, verdict):
    found = judged(table(**columns), BETTER)
    assert found["verdict"] == verdict
    assert found["low"] <= found["effect"] <= found["high"]


def test_scaled_and_unscaled_betas_are_judged_apart():
    found = table(kernel_distance=falling)
    found.loc[found["betas"] == "scaled", "kernel_distance"] = 0.022
    assert judged(found, BETTER, "unscaled")["verdict"] == "confirmed"
    assert judged(found, BETTER, "scaled")["verdict"] == "refuted"


@pytest.mark.parametrize(
    ("growth", "noise", "verdict"),
    [(0.0, 0.01, "refuted"), (-0.3, 0.01, "refuted"), (0.5, 0.01, "confirmed"), (0.1, 0.01, "not decided"),
     (0.0, 0.5, "not decided")],
)  # fmt: skip
def test_training_takes_longer(growth, noise, verdict):
    wobble = noise * np.array([1, -1, 0.5, -0.5, 0.2])
    seconds = 0.01 * (1 + growth) ** (np.log(STEPS / 50) / np.log(20)) * (1 + wobble)
    found = judged(table(training_seconds=seconds), LONGER)
    assert found["verdict"] == verdict
    assert found["rests_on"] == "9 trainings"  # the one at the reference T stands in the table twice
    assert found["effect"] == pytest.approx(growth, abs=noise)


@pytest.mark.parametrize(
    ("columns", "verdict"),
    [
        ({"nearest_ratio": 1.1 - 20 / STEPS, "closer_to_training": 0.7}, "confirmed"),
        # smooth images: close to the training cells, and as close to others
        ({"nearest_ratio": 1.1 - 20 / STEPS}, "not decided"),
        ({"nearest_ratio": 1.1}, "refuted"),
        # images of few steps lie far off, as they do when they start from the wrong noise: no overfitting
        ({"nearest_ratio": 1.0 + 20 / STEPS}, "refuted"),
        # closer with few steps, but no closer than new cells are
        ({"nearest_ratio": 1.3 - 10 / STEPS}, "refuted"),
        ({"nearest_ratio": 1.1 - 20 / STEPS, "nearest_ratio_error": 0.2, "closer_to_training": 0.7}, "not decided"),
        # as overfitted with many steps: it is not the few that do it
        ({"nearest_ratio": 0.7, "closer_to_training": 0.7}, "not decided"),
    ],
)
def test_few_steps_look_like_overfitting(columns, verdict):
    assert judged(table(**columns), OVERFITTING)["verdict"] == verdict


def test_with_more_seeds_the_interval_holds_the_chance_of_a_training():
    rng = np.random.default_rng(0)
    found = table(seeds=4)
    found["kernel_distance"] += rng.normal(0, 0.02, len(found))  # ten times what the images say
    one = judged(found[found["seed"] == 0], BETTER)
    four = judged(found, BETTER)
    assert four["high"] - four["low"] > 2 * (one["high"] - one["low"])
    assert "one for each T" in one["rests_on"]
    assert "20 trainings, 4 for each T" in four["rests_on"]


@pytest.mark.parametrize("seeds", [1, 3])
def test_where_nothing_depends_on_the_steps_hardly_anything_is_confirmed(seeds):
    rng = np.random.default_rng(1)
    confirmed = []
    for _ in range(80):
        found = table(seeds, floor_kernel_distance_high=0.0, closer_to_training=0.7)
        for column in ("kernel_distance", "nearest_ratio", "training_seconds"):
            # trainings differ by far more than the images of one say
            found[column] *= np.exp(rng.normal(0, 0.3, len(found)))
        confirmed.append(judge_claims(found[found["betas"] == "unscaled"])["verdict"] == "confirmed")
    assert np.mean(confirmed, axis=0).max() < 0.12


def test_two_values_of_t_decide_nothing_that_needs_a_trend():
    found = table(kernel_distance=falling)
    found = found[found["timesteps"].isin([50, 1000])]
    assert judged(found, BETTER)["verdict"] == "not decided"
