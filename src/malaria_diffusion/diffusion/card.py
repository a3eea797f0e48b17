"""The card of a model: what its lineage says, and what a validation has measured."""

from __future__ import annotations

from typing import NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from malaria_diffusion.cards import LICENSE, render, settings
from malaria_diffusion.diffusion.lineage import Lineage

# the task of Hugging Face's list that comes nearest; it has none for images of a class
TASK = "unconditional-image-generation"
TAGS = ["denoising-diffusion", "class-conditional", "microscopy", "synthetic-data", "malaria_diffusion"]


class Evaluation(NamedTuple):
    """What a validation has found.

    Attributes:
        results: For programs; empty if nothing could be measured.
        text: Markdown for people.
        source: Of the images, None if it is a place of one machine.
    """

    results: list[EvalResult]
    text: str
    source: str | None


def model_name(lineage: Lineage) -> str:
    """The name of a model in its card."""
    return f"ddpm-{lineage.identity}"


def model_card(lineage: Lineage, weights: int, evaluation: Evaluation | None = None) -> str:
    """README.md of a model, in Hugging Face's format.

    Args:
        lineage: Of the model.
        weights: How many its network has.
        evaluation: What has been measured; None: nothing, and the card says so.

    Returns:
        Markdown with a front matter, for `huggingface_hub.ModelCard`.
    """
    results = evaluation.results if evaluation else []
    data = ModelCardData(
        license=LICENSE,
        library_name="diffusers",
        pipeline_tag=TASK,
        tags=TAGS,
        model_name=model_name(lineage) if results else None,
        eval_results=results or None,
    )
    return render(
        "model_card.md",
        data,
        name=model_name(lineage),
        lineage=lineage,
        weights=weights,
        images=f"{len(lineage.training_cells):,} {lineage.kind} of {len(lineage.training_people):,} people",
        source=evaluation.source if evaluation else None,
        kept=_kept(lineage),
        time=_time(lineage.training_seconds),
        license=LICENSE,
        settings=settings,
        evaluation=evaluation.text if evaluation else "",
    )


def _kept(lineage: Lineage) -> str:
    if lineage.best_epoch is None or lineage.kernel_distance is None:
        return "not recorded"
    decay = "" if lineage.ema_decay is None else f", average of decay {lineage.ema_decay}"
    return (
        f"of epoch {lineage.best_epoch}{decay}: the smallest kernel distance to validation cells, "
        f"{lineage.kernel_distance:.4f}, which chose them and so says little of how good they are"
    )


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "not recorded"
    return f"{seconds / 3600:.3g} hours by the clock in training steps, without looks, validation and checkpoints"
