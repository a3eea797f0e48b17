"""The paper's claims, each judged by one rule on this run's numbers.

A claim that an interval does not settle is "not decided"; one that this run has no numbers for is "not testable".
On phantom cells and other images nothing about malaria is testable, and the numbers are shown all the same.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

import pandas as pd

from malaria_diffusion.questions.distributions.measure import CHANNELS
from malaria_diffusion.report.results import Results, only
from malaria_diffusion.report.text import interval, number, p_value, percent, signed
from malaria_diffusion.studies.ablation.claims import RULE

PAPERS_ACCURACY = 0.97
PAPERS_IMAGES = 27_558
ALPHA = 0.05
FIT_MARGIN = 0.1
# an audit that misses half of the copies planted in it says nothing by finding none
FEWEST_CAUGHT = 0.5
STEP_CLAIMS = ("more steps denoise better", "training takes longer", "few steps look like overfitting")

RULES = {
    "Accuracy": "confirmed if 0.97 lies within or below the interval of the accuracy by a split of cells; refuted if "
    "above it.",
    "Optimal fit": "refuted if the validation loss of the last epoch is over a tenth above that of the best one "
    "(overfitted), or the training loss still fell by over a tenth in the last fifth of the epochs (underfitted); "
    "never confirmed, as no loss curve shows an optimum.",
    "Intensities": "confirmed if the grey, red, green and blue levels of all cells are alike (V's upper bound within "
    "the margin); refuted if the resplit rank of any of them has q < 0.05.",
    "Very similar": "refuted if the difference of cells recognised, or of any measure of fidelity from its floor, "
    "has an interval wholly on the worse side of zero; confirmed only if none has, the intensities are alike, and no "
    "descriptor's rank has q < 0.05.",
    "Steps": RULE + ". Where unscaled and scaled betas disagree: not decided.",
    "Help": "confirmed if the interval of the gain by augmentation, with the fewest people, lies above 0; refuted if "
    "below. Of fewer than ten seeds there is no interval.",
    "Privacy": "refuted if synthetic cells lie nearer to members (interval above 0.5), if there are more copies than "
    "false alarms, or if the attack's interval lies above 0.5. Never confirmed: audits that find nothing do not show "
    "that nothing is there, and no guarantee (differential privacy) is given.",
}


class Verdict(StrEnum):
    """What this run says of a claim."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    NOT_DECIDED = "not decided"
    NOT_TESTABLE = "not testable"


class Judged(NamedTuple):
    """A verdict and, in a few words, why."""

    verdict: Verdict
    why: str


class Claim(NamedTuple):
    """One line of the table: what, the paper, this run, the verdict, and the section that says more."""

    what: str
    paper: str
    here: str
    judged: Judged
    section: str


class Setting(NamedTuple):
    """How the paper did something, and how this run does it."""

    what: str
    paper: str
    here: str


def judge_accuracy(accuracy: dict[str, Any]) -> Judged:
    """The accuracy of a split by cell against the paper's."""
    if "reason" in accuracy:
        return Judged(Verdict.NOT_TESTABLE, "not run: kedro run --pipeline folds")
    if accuracy["high"] < PAPERS_ACCURACY:
        return Judged(Verdict.REFUTED, "0.97 is above the interval")
    return Judged(Verdict.CONFIRMED, "0.97 is within or below the interval")


def fit_of(history: pd.DataFrame) -> dict[str, Any]:
    """What `judge_fit` judges.

    Args:
        history: One row an epoch of the classifier: epoch, train_loss, val_loss.
    """
    best = history.iloc[int(history["val_loss"].to_numpy().argmin())]
    earlier, last = history.iloc[max(0, round(0.8 * len(history)) - 1)], history.iloc[-1]
    return {
        "epochs": int(last["epoch"]),
        "best_epoch": int(best["epoch"]),
        "best_val_loss": float(best["val_loss"]),
        "last_val_loss": float(last["val_loss"]),
        "earlier_train_loss": float(earlier["train_loss"]),
        "last_train_loss": float(last["train_loss"]),
    }


