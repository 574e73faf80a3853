"""Numbers that a training is told: counts and bounds, checked before anything is done."""

from __future__ import annotations

import math
import numbers
from typing import Any

__all__ = ["real_number", "whole_number"]


def whole_number(name: str, what: str, value: Any, least: int = 0, none: bool = False) -> Any:
    """A count as an int, NumPy's integers too; None stays None where it may.

    Raises:
        ValueError: anything else, or less than ``least``.

    >>> whole_number("fit", "epochs", 3, 1)
    3
    """
    if value is None and none:
        return None
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"[{name}] got {what}={value!r}, expected an integer, {least} or more{', or None' * none}")
    return int(value)


def real_number(name: str, what: str, value: Any) -> float:
    """A number as a float.

    Raises:
        TypeError: it is none. ValueError: it is NaN.
    """
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"[{name}] got {what}={value!r}, expected a number") from None
    if math.isnan(number):
        raise ValueError(f"[{name}] got {what}={value!r}, expected a number")
    return number
