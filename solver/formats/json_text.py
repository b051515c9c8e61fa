"""Bytes → JSON values, with one clear error instead of the many ways in which a JSON reader can fail."""

from __future__ import annotations

import json
from typing import Any

from solver.collector import collector_paused
from solver.errors import InvalidInstance, Issue, UnreadableDocument

MAX_KEYS_NAMED = 20


@collector_paused()
def parse(data: bytes) -> Any:
    """The JSON value in ``data`` (UTF-8, with or without byte order mark).

    Raises:
        UnreadableDocument: not UTF-8, not JSON, nested too deeply, or a number too long to be read.
        InvalidInstance: an object that gives the same key twice, where one of the two values would be lost.
    """
    repeated: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            seen: set[str] = set()
            repeated.extend(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return record

    try:
        document = json.loads(data.decode("utf-8-sig"), object_pairs_hook=collect)
    except UnicodeDecodeError as error:
        raise UnreadableDocument(f"the document is not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UnreadableDocument(f"the document is not JSON: {error.msg} at {where}") from error
    except RecursionError as error:
        raise UnreadableDocument("the document is nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise UnreadableDocument("the document holds a number with too many digits") from error
    if repeated:
        hint = "give every key of an object once"
        raise InvalidInstance(
            tuple(
                Issue("duplicate_key", f"the key {key!r} stands twice in one object", (), hint)
                for key in repeated[:MAX_KEYS_NAMED]
            )
        )
    return document
