"""Bytes → JSON values, with one clear error instead of the many ways in which a JSON reader can fail."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from solver.collector import collector_paused
from solver.errors import InvalidInstance, Issue, Path, UnreadableDocument

MAX_KEYS_NAMED = 20


@collector_paused()
def parse(data: bytes) -> Any:
    """The JSON value in ``data`` (UTF-8, with or without byte order mark).

    Raises:
        UnreadableDocument: not UTF-8, not JSON, nested too deeply, or a number too long to be read.
        InvalidInstance: an object that gives the same key twice, where one of the two values would be lost.
    """
    ambiguous: list[_Ambiguous] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) == len(pairs):
            return record
        ambiguous.append(_Ambiguous(record))
        ambiguous[-1].repeated = tuple(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        return ambiguous[-1]

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
    if ambiguous:
        raise InvalidInstance(tuple(itertools.islice(_repeated_keys(document), MAX_KEYS_NAMED)))
    return document


class _Ambiguous(dict[str, Any]):
    """An object that gave some keys more than once."""

    repeated: tuple[str, ...] = ()


def _repeated_keys(document: Any) -> Iterator[Issue]:
    """Each key that an object repeats, where it stands."""
    left: list[tuple[Path, Any]] = [((), document)]
    while left:
        path, value = left.pop()
        if isinstance(value, _Ambiguous):
            for key in value.repeated:
                message = f"the key {key!r} stands more than once in one object"
                yield Issue("duplicate_key", message, (*path, key), "give every key of an object once")
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        left += reversed([((*path, key), part) for key, part in parts])
