"""What a user may set of the gate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from malaria_diffusion.config import Parameters


class Rule(Parameters):
    """A bound on one number of a summary.

    Attributes:
        number: Which, as a path with dots: of a headline (`fidelity`, `fidelity.difference`), else from the top of the
            summary (`classification.unseen.auc`). None: the headline that is called as the rule.
        at_most: The bound from above, or
        at_least: from below; one of the two.
        judged: What must keep to the bound. "interval": the end of its interval on the wrong side of the bound, so that
            fewer people, whose intervals are wider, hardly make passing likelier. "value": the number itself.
        plus: A number beside it in the summary (`floor`, `real`, `margin`) that is added to the bound.
        times: One that the bound is multiplied by. Of what stands beside, too, an interval counts by the end that
            makes passing harder, where there is one.
    """

    number: str | None = None
    at_most: float | None = Field(None, allow_inf_nan=False)
    at_least: float | None = Field(None, allow_inf_nan=False)
    judged: Literal["interval", "value"] = "interval"
    plus: str | None = None
    times: str | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Rule:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("expected one of at_most and at_least")
        if self.plus is not None and self.times is not None:
            raise ValueError("expected one of plus and times at most")
        bound = self.at_least if self.at_most is None else self.at_most
        if self.times is not None and bound is not None and bound < 0:
            raise ValueError("expected a bound of 0 or more with times: of a negative one the harder end is not known")
        return self


class GateParameters(Parameters):
    """What a model must keep to.

    Attributes:
        summaries: The files `summary.json` of the runs that are judged, side by side: their paths (from the folder in
            which the command is given) or URLs, or by the name that each shall have. None: the present run's.
        rules: By name; null in place of a rule of an environment before it takes that rule away.
    """

    summaries: list[str] | dict[str, str] | None = None
    rules: dict[str, Rule | None]

    @field_validator("rules")
    @classmethod
    def _some(cls, value: dict[str, Rule | None]) -> dict[str, Rule | None]:
        if not any(value.values()):
            raise ValueError("expected one rule at least; a gate without any refuses nothing")
        return value

    @field_validator("summaries")
    @classmethod
    def _named(cls, value: list[str] | dict[str, str] | None) -> list[str] | dict[str, str] | None:
        if value is not None and not value:
            raise ValueError("expected one path at least, or null for the present run")
        return value

    @property
    def kept(self) -> dict[str, Rule]:
        """The rules that are not taken away."""
        return {name: rule for name, rule in self.rules.items() if rule is not None}
