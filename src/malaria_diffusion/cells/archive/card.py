"""The card of an archive of synthetic images."""

from __future__ import annotations

from typing import Any

from huggingface_hub import DatasetCardData

from malaria_diffusion.cards import render

LICENCE = (
    "What a program writes is in general not covered by its licence: whoever publishes the images says under which "
    "they may be used, and heeds what the images that the model learned from ask for."
)
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
KEYWORDS = ["synthetic-data", "diffusion-model", "microscopy"]


def source_of(common: dict[str, Any]) -> str:
    """Which model generated the images, in words."""
    model = common["model"]
    return (
        f"a diffusion model (training {model['identity']}) that learned from {model['training_cells']:,} "
        f"{model['trained_on']} of {model['training_people']:,} people"
    )


def limitations(common: dict[str, Any]) -> list[str]:
    """What the images do not show."""
    return [
        f"They show what a model has made of {common['model']['training_cells']:,} {common['model']['trained_on']}, "
        "and nothing about any patient.",
        "The label of an image is the class that the model was asked for; nobody has looked whether it shows it.",
        "Whether they are as varied as real images, and as right, is for the validation of their model to say.",
    ]


def dataset_card(common: dict[str, Any], size: int) -> str:
    """README.md of the archive, in Hugging Face's format.

    Args:
        common: What all images have in common, see `export`.
        size: Their side in pixels.

    Returns:
        Markdown with a front matter, for `huggingface_hub.DatasetCard`.
    """
    total = sum(common["images"].values())
    data = DatasetCardData(
        pretty_name=f"{total} synthetic images",
        license="other",
        license_name="said-by-whoever-publishes-them",
        annotations_creators="machine-generated",
        source_datasets=["original"],
        size_categories=next((name for above, name in SIZES.items() if total < above), "1M<n<10M"),
        task_categories=["image-classification", "unconditional-image-generation"],
        tags=KEYWORDS,
    )
    counts = ", ".join(f"{count} {name}" for name, count in common["images"].items())
    facts = common | {"size": size, "total": total, "counts": counts, "source": source_of(common)}
    return render("dataset_card.md", data, **facts, licence=LICENCE, limits=limitations(common))
