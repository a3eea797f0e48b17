"""Hold summaries against rules: what was found, what was wanted, and whether that is kept."""

from __future__ import annotations

import difflib
import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from malaria_diffusion.errors import UserError
from malaria_diffusion.studies.gate.config import Rule
from malaria_diffusion.studies.gate.summaries import Summary, seeds_of, settings_of

COLUMNS = [
    *("model", "rule", "what", "number", "value", "low", "high", "judged", "found", "sign", "wanted", "passed"),
    *("reason", "settings", "seeds", "mean", "sd"),
]


class RefusedError(UserError):
    """A model does not pass; the message names the rules, what was found and what was wanted."""


class Found(NamedTuple):
    """A number of a summary.

    Attributes:
        beside: The dict that holds it.
        key: Its name there.
        what: In words, where the summary says so.
    """

    beside: dict[str, Any]
    key: str
    what: str

    def end(self, side: str, key: str | None = None) -> float | None:
        """The low or high end of the interval of the number, or of another beside it; None where none is stated."""
        key = key or self.key
        return _number(self.beside.get(side if key == "value" else f"{key}_{side}"))


class UnmeasuredError(Exception):
    """There is no number; the message says why."""


def gate_table(summaries: Mapping[str, Summary], rules: Mapping[str, Rule]) -> pd.DataFrame:
    """Judge every summary by every rule.

    Args:
        summaries: By the name of the model.
        rules: By name.

    Returns:
        One row a rule and model: model, rule, what (the number is), number (its path), value, low, high (NaN where not
        stated), judged ("value", "low end" or "high end"), found (the number that is judged), sign (at most, at least),
        wanted, passed, reason (why not, where nothing could be judged; else empty); and of summaries with the same
        settings: settings (a name for these), seeds (how many different ones), and mean and sd of value over these, the
        sd with n - 1, NaN of a single one.

    Raises:
        UserError: a rule is about a number that none of the summaries knows.
    """
    _refuse_unknown(summaries, rules)
    rows = []
    for name, rule in rules.items():
        for model, summary in summaries.items():
            row = {"model": model, "rule": name, "number": rule.number or name}
            rows.append(row | _judged(summary, rule, name) | {"settings": settings_of(summary)})
    table = pd.DataFrame(rows)
    different = table["model"].map({model: seeds_of(summary) for model, summary in summaries.items()})
    once = table.assign(seed=different).drop_duplicates(["rule", "settings", "seed"])
    groups = once.groupby(["rule", "settings"])["value"]
    spread = pd.DataFrame({"seeds": groups.count(), "mean": groups.mean(), "sd": groups.std()}).reset_index()
    return table.merge(spread, on=["rule", "settings"], how="left")[COLUMNS]


def refuse(table: pd.DataFrame) -> None:
    """Make sure that every model passes.

    Args:
        table: See `gate_table`.

    Raises:
        RefusedError: one does not; one sentence with every rule that it fails.
    """
    failed = table[~table["passed"].astype(bool)].fillna({"reason": ""})  # as a file has it
    if failed.empty:
        return
    several = table["model"].nunique() > 1
    said = [
        (f"{model}: " if several else "") + "; ".join(_sentence(row) for row in rows.to_dict("records"))
        for model, rows in failed.groupby("model", sort=False)
    ]
    number = f"{failed['model'].nunique()} of {table['model'].nunique()} models" if several else "this model"
    raise RefusedError(
        f"the gate refuses {number}: {'; '.join(said)} (gate_table.csv has all of it; the bounds are gate.rules)"
    )


def shown(value: float) -> str:
    """Three significant digits; a dash for what is not there."""
    return f"{value:.3g}" if math.isfinite(value) else "\N{EN DASH}"


def _sentence(row: Mapping[Hashable, Any]) -> str:
    if row["reason"]:
        return f"{row['rule']} {row['reason']}"
    of_interval = "" if row["judged"] == "value" else f" ({row['judged']} of its interval)"
    return f"{row['rule']} is {shown(row['found'])}{of_interval}, wanted {row['sign']} {shown(row['wanted'])}"