def judge_fit(fit: dict[str, Any]) -> Judged:
    """Whether the classifier neither over- nor underfits, by its curves."""
    overfitted = fit["last_val_loss"] / fit["best_val_loss"] - 1
    falling = 1 - fit["last_train_loss"] / fit["earlier_train_loss"]
    if overfitted > FIT_MARGIN:
        return Judged(Verdict.REFUTED, f"overfits: the last validation loss is {percent(overfitted)} above the best")
    if falling > FIT_MARGIN:
        return Judged(Verdict.REFUTED, f"underfits: the training loss still fell by {percent(falling)}")
    return Judged(Verdict.NOT_DECIDED, "neither shows")


def judge_intensities(tests: pd.DataFrame) -> Judged:
    """Whether intensities agree, whatever the pixels' p-values are."""
    rows = _levels(tests)
    if (rows["verdict"] == "cannot tell").all():
        return Judged(Verdict.NOT_TESTABLE, "too few people to tell how much people differ")
    if (rows["verdict"] == "alike").all():
        return Judged(Verdict.CONFIRMED, "all within the margin")
    apart = rows[(rows["resplit_q"] < ALPHA) & (rows["verdict"] != "alike")]
    if len(apart):
        return Judged(Verdict.REFUTED, f"{', '.join(apart['variable'])}: further apart than real people are")
    return Judged(Verdict.NOT_DECIDED, "neither within the margin nor beyond what people differ by")


def judge_similarity(
    recognised: pd.DataFrame, fidelity: pd.DataFrame, tests: pd.DataFrame, descriptors: pd.DataFrame
) -> Judged:
    """Whether synthetic cells are as similar to unseen ones as real cells of other people are."""
    worse = worse_than_floor(fidelity)
    if (only(recognised, group="all") or {})["high"] < 0:
        worse.append("recognised as intended")
    if worse:
        return Judged(Verdict.REFUTED, f"worse than real cells: {', '.join(worse)}")
    apart = descriptors.loc[(descriptors["group"] == "all") & (descriptors["rank_p_adjusted"] < ALPHA), "descriptor"]
    if len(apart):
        return Judged(Verdict.NOT_DECIDED, f"{', '.join(apart)}: beyond the floor")
    if not (_levels(tests)["verdict"] == "alike").all():
        return Judged(Verdict.NOT_DECIDED, "intensities not shown to be alike")
    return Judged(Verdict.CONFIRMED, "no distance stands beyond its floor or margin")


def judge_steps(claims: pd.DataFrame | None, claim: str) -> Judged:
    """One of the three claims about the number of steps, over unscaled and scaled betas."""
    if claims is None:
        return Judged(Verdict.NOT_TESTABLE, "not run: kedro run --pipeline ablation")
    rows = claims[claims["claim"] == claim]
    found = set(rows["verdict"])
    if len(found) == 1:
        return Judged(Verdict(found.pop()), "by the rule of the study")
    return Judged(Verdict.NOT_DECIDED, "; ".join(f"{row.betas} betas: {row.verdict}" for row in rows.itertuples()))


def judge_help(gain: dict[str, Any]) -> Judged:
    """Whether cells of a DDPM trained on few people help a classifier of these few."""
    if "reason" in gain:
        return Judged(Verdict.NOT_TESTABLE, gain["reason"])
    if gain["low"] is None:
        return Judged(Verdict.NOT_DECIDED, f"{gain['rests_on']}: too few for an interval")
    if gain["low"] > 0:
        return Judged(Verdict.CONFIRMED, "the interval of the gain is above 0")
    if gain["high"] < 0:
        return Judged(Verdict.REFUTED, "the interval of the gain is below 0")
    return Judged(Verdict.NOT_DECIDED, "the interval of the gain holds 0")


