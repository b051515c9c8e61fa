"""What is wrong with the shape of a document: Pydantic's faults in our words, and a look past them at the rest."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from solver.errors import Issue, Path
from solver.field_checks import MAX_ID_LENGTH
from solver.validation import MAX_DEVICES

CODES = {
    "missing": "missing_field",
    "extra_forbidden": "unknown_field",
    "finite_number": "not_finite",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "int_parsing_size": "out_of_range",
    "multiple_of": "not_whole",
    "int_from_float": "not_whole",
    "enum": "unknown_value",
    "literal_error": "unknown_value",
    "string_too_short": "empty_id",
    "string_too_long": "id_too_long",
    "string_unicode": "invalid_text",
}
_EXPECTED = {
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "list_type": "an array",
    "string_type": "text",
    "string_unicode": "well-formed Unicode text",
    "string_too_short": "text that is not empty",
    "string_too_long": "at most {max_length} characters",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "multiple_of": "a whole number",
    "greater_than": "a number above {gt:.16g}",
    "greater_than_equal": "a number of at least {ge:.16g}",
    "less_than": "a number below {lt:.16g}",
    "less_than_equal": "a number of at most {le:.16g}",
    "enum": "{expected}",
    "literal_error": "{expected}",
}
"""What each kind of fault that Pydantic tells apart misses."""
_HINTS = {
    "missing_field": "add the field",
    "unknown_field": "remove the field, or correct its name",
    "not_finite": "give a finite number",
    "out_of_range": "give a number in range; check the unit",
    "not_whole": "round to a whole number",
    "unknown_value": "use one of the values named",
    "empty_id": "give it a name",
    "id_too_long": f"use at most {MAX_ID_LENGTH} characters",
    "invalid_text": "send well-formed Unicode text",
    "wrong_type": "give a value of the type named",
}

MAX_FLOAT = sys.float_info.max
STAND_IN_COUNT = 1024
"""Devices of an entry whose count cannot be read; references to them are not faults of their own."""


def issue_of(fault: Mapping[str, Any]) -> Issue:
    """A fault that Pydantic found, in our words."""
    kind = fault["type"]
    code = CODES.get(kind, "wrong_type")
    expected = _EXPECTED[kind].format(**fault.get("ctx", {})) if kind in _EXPECTED else fault["msg"]
    if code == "wrong_type" and isinstance(fault["input"], int) and abs(fault["input"]) > MAX_FLOAT:
        code, expected = "out_of_range", "a number of at most 1e308"  # more than Pydantic can read
    # Pydantic marks a fault in the key of a map with a further part that is no part of the document.
    path: Path = tuple(part for part in fault["loc"] if part != "[key]")
    if kind == "missing":
        message = f"the field {shorten(path[-1])} is missing"
    elif kind == "extra_forbidden":
        message = f"there is no field {shorten(path[-1])} here"
    else:
        message = f"expected {expected}, found {shorten(fault['input'])}"
    return Issue(code, message, path, _HINTS[code])


def shorten(value: object) -> str:
    """A value as a message names it, in the words of JSON."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "an array"
    if value is None or isinstance(value, bool | float):
        return json.dumps(value)  # as it stands in the document
    # An integer of thousands of digits cannot even be printed.
    text = "a huge number" if isinstance(value, int) and value.bit_length() > 1000 else ascii(value)
    return text if len(text) <= 60 else text[:57] + "…"


_RECORD_LISTS: tuple[Path, ...] = (
    ("graph", "operators"),
    ("graph", "edges"),
    ("cluster", "devices"),
    ("cluster", "interconnect", "groups"),
    ("cluster", "interconnect", "pairs"),
    ("constraints", "forbidden"),
)


def faults_of_the_rest(
    document: Any, faults: Sequence[Issue], check: Callable[[Any], Iterable[Issue]]
) -> Iterator[Issue]:
    """What else is wrong, as far as it can be told while the faulty parts are looked past.

    Faulty records of a list are replaced by sound ones of the same id, or left out; other faulty fields fall back to
    their defaults, or take the object they are needed in with them. Faults that stand inside a replaced part are not
    reported again.

    Args:
        document: parsed.
        faults: those of its shape.
        check: what is wrong with a document of the right shape; raises Pydantic's ``ValidationError`` for others.
    """
    paths = [fault.path for fault in faults]
    while True:
        mended, replaced, index_of = _look_past(document, paths)
        try:
            issues = tuple(check(mended))
        except ValidationError as error:
            wider = {tuple(fault["loc"][:-1]) for fault in error.errors(include_url=False, include_input=False)}
            if () in wider or wider <= replaced:
                return
            paths += wider
        else:
            break
    for issue in issues:
        path = issue.path
        for where, indices in index_of.items():
            size = len(where)
            if path[:size] == where and len(path) > size:
                path = (*where, indices[int(path[size])], *path[size + 1 :])
        inside = any(path[:size] in replaced for size in range(1, len(path) + 1))
        if not inside:
            yield Issue(issue.code, issue.message, path, issue.hint)


def _look_past(document: Any, paths: list[Path]) -> tuple[Any, set[Path], dict[Path, list[int]]]:
    """A copy of the document without its faulty parts, those parts, and where the records of each list came from."""
    mended = _copy(document, 4)  # as deep as the fields outside of lists stand
    replaced: set[Path] = set()
    left_out: dict[Path, set[int]] = {}
    for path in paths:
        where = next((p for p in _RECORD_LISTS if path[: len(p)] == p and len(path) > len(p)), None)
        if where is not None:
            index = int(path[len(where)])
            record_path = (*where, index)
            if record_path in replaced:
                continue
            replaced.add(record_path)
            records = _at(mended, where)
            sound = _sound_record(where, records[index], index)
            if sound is None:
                left_out.setdefault(where, set()).add(index)
            else:
                records[index] = sound
        elif path:
            replaced.add(path)
            parent = _at(mended, path[:-1])
            if isinstance(parent, dict):
                parent.pop(path[-1], None)
    index_of: dict[Path, list[int]] = {}
    for where, dropped in left_out.items():
        records = _at(mended, where)
        if not isinstance(records, list):
            continue  # what holds the list was taken out as well
        index_of[where] = [index for index in range(len(records)) if index not in dropped]
        _at(mended, where[:-1])[where[-1]] = [records[index] for index in index_of[where]]
    return mended, replaced, index_of


def _copy(value: Any, depth: int) -> Any:
    if depth and isinstance(value, dict):
        return {key: _copy(part, depth - 1) for key, part in value.items()}
    return list(value) if isinstance(value, list) else value


def _at(document: Any, path: Path) -> Any:
    for part in path:
        if not isinstance(document, dict):
            return None
        document = document.get(part)
    return document


def _sound_record(where: Path, record: Any, index: int) -> dict[str, Any] | None:
    """Something others can refer to in place of a faulty operator or device; nothing in place of other records."""
    if where[-1] not in {"operators", "devices"}:
        return None
    found = record if isinstance(record, dict) else {}
    name = found.get("id")
    sound: dict[str, Any] = {"id": name if isinstance(name, str) and name else f"\x00{index}"}
    if where[-1] == "operators":
        return {**sound, "compute_time_ms": {}}
    count = found.get("count")
    if isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MAX_DEVICES:
        sound["count"] = count
    elif count is not None:
        sound["count"] = STAND_IN_COUNT
    return {**sound, "kind": "\x00", "is_host": True}
