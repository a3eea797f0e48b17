"""Numbers as the report writes them."""

from __future__ import annotations

import math

MISSING = "\N{EN DASH}"


def number(value: float, *beside: float) -> str:
    """Three decimals; less above 1 and more below 0.01, by the largest of `value` and the numbers beside it.

    What is not finite is a dash.
    """
    if not math.isfinite(value):
        return MISSING
    largest = max((abs(other) for other in (value, *beside) if math.isfinite(other)), default=0.0)
    digits = (
        3
        if largest == 0 or 0.01 <= largest <= 1
        else min(6, max(0, (2 if largest > 1 else 1) - math.floor(math.log10(largest))))
    )
    return f"{round(value, digits) + 0.0:,.{digits}f}"


def interval(value: float, low: float | None, high: float | None) -> str:
    """A number with its interval, all with the same decimals; without where there is none."""
    if low is None or high is None or (math.isnan(low) and math.isnan(high)):
        return number(value)
    return f"{number(value, low, high)} [{number(low, value, high)}, {number(high, value, low)}]"


def signed(value: float, low: float | None, high: float | None) -> str:
    """A difference with its interval; what is above zero has a plus."""
    text = interval(value, low, high)
    return f"+{text}" if value > 0 else text


def percent(value: float) -> str:
    """A share in percent, without decimals above ten."""
    return f"{100 * value:.0f} %" if value >= 0.1 or value == 0 else f"{100 * value:.2g} %"


def p_value(value: float) -> str:
    """A p-value in the usual form."""
    return f"p {p_short(value)}" if value < 0.001 else f"p = {p_short(value)}"


def p_short(value: float) -> str:
    """A p-value for a column of them."""
    if not math.isfinite(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