def judge_privacy(audit: dict[str, Any]) -> Judged:
    """Whether the audits found memory of training cells."""
    novelty, membership = audit["novelty"], audit["membership"]
    found = [
        f"nearer to members in {row['space']}"
        for row in novelty["comparison"]
        if row["group"] == "all" and row["low"] > 0.5
    ]
    found += ["copies" for row in novelty["copies"] if row["space"] == "any" and row["verdict"] == "copies found"]
    if membership["testable"] and membership["low"] > 0.5:
        found.append("members told apart")
    if membership["testable"] and membership["by_person"].get("verdict") == "people are told apart":
        found.append("training people told apart")
    if found:
        return Judged(Verdict.REFUTED, ", ".join(found))
    if not (novelty["testable"] and membership["testable"]):
        return Judged(Verdict.NOT_TESTABLE, "too few training people's cells were kept apart")
    if planted_caught(novelty)["recall"] < FEWEST_CAUGHT:
        return Judged(Verdict.NOT_TESTABLE, "the audit misses the copies planted in it")
    return Judged(Verdict.NOT_DECIDED, "nothing found by these audits")


def worse_than_floor(fidelity: pd.DataFrame) -> list[str]:
    """Measures whose difference from the floor has an interval wholly on the worse side."""
    rows = fidelity[fidelity["group"] == "all"]
    smaller = rows["better"] == "smaller"
    worse = (smaller & (rows["difference_low"] > 0)) | (~smaller & (rows["difference_high"] < 0))
    return rows.loc[worse, "metric"].tolist()


def planted_caught(novelty: dict[str, Any]) -> dict[str, Any]:
    """How many of all planted copies are caught in any space."""
    return next(row for row in novelty["power"] if (row["space"], row["kind"]) == ("any", "all"))


def paper_claims(results: Results, summary: dict[str, Any]) -> list[Claim]:
    """Every claim of the paper beside this run's numbers."""
    dataset, lines = results.dataset_summary, summary["headlines"]
    accuracy, by_cell, fit = lines["accuracy"], lines["protocols"], summary["classifier"]["fit"]
    if dataset["split_strategy"] == "cell":
        by_cell = accuracy
    grey = only(results.distribution_tests, variable="grey", group="all") or {}
    margin = f"margin {number(grey['margin'])}"
    worse = len(worse_than_floor(results.fidelity_metrics))
    measures = int((results.fidelity_metrics["group"] == "all").sum())
    steps = [
        _about_malaria(
            results,
            Claim(said, paper, _steps_measured(results.steps, claim), judge_steps(results.steps, claim), "steps"),
            claim != "training takes longer",
        )
        for claim, said, paper in zip(
            STEP_CLAIMS,
            ("More diffusion steps denoise better", "Training with more steps takes longer", "Few steps overfit"),
            ("stated", "stated", "few steps look like overfitting"),
            strict=True,
        )
    ]
    similarity = judge_similarity(
        results.recognised, results.fidelity_metrics, results.distribution_tests, results.descriptor_tests
    )
    claims = [
        Claim(
            "Accuracy of the classifier",
            "0.97, split not described",
            f"by cell: {_told(by_cell)}; {dataset['unseen']}: {_told(accuracy)}",
            judge_accuracy(by_cell),
            "split",
        ),
        Claim(
            "The classifier is an optimal fit",
            "neither over- nor underfits, by its loss curves",
            f"validation loss {number(fit['best_val_loss'])} after epoch {fit['best_epoch']}, "
            f"{number(fit['last_val_loss'])} after {fit['epochs']}; training loss {number(fit['last_train_loss'])}",
            judge_fit(fit),
            "classifier",
        ),
        Claim(
            "Intensities agree",
            "significant chi-square and KL p-values, taken for good quality",
            f"chi-square {p_value(grey['chi2_p'])}, KL {p_value(grey['g_p'])}: they differ. Real against real: "
            f"{p_value(grey['floor_chi2_p'])}. V {_told(lines['intensities'])}, {margin}",
            judge_intensities(results.distribution_tests),
            "intensities",
        ),
        Claim(
            "Synthetic images are very similar to real ones",
            "stated",
            f"{worse} of {measures} measures worse than the floor; recognised as intended "
            f"{number(lines['recognised']['synthetic'])}, real {number(lines['recognised']['real'])}",
            similarity,
            "fidelity",
        ),
        Claim(
            "Synthetic data complete small data sets and improve models",
            "stated",
            _gain(lines["utility"]),
            judge_help(lines["utility"]),
            "utility",
        ),
        Claim(
            "Privacy is not compromised",
            "stated",
            f"nearer to members: {_told(lines['novelty'])}; copies: {_told(lines['copies'])}; attack's AUC: "
            f"{_told(lines['membership'])}",
            judge_privacy(results.privacy_audit),
            "privacy",
        ),
        Claim(
            "The impact of environmental factors can be studied",
            "stated",
            f"{len(results.acquisition_explained)} associations measured, {len(results.acquisition_untestable)} could "
            "not be",
            Judged(Verdict.NOT_TESTABLE, "crops show associations, not causes"),
            "acquisition",
        ),
        Claim(
            "SHAP is the next step",
            "planned",
            f"done: ratio {_told(lines['explanations'])}"
            + (
                f", random weights {number(lines['explanations']['floor'])}" if "floor" in lines["explanations"] else ""
            ),
            Judged(Verdict.NOT_TESTABLE, "a plan, carried out here"),
            "explanations",
        ),
    ]
    claims = [_about_malaria(results, claim) for claim in claims]
    return claims[:4] + steps + claims[4:]


