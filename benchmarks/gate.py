"""How often the gate, with the rules of conf/base, passes a perfect generator and ones that are bad in one way each.

    python benchmarks/gate.py --json gate.json

People and cells are made up as in coverage.py; what is measured of them, and judged, are this package's own functions.
The rule about the accuracy of the classifier is left out, as it says nothing of a generator.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from coverage import CELLS, CORRELATION, DIMENSIONS, PEOPLE, sizes
from numpy.typing import NDArray
from scipy.stats import binomtest, norm
from tqdm.auto import tqdm

from malaria_diffusion.questions.fidelity.measure import Side, kernel_distances, resampled
from malaria_diffusion.questions.privacy.membership import stratified_auc
from malaria_diffusion.questions.recognition.measure import recognised_as_intended
from malaria_diffusion.statistics.bootstrap import Bootstrap
from malaria_diffusion.statistics.jackknife import Jackknife
from malaria_diffusion.statistics.kernel_distance import capped
from malaria_diffusion.statistics.neighbours import LeftOut, Owned, left_out_scores, scored
from malaria_diffusion.studies.gate.config import GateParameters
from malaria_diffusion.studies.gate.judge import gate_table

RULES = Path(__file__).parents[1] / "conf/base/parameters_gate.yml"
OTHERS, RESAMPLES = 100, 200  # training people of the floor
FALSE_ALARMS = 0.01
AUDITED = (49, 4, 8)  # people, and non-members and members of each
# each is perfect but for one thing
GENERATORS: dict[str, dict[str, float]] = {
    "perfect": {},
    "all features off by 0.3 deviations": {"shift": 0.3},
    "variance of all features halved": {"spread": 0.5**0.5},
    "only 50 different images": {"modes": 50},
    "10 of 100 not recognised": {"missed": 0.1},
    "5 of 100 are copies": {"copied": 0.05},
    "members told by an AUC of 0.65": {"told": 0.65},
    # as far as the bounds: what passes by luck
    "all features off by 0.18 deviations": {"shift": 0.18},
    "5 of 100 not recognised": {"missed": 0.05},
    "2 of 100 are copies": {"copied": 0.02},
    "members told by an AUC of 0.6": {"told": 0.6},
}
Floats = NDArray[np.float64]


def of_people(rng: np.random.Generator, people: int) -> tuple[Floats, NDArray[np.str_]]:
    """Features of their cells, (cells, dimensions), and whose they are."""
    owner = sizes(rng, people, CELLS)
    centres = np.sqrt(CORRELATION) * rng.normal(size=(people, DIMENSIONS))
    return centres[owner] + np.sqrt(1 - CORRELATION) * rng.normal(size=(CELLS, DIMENSIONS)), owner.astype(str)


def features_of(rng: np.random.Generator, bad: dict[str, float]) -> Floats:
    """Of synthetic cells, (cells, dimensions)."""
    drawn = rng.normal(size=(CELLS, DIMENSIONS))
    if "modes" in bad:
        drawn = drawn[rng.integers(int(bad["modes"]), size=CELLS)] + 0.1 * rng.normal(size=drawn.shape)
    return bad.get("shift", 0.0) + bad.get("spread", 1.0) * drawn


def fidelity(rng: np.random.Generator, people: int, generators: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Headlines of fidelity and diversity of each, against the same people, as `fidelity_table` has them."""
    bootstrap = Bootstrap(RESAMPLES, 0.95, rng)
    real, floor = (resampled(capped(x), who, bootstrap) for x, who in (of_people(rng, people), of_people(rng, OTHERS)))

    def measured(side: Side) -> tuple[Floats, LeftOut]:
        return kernel_distances(real, side), left_out_scores(Owned(*real[:2]), Owned(*side[:2]))

    distance_of_floor, scores_of_floor = measured(floor)
    rows = []
    for bad in generators:
        distance, scores = measured(resampled(capped(features_of(rng, bad)), None, bootstrap))
        apart = distance - distance_of_floor
        coverage = scored(scores, scores_of_floor, 0.95)["coverage"]
        row: dict[str, Any] = {}
        for name, value, difference, (low, high) in (
            ("fidelity", float(distance[0]), float(apart[0]), bootstrap.interval(apart[1:])),
            ("diversity", coverage.value[0], *coverage.difference),
        ):
            row[name] = {"value": value, "difference": difference, "difference_low": low, "difference_high": high}
        rows.append(row)
    return rows


