"""How far did the diffusion model get?"""

from __future__ import annotations

from pathlib import Path

from scipy.stats import t

from malaria_diffusion.questions.question import Definition, Headline, Question
from malaria_diffusion.questions.results import Results
from malaria_diffusion.report.sections.diffusion.steps import STEPS


def headlines(results: Results) -> dict[str, Headline]:
    """The bound."""
    bound = results["variational_bound"]
    name, terms = min(bound["variances"].items(), key=lambda item: item[1]["total"])
    reach = float(t.ppf((1 + results.confidence) / 2, bound["people"] - 1)) * terms["standard_error"]
    line = {
        "what": f"variational bound of held-out cells in bits per dimension, variance {name}",
        "value": terms["total"],
        "low": terms["total"] - reach,
        "high": terms["total"] + reach,
        "rests_on": f"{bound['images']} cells of {bound['people']} people",
    }
    return {"bound": line}


DEFINITIONS = {
    "bound": Definition(
        "Variational bound",
        "Upper bound of the negative log-likelihood of held-out 8-bit cells (Ho et al. 2020, eq. 5). Fewer bits "
        "per dimension are better.",
    ),
}


QUESTION = Question(
    name="diffusion",
    asks="The diffusion model",
    folder=Path(__file__).parent,
    steps=STEPS,
    place=10,
    results=("variational_bound",),
    figures=("figure_1_process", "figure_2_synthetic", "figure_7_training_loss", "figure_8_bound"),
    definitions=DEFINITIONS,
    headlines=headlines,
    primary="bound",
    about_model=True,
)