def paper_settings(summary: dict[str, Any]) -> list[Setting]:
    """How the paper went about it, beside this run."""
    dataset, ddpm, classifier = summary["dataset"], summary["ddpm"], summary["classifier"]
    training, process, yolo = ddpm["training"], ddpm["process"], classifier["parameters"]
    weights = classifier["initial_weights"]
    return [
        Setting("Images", f"{PAPERS_IMAGES:,} NLM malaria cells", f"{dataset['cells']:,} {dataset['images']}"),
        Setting(
            "Training the DDPM",
            "100 epochs, batch 32, Adam",
            f"{ddpm['epochs']} epochs, batch {training['batch_size']}, {training['optimizer'].capitalize()}, "
            f"{process['prediction'].removesuffix('_prediction')} prediction, T = {process['timesteps']}",
        ),
        Setting(
            "Training the classifier",
            "YOLOv8 from ImageNet weights, 100 epochs, batch 16, SGD 0.01, momentum 0.937",
            f"{yolo['architecture']} {weights if weights == 'from scratch' else f'from {weights}'}, {yolo['epochs']} "
            f"epochs, batch {yolo['batch_size']}, {yolo['optimizer']} {yolo['learning_rate']}, momentum "
            f"{yolo['momentum']}; {yolo['image_size']} px, the {yolo['kept_epoch']} epoch kept"
            + f", tints of {yolo['colour']}" * (yolo["colour"] > 0)
            + ", answers the mean of eight views" * yolo["test_time_augmentation"],
        ),
        Setting(
            "Synthetic and unseen cells compared",
            "1,000 and 1,000",
            f"{summary['n']['synthetic']:,} and {summary['n']['real']:,}, classes equal",
        ),
    ]


def _about_malaria(results: Results, claim: Claim, about: bool = True) -> Claim:
    if results.elsewhere and about and claim.judged.verdict is not Verdict.NOT_TESTABLE:
        return claim._replace(judged=Judged(Verdict.NOT_TESTABLE, results.elsewhere))
    return claim


def _levels(tests: pd.DataFrame) -> pd.DataFrame:
    return tests[(tests["group"] == "all") & tests["variable"].isin(CHANNELS)]


def _told(line: dict[str, Any]) -> str:
    return "not measured" if "reason" in line else interval(line["value"], line["low"], line["high"])


def _gain(line: dict[str, Any]) -> str:
    if "reason" in line:
        return "not measured"
    gain = signed(line["value"], line["low"], line["high"])
    return f"accuracy {gain} with real cells of {percent(line['share'])} of the training people"


def _steps_measured(claims: pd.DataFrame | None, claim: str) -> str:
    if claims is None:
        return "not measured"
    rows = claims[claims["claim"] == claim]
    return "; ".join(
        f"{row['betas']} betas: effect {signed(row['effect'], row['low'], row['high'])}"
        for row in rows.to_dict("records")
    )
