"""How often intervals hold the truth, and how often verdicts say yes to a perfect generator and to bad ones.

    python benchmarks/coverage.py --json coverage.json

People are made up: of log-normal numbers of cells, a quarter healthy, some harder than others, each with a stain of its
own. What is measured of them are this package's own functions, as in the validation. Intervals state 95 %. Neighbour
scores take the longest: 400 trials a quarter of an hour on an idle processor.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest, norm
from tqdm.auto import tqdm

from malaria_diffusion.classifier.metrics import classification_metrics
from malaria_diffusion.questions.acquisition.auc import Groups, auc_interval, scores_of_others
from malaria_diffusion.questions.descriptors.measure import distance_tests
from malaria_diffusion.questions.distributions.measure import CHANNELS, alike, effect_sizes
from malaria_diffusion.questions.fidelity.measure import fidelity_table, kernel_distances, resampled
from malaria_diffusion.questions.fidelity.question import judge_similarity
from malaria_diffusion.questions.privacy.membership import rate_interval, true_positive_rate
from malaria_diffusion.questions.recognition.measure import recognised_as_intended
from malaria_diffusion.questions.utility.measure import crossed_interval
from malaria_diffusion.statistics.bootstrap import Bootstrap, Interval
from malaria_diffusion.statistics.config import ComparisonParameters
from malaria_diffusion.statistics.kernel_distance import capped
from malaria_diffusion.statistics.neighbours import Owned, Scored, left_out_scores, scored
from malaria_diffusion.studies.reader.key import Key, SealedCell
from malaria_diffusion.studies.reader.score import score_readers

PEOPLE = (35, 15)
OTHERS = {35: 108, 15: 48}  # training people of the floor, by unseen ones
MARGIN = ComparisonParameters.model_fields["margin"].default
DIMENSIONS, CELLS, BINS = 64, 1000, 64
CORRELATION = 0.09  # of the features of a person's cells, as the NLM cells have
READ = 50  # real cells on a sheet, and synthetic ones
STAIN, CELL = 0.58, 0.35  # deviation between people and between a person's cells, in that of all pixels


def sizes(rng: np.random.Generator, people: int, cells: int) -> NDArray[np.int64]:
    """Whose each of so many cells is, (cells,)."""
    share = rng.lognormal(np.log(125), 0.8, people).clip(20, 700)
    return np.repeat(np.arange(people), rng.multinomial(cells - people, share / share.sum()) + 1)


def answers(rng: np.random.Generator, people: int, scale: float = 1.0) -> pd.DataFrame:
    """Of a good classifier, whose confidence is overstated by `scale`."""
    owner = sizes(rng, people, 125 * people)
    ill = rng.random(len(owner)) < np.where(rng.random(people) < 0.25, 0, rng.beta(2, 2, people))[owner]
    score = np.where(ill, 2.9, -2.9) + rng.normal(0, 1.7, len(owner)) + rng.normal(0, 0.8, people)[owner]
    probability = 1 / (1 + np.exp(-scale * score))
    names = np.array(["healthy", "ill"])
    return pd.DataFrame(
        {
            "label": names[ill.astype(int)],
            "predicted": names[(score > 0).astype(int)],
            "person": owner.astype(str),
            "probability": probability,
            "confidence": np.maximum(probability, 1 - probability),
        }
    )


def of_classifier(trials: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Coverage of every metric of the classifier."""
    truth = {name: found["value"] for name, found in classification_metrics(answers(rng, 4000), "ill", 0.95).items()}
    rows = []
    for people in PEOPLE:
        found = [classification_metrics(answers(rng, people), "ill", 0.95) for _ in tqdm(range(trials), str(people))]
        rows += [
            {
                "what": name,
                "people": people,
                "truth": truth[name],
                "holds": np.mean([one[name]["low"] <= truth[name] <= one[name]["high"] for one in found]),
                "lies above": np.mean([one[name]["low"] > truth[name] for one in found]),
            }
            for name in truth
        ]
    return rows