def recognised(rng: np.random.Generator, people: int, missed: float) -> dict[str, Any]:
    """Headline of recognition, where real cells are recognised at rates about 0.97 that differ between people."""
    owner = sizes(rng, people, CELLS)

    def judged(right: NDArray[np.bool_]) -> pd.DataFrame:
        return pd.DataFrame({"label": "A", "predicted": np.where(right, "A", "B"), "person": owner.astype(str)})

    real = judged(rng.random(CELLS) < rng.beta(29.1, 0.9, people)[owner])
    made = judged(rng.random(CELLS) < 0.97 - missed)
    row = recognised_as_intended(real, made, 0.95).iloc[0]
    return {"recognised": {"value": row["difference"], "low": row["low"], "high": row["high"]}}


def copies(rng: np.random.Generator, copied: float) -> dict[str, Any]:
    """Headline of copies, false alarms included."""
    found = int(rng.binomial(CELLS, copied + (1 - copied) * FALSE_ALARMS))
    low, high = binomtest(found, CELLS).proportion_ci(0.95)
    return {"copies": {"value": found / CELLS, "low": low, "high": high, "floor": FALSE_ALARMS}}


def membership(rng: np.random.Generator, told: float) -> dict[str, Any]:
    """Headline of the attack on membership."""
    people, outside, inside = AUDITED
    person = np.repeat(np.arange(people), outside + inside)
    member = np.tile(np.arange(outside + inside) >= outside, people)
    loss = rng.normal(size=len(person)) - np.sqrt(2) * norm.ppf(told) * member

    def measure(weights: Floats) -> dict[str, float]:
        kept = weights > 0
        return {"auc": stratified_auc(loss[kept], member[kept], person[kept])}

    jackknife = Jackknife(measure, person.astype(str), 0.95)
    interval = jackknife.share("auc")
    return {"membership": {"value": jackknife.values["auc"]} | interval._asdict()}


def headlines(rng: np.random.Generator, people: int) -> dict[str, dict[str, Any]]:
    """Of one study, by generator; what is not bad in a generator is as the perfect one's."""
    known = [bad if bad.keys() & {"shift", "spread", "modes"} else {} for bad in GENERATORS.values()]
    looks = iter(fidelity(rng, people, [{}, *(bad for bad in known if bad)]))
    perfect = next(looks) | recognised(rng, people, 0.0) | copies(rng, 0.0) | membership(rng, 0.5)
    found = {}
    for (name, bad), look in zip(GENERATORS.items(), known, strict=True):
        found[name] = perfect | (next(looks) if look else {})
        found[name] |= recognised(rng, people, bad["missed"]) if "missed" in bad else {}
        found[name] |= copies(rng, bad["copied"]) if "copied" in bad else {}
        found[name] |= membership(rng, bad["told"]) if "told" in bad else {}
    return found


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="of each row, default 200")
    parser.add_argument("--people", type=int, nargs="+", default=list(PEOPLE), help="unseen ones, default 35 15")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    rules = GateParameters(**yaml.safe_load(RULES.read_text())["gate"]).kept
    del rules["accuracy"]
    tables = []
    for people in arguments.people:
        for trial in tqdm(range(arguments.trials), f"{people} people"):
            rest: dict[str, Any] = {"dataset": {}, "ddpm": {}, "classifier": {}}
            summaries = {name: rest | {"headlines": found} for name, found in headlines(rng, people).items()}
            tables.append(gate_table(summaries, rules).assign(people=people, trial=trial))
    table = pd.concat(tables)
    passed = table.pivot_table(index=["model", "people", "trial"], columns="rule", values="passed", aggfunc="all")
    passed["gate"] = passed.all(axis=1)
    rates = passed.groupby(["model", "people"], sort=False).mean()[[*rules, "gate"]]
    rates = rates.reindex(pd.MultiIndex.from_product([GENERATORS, arguments.people], names=["model", "people"]))
    print(rates.round(3).to_string())
    if arguments.json:
        rows = rates.reset_index().to_dict("records")
        arguments.json.write_text(json.dumps({"trials": arguments.trials, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
