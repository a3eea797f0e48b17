"""What a question of the validation consists of. Each folder beside this file holds one, in its question.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from malaria_diffusion.questions.results import Results
from malaria_diffusion.questions.text import interval

Headline = dict[str, Any]


class Step(NamedTuple):
    """One function on the way to an answer, a node of the graph.

    Attributes:
        run: What is called; its name is the step's.
        takes: What it is called with, in order, by the names of the catalog; of parameters with "params:" before.
        makes: What it returns, by the same names; a tuple of names if it returns a tuple.
        tags: By which it can be run without others.
    """

    run: Callable[..., Any]
    takes: tuple[str, ...]
    makes: str | tuple[str, ...]
    tags: str | None = None

    @property
    def name(self) -> str:
        """Of its function."""
        return self.run.__name__

    @property
    def made(self) -> tuple[str, ...]:
        """What it makes, also if it is one thing."""
        return (self.makes,) if isinstance(self.makes, str) else self.makes


class Definition(NamedTuple):
    """A term of the report and what it means."""

    name: str
    text: str


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
    """What the paper claims: what, the paper's words, this run, the verdict.

    `about_malaria`: so that it can only be tested on the paper's cells.
    """

    what: str
    paper: str
    here: str
    judged: Judged
    about_malaria: bool = True


@dataclass(frozen=True)
class Question:
    """One question, and everything that is said of it.

    Attributes:
        name: Of its section in the report, and of what links there.
        asks: The question in a few words.
        folder: Where its section.html lies.
        place: Questions are asked in rising order of this.
        steps: What answers it; none if other pipelines do.
        results: Names of what its section, headlines and claims are made of.
        figures: Names of its figures in the order in which they are shown.
        definitions: Of its terms, by what links to them.
        rules: How its claims are judged, by what they are about.
        headlines: Its numbers with what they rest on, by name.
        primary: The headline that answers it, fixed before a run; whatever else is measured is exploratory. None
            for what asks nothing.
        about_model: Whether its headlines judge the diffusion model, and so stand on the model's card; else they are
            about the classifier or the study.
        claims: What the paper claims of it; given the results and all headlines.
        context: What else its section is filled with; given the results.
    """

    name: str
    asks: str
    folder: Path
    place: float
    steps: tuple[Step, ...] = ()
    results: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)
    headlines: Callable[[Results], dict[str, Headline]] = lambda results: {}
    primary: str | None = None
    about_model: bool = False
    claims: Callable[[Results, Mapping[str, Headline]], list[Claim]] = lambda results, headlines: []
    context: Callable[[Results], dict[str, Any]] = lambda results: {}


def bounds(low: float, high: float) -> dict[str, float | None]:
    """An interval in a headline; None where there were too few to state one."""
    return {"low": low if math.isfinite(low) else None, "high": high if math.isfinite(high) else None}


def told(line: Headline) -> str:
    """A headline in a claim."""
    return "not measured" if "reason" in line else interval(line["value"], line["low"], line["high"])