def of_kernel_distance(trials: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Mean of the kernel distance of a perfect generator, whose truth is 0, and how often its interval holds that."""
    rows = []
    for people in PEOPLE:
        distances, held = [], []
        for _ in tqdm(range(trials), str(people)):
            owner, bootstrap = sizes(rng, people, CELLS), Bootstrap(200, 0.95, rng)
            centres = np.sqrt(CORRELATION) * rng.normal(size=(people, DIMENSIONS))
            real = centres[owner] + np.sqrt(1 - CORRELATION) * rng.normal(size=(CELLS, DIMENSIONS))
            synthetic = rng.normal(size=(CELLS, DIMENSIONS))
            side = resampled(capped(real), owner.astype(str), bootstrap)
            drawn = kernel_distances(side, resampled(capped(synthetic), None, bootstrap))
            low, high = bootstrap.interval(drawn[1:])
            distances.append(drawn[0])
            held.append(low <= 0 <= high)
        rows.append({"what": "kernel distance", "people": people, "mean": np.mean(distances), "holds": np.mean(held)})
    return rows


def of_people(rng: np.random.Generator, people: int, cells: int) -> Owned:
    """Features of so many people's cells."""
    owner = sizes(rng, people, cells)
    centres = np.sqrt(CORRELATION) * rng.normal(size=(people, DIMENSIONS))
    return Owned(capped(centres[owner] + np.sqrt(1 - CORRELATION) * rng.normal(size=(cells, DIMENSIONS))), owner)


def of_neighbour_scores(trials: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """How often intervals of precision to coverage hold what these are on average over new people and images, and how
    often a generator is called worse than the floor by them. The truth is the mean over the trials.
    """
    generators: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        "perfect": lambda drawn: drawn,
        "half the variance": lambda drawn: np.sqrt(0.5) * drawn,
        "shifted by half a person's deviation": lambda drawn: drawn + np.sqrt(CORRELATION) / 2,
    }
    rows = []
    for people, cells in itertools.product(PEOPLE, (CELLS, CELLS // 2)):
        found: dict[tuple[str, str], list[Scored]] = {}
        for _ in tqdm(range(trials), f"{people} people, {cells} cells"):
            real = of_people(rng, people, cells)
            floor = left_out_scores(real, of_people(rng, OTHERS[people], cells))
            for name, made in generators.items():
                images = Owned(capped(made(rng.normal(size=(cells, DIMENSIONS)))), np.arange(cells))
                for score, one in scored(left_out_scores(real, images), floor, 0.95).items():
                    found.setdefault((score, name), []).append(one)
        for (score, name), all_trials in found.items():
            row: dict[str, Any] = {"what": f"{score}, {name}", "people": people, "cells": cells}
            for part in ("value", "floor", "difference"):
                values, intervals = zip(*(getattr(one, part) for one in all_trials), strict=True)
                low, high = np.array(intervals).T
                truth = np.mean(values)
                row |= {part: truth, f"{part} holds": np.mean((low <= truth) & (truth <= high))}
            rows.append(row | {"worse than floor": np.mean([one.difference[1].high < 0 for one in all_trials])})
    return rows


def of_factors(trials: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """How often intervals of a factor's AUC hold what it is on average over new people, and lie above one half.

    For one factor and for all four; in deviations, of positive cells from others and of synthetic ones from real. The
    truth is the mean over the trials, which is about one half without effect.
    """
    rows = []
    for people, (factors, effect) in itertools.product(PEOPLE, itertools.product((1, 4), (0.0, 0.7))):
        found: dict[str, list[tuple[float, Interval]]] = {}
        for _ in tqdm(range(trials), f"{people} people, {factors} factors, effect {effect}"):
            owner, stain = sizes(rng, people, CELLS), rng.normal(size=(people, factors))
            ill = rng.random(CELLS) < np.where(rng.random(people) < 0.25, 0, rng.beta(2, 2, people))[owner]
            values = stain[owner] + rng.normal(size=(CELLS, factors))
            made = np.sqrt(2) * rng.normal(size=(CELLS, factors))
            made[:, 0] += effect
            values[:, 0] += effect * ill
            groups = Groups.make(owner.astype(str), np.zeros(CELLS, dtype=np.intp))
            scores = scores_of_others(values, ill, groups, 0)
            for scope, stratum in (("people", scores.fold), ("within person", owner)):
                found.setdefault(f"ill, {scope}", []).append(auc_interval(scores, ill, stratum, groups, 0.95))
            unit, real = np.append(owner, people + np.arange(CELLS)).astype(str), np.arange(2 * CELLS) < CELLS
            groups = Groups.make(unit, (~real).astype(np.intp))
            scores = scores_of_others(np.concatenate([values, made]), real, groups, 0)
            found.setdefault("synthetic", []).append(auc_interval(scores, real, scores.fold, groups, 0.95))
        for target, each in found.items():
            values, intervals = zip(*each, strict=True)
            low, high = np.array(intervals).T
            row = {"what": f"{factors} factors, {target}, effect {effect}", "people": people, "truth": np.mean(values)}
            held = np.mean((low <= row["truth"]) & (row["truth"] <= high))
            rows.append(row | {"holds": held, "lies above one half": np.mean(low > 0.5), "width": np.mean(high - low)})
    return rows


def histograms(rng: np.random.Generator, level: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of cells of these mean stains, (N, bins)."""
    width = np.sqrt(1 - STAIN**2 - CELL**2)
    shares = np.diff(norm.cdf((np.linspace(-4, 4, BINS + 1) - level[:, None]) / width), axis=1)
    return rng.multinomial(800, shares / shares.sum(axis=1, keepdims=True))


def of_alike(trials: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """How often generators are called alike: a perfect one, one that is off by a shift, one without variety."""
    generators: dict[str, Callable[[], NDArray[np.float64]]] = {
        "perfect": lambda: np.hypot(STAIN, CELL) * rng.normal(size=CELLS),
        "shifted by half a person's deviation": lambda: STAIN / 2 + np.hypot(STAIN, CELL) * rng.normal(size=CELLS),
        "shifted by a person's deviation": lambda: STAIN + np.hypot(STAIN, CELL) * rng.normal(size=CELLS),
        "every cell the mean one": lambda: np.zeros(CELLS),
    }
    rows = []
    for people in (*PEOPLE, 6):
        for name, level in generators.items():
            said = []
            for _ in tqdm(range(trials), f"{people}, {name}"):
                owner = sizes(rng, people, CELLS)
                real = histograms(rng, STAIN * rng.normal(size=people)[owner] + CELL * rng.normal(size=CELLS))
                effects = effect_sizes(real, owner.astype(str), histograms(rng, level()), 0.95)
                said.append(alike(BINS, people, effects.v_bound, MARGIN) == "alike")
            rows.append({"what": f"alike: {name}", "people": people, "says yes": np.mean(said)})
    return rows


def judged(right: NDArray[np.bool_], owner: NDArray[np.int64]) -> pd.DataFrame:
    """Predictions that are right, or not, of one class."""
    return pd.DataFrame({"label": "A", "predicted": np.where(right, "A", "B"), "person": owner.astype(str)})


def recognition(rng: np.random.Generator, people: int, missed: float) -> pd.DataFrame:
    """What is found where 0.97 of real cells are recognised, of each person at a rate of his own."""
    owner = sizes(rng, people, CELLS)
    real = judged(rng.random(CELLS) < rng.beta(29.1, 0.9, people)[owner], owner)
    return recognised_as_intended(real, judged(rng.random(CELLS) < 0.97 - missed, owner), 0.95)


def of_recognition(trials: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """How often the interval of the difference holds it, and what the verdict is."""
    rows = []
    for people, missed in itertools.product((*PEOPLE, 6), (0.0, 0.05, 0.1)):
        found = pd.concat(
            recognition(rng, people, missed).head(1) for _ in tqdm(range(trials), f"{people} people, {missed} missed")
        )
        row: dict[str, Any] = {"what": f"recognised, {missed:g} missed", "people": people}
        row["holds"] = float(((found["low"] <= -missed) & (-missed <= found["high"])).mean())
        rows.append(row | {verdict: (found["verdict"] == verdict).mean() for verdict in ("as real", "below")})
    return rows


def of_similarity(trials: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """How often the claim "very similar" is confirmed and refuted, of generators that are perfect but for one thing.

    The four channels are one here, and no descriptor stands out, as of a perfect generator hardly one does.
    """
    generators: dict[str, dict[str, float]] = {
        "perfect": {},
        "5 of 100 not recognised": {"missed": 0.05},
        "all features off by 0.18 deviations": {"shift": 0.18},
        "variance of all features halved": {"spread": 0.5**0.5},
        "stain off by a person's deviation": {"stain": STAIN},
        "a little of each": {"missed": 0.025, "shift": 0.09, "spread": 0.5**0.25, "stain": STAIN / 2},
    }
    descriptors = pd.DataFrame({"group": ["all"], "descriptor": ["none"], "rank_p_adjusted": [1.0]})
    rows = []
    for people, (name, bad) in itertools.product(PEOPLE, generators.items()):
        said = []
        for _ in tqdm(range(trials), f"{people}, {name}"):
            sides = {"real": of_people(rng, people, CELLS), "floor": of_people(rng, OTHERS[people], CELLS)}
            features = {side: of.features for side, of in sides.items()}
            features["synthetic"] = capped(
                bad.get("shift", 0) + bad.get("spread", 1) * rng.normal(size=(CELLS, DIMENSIONS))
            )
            labels = np.where(np.arange(CELLS) < 3, "B", "A")  # too few of the second to be measured class by class
            cells = {
                side: pd.DataFrame({"label": labels, "person": of.owner.astype(str)}) for side, of in sides.items()
            }
            cells["synthetic"] = cells["real"]
            fidelity = fidelity_table(features, cells, Bootstrap(200, 0.95, rng))
            owner = sizes(rng, people, CELLS)
            real = histograms(rng, STAIN * rng.normal(size=people)[owner] + CELL * rng.normal(size=CELLS))
            made = histograms(rng, bad.get("stain", 0) + np.hypot(STAIN, CELL) * rng.normal(size=CELLS))
            bound = effect_sizes(real, owner.astype(str), made, 0.95).v_bound
            levels = pd.DataFrame({"group": "all", "variable": CHANNELS, "verdict": alike(BINS, people, bound, MARGIN)})
            said.append(judge_similarity(recognition(rng, people, bad.get("missed", 0)), fidelity, levels, descriptors))
        verdicts = pd.Series([one.verdict.value for one in said])
        rows.append(
            {"what": f"very similar: {name}", "people": people}
            | {verdict: (verdicts == verdict).mean() for verdict in ("confirmed", "refuted")}
        )
    return rows


def of_descriptors(trials: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """How often the rank of one descriptor is at most 0.05, of generators that are off by so many deviations of cells.

    Three tenths of a descriptor's variance are people's.
    """
    rows = []
    for people, shift in itertools.product(PEOPLE, (0.0, 0.3, 0.5)):
        ranks = []
        for _ in tqdm(range(trials), f"{people} people, off by {shift}"):
            described, cells = {}, {}
            for side, number in (("real", people), ("floor", OTHERS[people])):
                owner = sizes(rng, number, CELLS)
                values = np.sqrt(0.3) * rng.normal(size=number)[owner] + np.sqrt(0.7) * rng.normal(size=CELLS)
                described[side] = pd.DataFrame({"hue": values, "empty": False})
                cells[side] = pd.DataFrame({"label": "A", "person": [f"{side} {name}" for name in owner]})
            described["synthetic"] = pd.DataFrame({"hue": shift + rng.normal(size=CELLS), "empty": False})
            cells["synthetic"] = cells["real"]
            ranks.append(distance_tests(described, cells, Bootstrap(200, 0.95, rng))["rank_p"].iloc[0])
        rows.append({"what": f"descriptor off by {shift}", "people": people, "found": np.mean(np.array(ranks) <= 0.05)})
    return rows


def of_gain(trials: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """How often the interval of a gain holds what is there: nothing, for seeds with luck and people with tastes."""
    rows = []
    for people, seeds in itertools.product(PEOPLE, (10, 20)):
        owner = np.repeat(np.arange(people), 60)
        held = 0
        for _ in tqdm(range(trials), f"{people}, {seeds} seeds"):
            luck, taste = rng.normal(0, 0.015, (seeds, 1)), rng.normal(0, 0.02, people)
            both = rng.normal(0, 0.02, (seeds, people))
            noise = rng.choice([-1.0, 0.0, 1.0], (seeds, len(owner)), p=[0.04, 0.92, 0.04])
            low, high = crossed_interval(luck + (taste + both)[:, owner] + noise, owner.astype(str), 0.95)
            held += low <= 0 <= high
        rows.append({"what": f"gain over {seeds} seeds", "people": people, "holds": held / trials})
    return rows


def of_readers(trials: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """How often the interval of readers who tell nothing apart on average holds one half, and a binomial one does.

    They have a taste for the looks of a person, which all share, and a bias towards "real"; of several, each is a
    little better or worse than guessing.
    """
    rows = []
    for people, readers, bias in itertools.product(PEOPLE, (1, 3, 5), (0.0, 1.5)):
        cells = [
            SealedCell(id=f"{kind} {n}", kind=kind, label="cell", unit=f"{kind} {n % of}", row=n)
            for kind, of in (("real", people), ("synthetic", READ))
            for n in range(READ)
        ]
        key = Key(
            secret="", seed=0, margin=0.1, confidence=0.95, images="", cells_fingerprint="", model="", classes=["cell"],
            cells=cells,
        )  # fmt: skip
        table = pd.DataFrame([cell.model_dump() for cell in cells]).assign(said_label="cell", seconds=1.0)
        unit, real = np.unique(table["unit"], return_inverse=True)[1], (table["kind"] == "real").to_numpy()
        held = binomial = 0
        for _ in tqdm(range(trials), f"{people}, {readers} readers"):
            taste, parts = rng.normal(size=people + READ)[unit], []
            for reader in range(readers):
                skill = rng.normal(0, 0.3 if readers > 1 else 0)
                said = bias + taste + skill * np.where(real, 1, -1) + rng.normal(size=len(table)) > 0
                parts.append(table.assign(reader=str(reader), said_kind=np.where(said, "real", "synthetic")))
            answered = pd.concat(parts)
            low, high = score_readers(answered, key).loc[0, ["low", "high"]]
            held += low <= 0.5 <= high
            right = int((answered["said_kind"] == answered["kind"]).sum())
            exact = binomtest(right, len(answered)).proportion_ci(0.95)
            binomial += exact.low <= 0.5 <= exact.high
        what = f"{readers} readers, bias {bias}"
        rows.append({"what": what, "people": people, "holds": held / trials, "binomial holds": binomial / trials})
    return rows


def of_attack(trials: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """How often the interval of the true positives at 1 % false ones holds what they are on average.

    Of 103 people with 7 non-members and 14 members each, as the NLM cells have; the truth is the mean over the trials.
    """
    rows = []
    for told, of_person in itertools.product((0.5, 0.6), (0.0, 0.5)):
        found = []
        for _ in tqdm(range(trials), f"attack of AUC {told}"):
            person, member = np.repeat(np.arange(103), 21), np.tile(np.arange(21) >= 7, 103)
            loss = rng.normal(size=len(person)) - np.sqrt(2) * norm.ppf(told) * member
            loss += of_person * rng.normal(size=103)[person]
            around = rate_interval(loss, member, person.astype(str), 0.01, Bootstrap(300, 0.95, rng))
            found.append((true_positive_rate(loss, member, 0.01)[0], *around))
        value, low, high = np.array(found).T
        row: dict[str, Any] = {"what": f"true positives, AUC {told}, people's deviation {of_person}", "people": 103}
        truth = value.mean()
        rows.append(row | {"truth": truth, "holds": np.mean((low <= truth) & (truth <= high))})
    return rows


PARTS: dict[str, Callable[[int, np.random.Generator], list[dict[str, Any]]]] = {
    "classifier": of_classifier,
    "recognition": of_recognition,
    "kernel distance": of_kernel_distance,
    "neighbour scores": of_neighbour_scores,
    "factors": of_factors,
    "descriptors": of_descriptors,
    "gain": of_gain,
    "alike": of_alike,
    "attack": of_attack,
    "similarity": of_similarity,
    "readers": of_readers,
}


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400, help="of each row, default 400")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS), help="default: everything")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    rows = [row for name in arguments.only for row in PARTS[name](arguments.trials, rng)]
    print(pd.DataFrame(rows).round(4).to_string(index=False, na_rep=""))
    if arguments.json:
        arguments.json.write_text(json.dumps({"trials": arguments.trials, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
