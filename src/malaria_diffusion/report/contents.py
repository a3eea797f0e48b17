"""What the report is made of: its sections, and all that they bring with them."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping

from malaria_diffusion.questions import questions
from malaria_diffusion.questions.question import Definition, Headline, Question
from malaria_diffusion.questions.results import Results
from malaria_diffusion.report.sections import SECTIONS

DEFINITIONS = {
    "interval": Definition(
        "Interval",
        "The numbers in brackets. People are left out in turn or drawn again, as cells of one person are alike; of "
        "synthetic cells, images. They hold for this split and these trainings.",
    ),
    "primary": Definition(
        "Primary endpoint",
        "The one number that answers a question, fixed in the code before this run. Among the many others "
        "some stand out by chance alone: they raise questions and settle none.",
    ),
    "real": Definition(
        "Real", "Cells that trained neither the diffusion model nor the classifier, of people held out."
    ),
    "floor": Definition(
        "Floor",
        "The same number for real cells of other people in place of synthetic ones: same code, as many cells. "
        "Synthetic cells cannot be expected to come closer.",
    ),
    "margin": Definition(
        "Margin",
        "The difference up to which things are called alike: of intensities chosen beforehand (a parameter), of "
        "associations what two groups of real people differ by, exceeded only at the rate 1 - confidence.",
    ),
}


def sections() -> list[Question]:
    """In the order in which the report has them."""
    return sorted([*SECTIONS, *questions()], key=lambda question: question.place)


def answered(results: Results) -> list[Question]:
    """Those that these results answer; a validation without Kedro need not ask all."""
    return [section for section in sections() if results.found.keys() >= set(section.results)]


def result_names() -> list[str]:
    """What sections are made of, by its names in the catalog."""
    return list(dict.fromkeys(name for section in sections() for name in section.results))


def figure_names() -> list[str]:
    """All figures: those with a number in their name by it, then the others in the order in which they are shown."""
    shown = [name for section in sections() for name in section.figures]
    numbered = sorted((int(found[1]), name) for name in shown if (found := re.match(r"figure_(\d+)_", name)))
    in_order = [name for _, name in numbered]
    return in_order + [name for name in shown if name not in in_order]


def definitions() -> dict[str, Definition]:
    """Of all terms, by what links to them, in the order of their names."""
    found = ChainMap(*(dict(section.definitions) for section in sections()), DEFINITIONS)
    return dict(sorted(found.items(), key=lambda item: item[1].name.lower()))


def rules() -> Mapping[str, str]:
    """How claims are judged."""
    return {name: rule for section in sections() for name, rule in section.rules.items()}


def headlines(results: Results) -> dict[str, Headline]:
    """The headlines of each question, as `summary.json` and the report have them.

    Returns:
        By name: what (the number is), value, low, high, rests_on, and floor where there is one; or only what and
        reason, where nothing could be measured. And endpoint ("primary" or "exploratory") and about ("synthetic
        images" or "the study").
    """
    return {
        name: line
        | {
            "endpoint": "primary" if name == section.primary else "exploratory",
            "about": "synthetic images" if section.about_model else "the study",
        }
        for section in answered(results)
        for name, line in section.headlines(results).items()
    }
