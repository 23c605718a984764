"""Numbers that users give."""

from __future__ import annotations

import operator
from typing import Any, SupportsIndex

from lengthwise.errors import InputError, InputTypeError


def at_least(name: str, value: SupportsIndex, least: int) -> int:
    """Return a whole number that an argument must be."""
    try:
        number = operator.index(value)
    except TypeError:
        msg = f"{name} is {value!r}; it must be a whole number"
        raise InputTypeError(msg) from None
    if number < least:
        raise InputError(f"{name} is {number}; it must be at least {least}")
    return number


def number(name: str, value: Any) -> float:
    """Return a number that an argument must be."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputTypeError(f"{name} is {value!r}; it must be a number") from None
