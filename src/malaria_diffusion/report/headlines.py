"""One headline number for each question, with its interval, its floor and what it rests on."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from scipy.stats import t

from malaria_diffusion.questions.acquisition.measure import ALL_IMAGE_FACTORS
from malaria_diffusion.report.results import Results, only

SPOTS = "dark spots"


def headlines(results: Results, positive_class: str | None) -> dict[str, dict[str, Any]]:
    """The headline of each question, as `summary.json` and the report have it.

    Returns:
        By question: what (the number is), value, low, high, rests_on, and floor where there is one; or only what and
        reason, where nothing could be measured.
    """
    unseen, test = results.dataset_summary["unseen"], results.dataset_summary["splits"]["test"]
    cells = f"{test['cells']:,} cells of {test['people']} people"
    fidelity = results.fidelity_metrics
    found = {
        "bound": _bound(results.variational_bound),
        "accuracy": {"what": f"accuracy on {unseen}", "rests_on": cells}
        | results.classification_metrics["unseen"]["accuracy"],
        "calibration": {"what": f"expected calibration error on {unseen}", "rests_on": cells}
        | results.classification_metrics["unseen"]["ece"],
        "protocols": _protocols(results.protocols),
        "recognised": _recognised(results.recognised),
        "intensities": _intensities(results.distribution_tests),
        "descriptors": _descriptors(results.descriptor_tests),
        "associations": _associations(results.association_differences),
        "acquisition": _acquisition(results),
        "fidelity": _fidelity(fidelity, "kernel distance"),
        "diversity": _fidelity(fidelity, "coverage"),
        "novelty": _novelty(results.privacy_audit["novelty"]),
        "copies": _copies(results.privacy_audit["novelty"]),
        "membership": _membership(results.privacy_audit["membership"]),
        "utility": _utility(results.utility_metrics),
        "explanations": _explanations(results.explanations, positive_class),
        "steps": _steps(results.steps),
    }
    return found


def smallest_augmentation(table: pd.DataFrame) -> dict[str, Any] | None:
    """The row of augmentation with the fewest people: where the paper expects synthetic cells to help."""
    return only(table[table["arm"] == "augmentation"].sort_values(["share", "steps"], ascending=[True, False]))


def _bound(bound: dict[str, Any]) -> dict[str, Any]:
    name, terms = min(bound["variances"].items(), key=lambda item: item[1]["total"])
    reach = float(t.ppf(0.975, bound["people"] - 1)) * terms["standard_error"]
    return {
        "what": f"variational bound of held-out cells in bits per dimension, variance {name}",
        "value": terms["total"],
        "low": terms["total"] - reach,
        "high": terms["total"] + reach,
        "rests_on": f"{bound['images']} cells of {bound['people']} people",
    }


def _protocols(table: pd.DataFrame | None) -> dict[str, Any]:
    what = "accuracy, split by cell"
    row = None if table is None else only(table, protocol="split by cell", threshold="one half", metric="accuracy")
    if row is None:
        return {"what": what, "reason": "not run: kedro run --pipeline folds"}
    rests_on = f"{row['cells']:,} cells of {row['people']} people"
    return {"what": what, "rests_on": rests_on} | {name: row[name] for name in ("value", "low", "high")}


def _recognised(table: pd.DataFrame) -> dict[str, Any]:
    row = only(table, group="all") or {}
    return {
        "what": "share of synthetic cells recognised as intended, less that of real ones",
        "value": row["difference"],
        "low": row["low"],
        "high": row["high"],
        "synthetic": row["synthetic"],
        "real": row["real"],
        "rests_on": "people resampled for real cells, images for synthetic ones",
    }


def _intensities(table: pd.DataFrame) -> dict[str, Any]:
    row = only(table, variable="grey", group="all") or {}
    return {
        "margin": row["margin"],
        "what": "Cramer's V of grey levels",
        "value": row["v"],
        "low": row["v_low"],
        "high": row["v_high"],
        "floor": row["floor_cramers_v"],
        "rests_on": "people resampled for real cells, images for synthetic ones",
    }


def _descriptors(table: pd.DataFrame) -> dict[str, Any]:
    row = only(table[table["group"] == "all"].sort_values("ks", ascending=False)) or {}
    return {
        "what": f"largest Kolmogorov-Smirnov statistic, of {row['descriptor']}",
        "value": row["ks"],
        "low": row["low"],
        "high": row["high"],
        "floor": row["floor_ks"],
        "rests_on": f"{row['synthetic_cells']} synthetic and {row['real_cells']} real cells",
    }


def _associations(table: pd.DataFrame) -> dict[str, Any]:
    row = only(table, group="all") or {}
    return {
        "what": "mean difference of the rank correlations of descriptors",
        "value": row["difference"],
        "low": row["low"],
        "high": row["high"],
        "floor": row["floor"],
        "rests_on": "people resampled for real cells, images for synthetic ones",
    }


def _acquisition(results: Results) -> dict[str, Any]:
    what = "AUC of all image factors, real against synthetic"
    where = {"factor": ALL_IMAGE_FACTORS, "scope": "people"}
    row = only(results.acquisition_explained, target="real against synthetic", **where)
    if row is None:
        lacking = only(results.acquisition_untestable, target="real against synthetic", **where) or {}
        return {"what": what, "reason": lacking.get("reason", "too few people")}
    floor = only(results.acquisition_explained, target="real against real", **where)
    found = {"what": what, "value": row["auc"], "low": row["low"], "high": row["high"]}
    if floor:
        found["floor"] = floor["auc"]
    return found | {"rests_on": f"{row['cells']:,} cells, the real ones of {row['people']} people"}


def _fidelity(table: pd.DataFrame, metric: str) -> dict[str, Any]:
    row = only(table, metric=metric, group="all") or {}
    names = ("value", "low", "high", "floor", "floor_low", "floor_high", "difference", "difference_low")
    numbers = {name: row[name] for name in (*names, "difference_high")}
    return {"what": metric, "rests_on": f"{row['n']} cells a side"} | numbers


def _novelty(novelty: dict[str, Any]) -> dict[str, Any]:
    what = "share of synthetic cells nearer to a member than to any non-member"
    if not novelty["testable"]:
        return {"what": what, "reason": novelty["reason"]}
    rows = [row for row in novelty["comparison"] if row["group"] == "all"]
    row = max(rows, key=lambda row: row["low"])
    return {
        "what": f"{what}, in {row['space']}",
        "value": row["share"],
        "low": row["low"],
        "high": row["high"],
        "floor": 0.5,
        "rests_on": f"{row['n']} synthetic cells, {novelty['non_members']} non-members",
    }


def _copies(novelty: dict[str, Any]) -> dict[str, Any]:
    what = "share of synthetic cells that are copies"
    if not novelty["testable"]:
        return {"what": what, "reason": novelty["reason"]}
    row = next(row for row in novelty["copies"] if row["space"] == "any")
    return {
        "what": what,
        "value": row["share"],
        "low": row["low"],
        "high": row["high"],
        "floor": row["false_alarm_rate"],
        "rests_on": f"{row['n']} synthetic cells",
    }


def _membership(membership: dict[str, Any]) -> dict[str, Any]:
    what = "AUC of the attack on membership"
    if not membership["testable"]:
        return {"what": what, "reason": membership["reason"]}
    numbers = {"value": membership["auc"], "low": membership["low"], "high": membership["high"], "floor": 0.5}
    number = membership["members"] + membership["non_members"]
    return {"what": what, "rests_on": f"{number} cells of {membership['people']} people"} | numbers


def _utility(table: pd.DataFrame) -> dict[str, Any]:
    row = smallest_augmentation(table)
    what = "gain of accuracy by augmentation, fewest people"
    if row is None:
        return {"what": what, "reason": "validation.utility.shares holds no share below 1"}
    return {
        "what": what,
        "value": row["gain"],
        "low": row["gain_low"] if math.isfinite(row["gain_low"]) else None,  # of too few seeds
        "high": row["gain_high"] if math.isfinite(row["gain_high"]) else None,
        "share": row["share"],
        "floor": 0.0,
        "rests_on": f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}",
    }


def _explanations(table: pd.DataFrame, positive_class: str | None) -> dict[str, Any]:
    if positive_class is None:
        return {"what": f"localisation ratio on {SPOTS}", "reason": "no class is the positive one; see the table"}
    what = f"localisation ratio on {SPOTS} of {positive_class} real cells"
    where = {"side": "real", "label": positive_class, "mask": SPOTS}
    row, chance = (only(table, network=network, **where) for network in ("trained", "random"))
    if row is None or chance is None:
        return {"what": what, "reason": "no explained cell has both dark spots and attribution"}
    return {
        "what": what,
        "value": row["ratio"],
        "low": row["low"],
        "high": row["high"],
        "floor": chance["ratio"],
        "rests_on": f"{row['cells']} cells of {row['units']} people",
    }


def _steps(table: pd.DataFrame | None) -> dict[str, Any]:
    if table is None:
        return {"what": "effects of the number of steps", "reason": "not run: kedro run --pipeline ablation"}
    row = only(table, claim="more steps denoise better") or {}
    return {
        "what": f"kernel distance of the fewest less that of the most steps, {row['betas']} betas",
        "value": row["effect"],
        "low": row["low"],
        "high": row["high"],
        "floor": row["margin"],
        "rests_on": row["rests_on"],
    }
