"""What have the conditions of acquisition to do with it?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from malaria_diffusion.questions.acquisition.measure import ALL_IMAGE_FACTORS
from malaria_diffusion.questions.acquisition.steps import STEPS
from malaria_diffusion.questions.question import Claim, Definition, Headline, Judged, Question, Verdict
from malaria_diffusion.questions.results import Results, only


def headlines(results: Results) -> dict[str, Headline]:
    """How well stain, light and focus tell real from synthetic cells."""
    explained, untestable = results["acquisition_explained"], results["acquisition_untestable"]
    what = "AUC of all image factors, real against synthetic"
    where = {"factor": ALL_IMAGE_FACTORS, "scope": "people"}
    row = only(explained, target="real against synthetic", **where)
    if row is None:
        lacking = only(untestable, target="real against synthetic", **where) or {}
        return {"acquisition": {"what": what, "reason": lacking.get("reason", "too few people")}}
    floor = only(explained, target="real against real", **where)
    found = {"what": what, "value": row["auc"], "low": row["low"], "high": row["high"]}
    if floor:
        found["floor"] = floor["auc"]
    return {"acquisition": found | {"rests_on": f"{row['cells']:,} cells, the real ones of {row['people']} people"}}


def claims(results: Results, headlines: Mapping[str, Headline]) -> list[Claim]:
    """That environmental factors can be studied."""
    return [
        Claim(
            "The impact of environmental factors can be studied",
            "stated",
            f"{len(results['acquisition_explained'])} associations measured, "
            f"{len(results['acquisition_untestable'])} could not be",
            Judged(Verdict.NOT_TESTABLE, "crops show associations, not causes"),
        )
    ]


DEFINITIONS = {
    "factor": Definition(
        "Image factors",
        "Conditions that show in the image, measured beside the dark spots: hue, saturation, brightness, focus. "
        "Day, hour and microscope are read from file names.",
    ),
    "factorauc": Definition(
        "AUC of a factor",
        "Chance that a model of the factor alone orders a pair of the two sides rightly, for people it was not "
        "fitted to. 0.5: the factor tells nothing. The interval is for new people judged by a model of as many others: "
        "it holds the chance of who is judged and of whom the model was fitted to.",
    ),
    "scope": Definition(
        "Scope",
        "people: pairs of any people. within person: pairs of cells of one person, whose slide and stain are the same.",
    ),
    "delta": Definition(
        "Cliff's delta",
        "Chance that a cell of the positive class has more of the factor than another, less the chance that it has "
        "less. -1 to 1.",
    ),
    "kept": Definition(
        "Keeps, loses, exaggerates",
        "The association of a factor with the positive class in synthetic cells beside that in real ones. Keeps: by "
        "the interval of the difference at least half of it, and at most half of it is added. Loses, exaggerates: "
        "further off than groups of real people are. Else real cells show no association, or the interval settles "
        "nothing.",
    ),
}


QUESTION = Question(
    name="acquisition",
    asks="What of acquisition?",
    folder=Path(__file__).parent,
    place=70,
    steps=STEPS,
    results=("acquisition_explained", "acquisition_untestable", "acquisition_kept"),
    figures=("figure_acquisition",),
    definitions=DEFINITIONS,
    headlines=headlines,
    primary="acquisition",
    about_model=True,
    claims=claims,
)
