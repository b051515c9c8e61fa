"""What a single field of an instance may hold: numbers in range, members of an enumeration, ids."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum

from solver.errors import Issue, Path

MAX_PRINTED = 1e300
MAX_ID_LENGTH = 1_024


def check_number(
    value: object, path: Path, *, high: float, whole: bool = False, positive: bool = False
) -> Iterator[Issue]:
    """A finite, non-negative (or positive) number up to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield Issue("wrong_type", f"expected a number, found {type(value).__name__}", path, "give a plain JSON number")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Issue("not_finite", f"{value} is not a finite number", path, "give a finite number")
    elif value < 0 or (positive and value == 0):
        least = "greater than 0" if positive else "0 or more"
        yield Issue("out_of_range", f"{_shorten(value)} is out of range", path, f"give a number that is {least}")
    elif value > high:
        hint = f"give at most {high:g}; check the unit"
        yield Issue("out_of_range", f"{_shorten(value)} is out of range", path, hint)
    elif whole and value != int(value):
        yield Issue("not_whole", f"{value} is not a whole number", path, "round to a whole number")


def _shorten(value: float) -> str:
    # An integer of thousands of digits cannot even be printed.
    return f"{value:g}" if abs(value) < MAX_PRINTED else "a huge number"


def check_member(value: object, enum: type[StrEnum], path: Path) -> Iterator[Issue]:
    """A member of ``enum``; plain text will not do, for modes are told apart by identity."""
    if not isinstance(value, enum):
        message = f"expected a member of {enum.__name__}, found {value!r}"
        yield Issue("wrong_type", message, path, f"give one of {', '.join(map(str, enum.__members__))}")


def check_text(value: object, path: Path) -> Iterator[Issue]:
    """An id: Unicode text of sane length, not empty."""
    if not isinstance(value, str):
        yield Issue("wrong_type", f"expected text, found {type(value).__name__}", path, "give a JSON string")
    elif not value:
        yield Issue("empty_id", "an id must not be empty", path, "give it a name")
    elif len(value) > MAX_ID_LENGTH:
        yield Issue("id_too_long", f"an id of {len(value)} characters", path, f"use at most {MAX_ID_LENGTH} characters")
    elif not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        yield Issue("invalid_text", "an id holds half of a surrogate pair", path, "send well-formed Unicode text")