def _judged(summary: Summary, rule: Rule, name: str) -> dict[str, Any]:
    above = rule.at_most is not None
    row: dict[str, Any] = {"what": "", "sign": "at most" if above else "at least", "judged": rule.judged}
    row |= dict.fromkeys(("value", "low", "high", "found", "wanted"), math.nan) | {"passed": False, "reason": ""}
    try:
        found = _found(summary, rule.number or name)
        row["what"] = found.what
        value = _number(found.beside[found.key])
        if value is None:
            raise UnmeasuredError("was not measured")
        low, high = found.end("low"), found.end("high")
        row |= {"value": value} | {key: end for key, end in (("low", low), ("high", high)) if end is not None}
        if rule.judged == "interval":
            row["judged"] = "high end" if above else "low end"
            value = high if above else low
            if value is None:
                raise UnmeasuredError(
                    "has no interval to be judged by; measure more, or say `judged: value` for a reason"
                )
        row["found"], row["wanted"] = value, _wanted(found, rule)
        row["passed"] = bool(value <= row["wanted"] if above else value >= row["wanted"])
    except UnmeasuredError as error:
        row["reason"] = str(error)
    return row


def _wanted(found: Found, rule: Rule) -> float:
    bound = rule.at_most if rule.at_most is not None else rule.at_least
    assert bound is not None  # a rule has one of the two
    key = rule.plus or rule.times
    if key is None:
        return bound
    reference = _number(found.beside.get(key))
    if reference is None:
        raise UnmeasuredError(f"is held against {key!r}, which was not measured")
    if rule.judged == "interval":  # the end that makes passing harder
        end = found.end("low" if rule.at_most is not None else "high", key)
        reference = reference if end is None else end
    if rule.plus:
        return bound + reference
    if reference <= 0:
        raise UnmeasuredError(f"is held against a multiple of {key!r}, which is {shown(reference)}: take `plus`")
    return bound * reference


def _found(summary: Summary, path: str) -> Found:
    """The number at the end of a path, of a headline or from the top.

    Raises:
        UnmeasuredError: there is none.
    """
    holder: Any = summary["headlines"] if _head(summary["headlines"], path) is not None else summary
    what, rest, key = "", path, None
    while rest:
        key = _head(holder, rest)
        if key is None:
            why = holder.get("reason") if isinstance(holder, dict) else None
            raise UnmeasuredError(f"was not measured ({why})" if why else f"is not in this summary (no {path!r})")
        parent, holder, rest = holder, holder[key], rest[len(key) + 1 :]
        what = str(holder.get("what", what)) if isinstance(holder, dict) else what
    if not isinstance(holder, dict) and key is not None:
        return Found(parent, key, what)
    if "value" not in holder:
        why = holder.get("reason", f"{path!r} is no number")
        raise UnmeasuredError(f"was not measured ({why})")
    return Found(holder, "value", what)


def _head(holder: Any, path: str) -> str | None:
    """The longest key that the path begins with: names of classes may hold dots."""
    keys = holder if isinstance(holder, dict) else {}
    return max((key for key in keys if path == key or path.startswith(f"{key}.")), key=len, default=None)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _refuse_unknown(summaries: Mapping[str, Summary], rules: Mapping[str, Rule]) -> None:
    known = sorted({path for summary in summaries.values() for path in _paths(summary)})
    for name, rule in rules.items():
        path = rule.number or name
        tops = [
            summary["headlines"] if _head(summary["headlines"], path) else summary for summary in summaries.values()
        ]
        if not any(_head(top, path) for top in tops):
            near = difflib.get_close_matches(path, known, n=1, cutoff=0)
            raise UserError(f"gate.rules.{name}: {path!r} is in no summary; did you mean {near[0]!r}?")


def _paths(summary: Summary) -> Iterator[str]:
    yield from summary["headlines"]
    yield from summary
