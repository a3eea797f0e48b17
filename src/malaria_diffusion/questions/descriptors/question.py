"""Do synthetic cells have the shape, stain and dark spots of real ones?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from malaria_diffusion.questions.descriptors.steps import STEPS
from malaria_diffusion.questions.question import Claim, Definition, Headline, Judged, Question, Verdict, told
from malaria_diffusion.questions.results import Results, only
from malaria_diffusion.questions.text import number


def headlines(results: Results) -> dict[str, Headline]:
    """The descriptor that differs most, and how much the associations of descriptors differ."""
    tests = results["descriptor_tests"]
    worst = only(tests[tests["group"] == "all"].sort_values("ks", ascending=False)) or {}
    together = only(results["association_differences"], group="all") or {}
    return {
        "descriptors": {
            "what": f"largest Kolmogorov-Smirnov statistic, of {worst['descriptor']}",
            "value": worst["ks"],
            "low": worst["low"],
            "high": worst["high"],
            "floor": worst["floor_ks"],
            "rests_on": f"{worst['synthetic_cells']} synthetic and {worst['real_cells']} real cells",
        },
        "associations": {
            "what": "mean difference of the rank correlations of descriptors",
            "value": together["difference"],
            "low": together["low"],
            "high": together["high"],
            "floor": together["floor"],
            "rests_on": "people resampled for real cells, images for synthetic ones",
        },
    }


def claims(results: Results, headlines: Mapping[str, Headline]) -> list[Claim]:
    """That the association of original and synthetic data is estimated."""
    line = headlines["associations"]
    return [
        Claim(
            "Synthetic data keep the associations of the original",
            "an aim",
            f"mean difference of correlations {told(line)}, other people's {number(line['floor'])}",
            Judged(Verdict.NOT_DECIDED, "no margin was set beforehand"),
        )
    ]


DEFINITIONS = {
    "ks": Definition(
        "KS",
        "Kolmogorov-Smirnov statistic: largest gap between two cumulative distributions, 0 alike, 1 disjoint. "
        "Intervals lie rather high.",
    ),
    "descriptor": Definition(
        "Descriptors",
        "fill_fraction: foreground's share of the frame; eccentricity: 0 circle, 1 line; hue in degrees and "
        "saturation of the stain; texture: local variation of absorbance; dark_spots and dark_area: number and "
        "share of spots that absorb far more than the cell's median.",
    ),
    "association": Definition(
        "Difference of associations",
        "Mean absolute difference between the rank correlations (Spearman) of all pairs of descriptors. "
        "Small is alike.",
    ),
}


QUESTION = Question(
    name="descriptors",
    asks="Same shape and stain?",
    folder=Path(__file__).parent,
    place=60,
    steps=STEPS,
    results=("descriptor_tests", "association_differences"),
    figures=("figure_descriptors", "figure_associations"),
    definitions=DEFINITIONS,
    claims=claims,
    headlines=headlines,
    primary="descriptors",
    about_model=True,
)
