"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

REJECTED_SHOWN = 20


class Claim(NamedTuple):
    """One line of the table "the paper states / this run"."""

    what: str
    paper: str
    here: str


def render_report(
    summary: dict[str, Any], tests: pd.DataFrame, rejected: pd.DataFrame, figures: Sequence[bytes]
) -> str:
    """Fill the template.

    Args:
        summary: See the node `summarise_study`.
        tests: `distribution_tests`.
        rejected: `rejected_cells`.
        figures: PNG files of Figures 0 to 7, in this order.

    Returns:
        HTML with the figures in it.
    """
    environment = Environment(
        loader=PackageLoader("malaria_diffusion", "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["p_value"] = _p_value
    return environment.get_template("report.html").render(
        summary=summary,
        phantom=summary["dataset"]["images"] == "phantom cells",
        claims=paper_claims(summary, tests),
        tests=tests.to_dict("records"),
        rejected=rejected.head(REJECTED_SHOWN).to_dict("records"),
        figures=[base64.b64encode(png).decode() for png in figures],
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def paper_claims(summary: dict[str, Any], tests: pd.DataFrame) -> list[Claim]:
    """What the paper states beside what this run did and found."""
    dataset, ddpm, classifier = summary["dataset"], summary["ddpm"], summary["classifier"]
    training, process, yolo = ddpm["training"], ddpm["process"], classifier["parameters"]
    accuracy = summary["classification"]["unseen"]["accuracy"]
    grey = tests[(tests["variable"] == "grey") & (tests["group"] == "all")].iloc[0]
    split = "people who trained nothing" if dataset["unseen"] == "unseen people" else "images that trained nothing"
    differ = "the distributions differ measurably" if grey["chi2_p"] < 0.05 else "no difference was found"
    return [
        Claim("Images", "27,558 NLM malaria cells", f"{dataset['cells']:,} {dataset['images']}"),
        Claim(
            "Training the DDPM",
            "100 epochs, batch 32, Adam",
            f"{ddpm['epochs']} epochs, batch {training['batch_size']}, {training['optimizer'].capitalize()}, "
            f"{process['prediction'].removesuffix('_prediction')} prediction, T = {process['timesteps']}",
        ),
        Claim(
            "Training the classifier",
            "YOLOv8 from ImageNet weights, 100 epochs, batch 16, SGD 0.01, momentum 0.937",
            f"{yolo['architecture']} {_started_from(classifier['initial_weights'])}, {yolo['epochs']} epochs, batch "
            f"{yolo['batch_size']}, {yolo['optimizer']} {yolo['learning_rate']}, momentum {yolo['momentum']}",
        ),
        Claim(
            "Accuracy, (TN + TP) / (TN + FP + FN + TP)",
            "0.97, on a split it does not describe",
            f"{accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}] on {split}",
        ),
        Claim(
            "Synthetic and unseen cells compared",
            "1,000 and 1,000",
            f"{summary['n']['synthetic']:,} and {summary['n']['real']:,}, classes equal",
        ),
        Claim(
            "Chi-square and KL test of the intensities",
            "significant p-values, taken for good quality",
            f"chi-square {_p_value(grey['chi2_p'])}, likelihood ratio {_p_value(grey['g_p'])}: {differ}. Unseen "
            f"against others: {_p_value(grey['floor_chi2_p'])}. Size of the difference, Cramer's V: "
            f"{grey['cramers_v']:.3f} [{grey['v_low']:.3f}, {grey['v_high']:.3f}], margin "
            f"{grey['margin']:.3f}: {grey['verdict']}",
        ),
    ]


def _started_from(weights: str) -> str:
    return weights if weights == "from scratch" else f"from {weights}"


def _p_value(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
