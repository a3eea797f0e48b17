"""The paper's claims and settings beside this run's.

A claim that an interval does not settle is "not decided"; one that this run has no numbers for is "not testable".
On phantom cells and other images nothing about malaria is testable, and the numbers are shown all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from malaria_diffusion.questions.question import Claim, Headline, Judged, Verdict
from malaria_diffusion.questions.results import Results
from malaria_diffusion.report.contents import answered

PAPERS_IMAGES = 27_558


class Setting(NamedTuple):
    """How the paper did something, and how this run does it."""

    what: str
    paper: str
    here: str


def paper_claims(results: Results, headlines: Mapping[str, Headline]) -> list[tuple[str, Claim]]:
    """Every claim of the paper beside this run's numbers, each with the name of the section that says more."""
    return [
        (section.name, _tested_here(claim, results.elsewhere))
        for section in answered(results)
        for claim in section.claims(results, headlines)
    ]


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


def _tested_here(claim: Claim, elsewhere: str | None) -> Claim:
    if elsewhere and claim.about_malaria and claim.judged.verdict is not Verdict.NOT_TESTABLE:
        return claim._replace(judged=Judged(Verdict.NOT_TESTABLE, elsewhere))
    return claim
