"""Documents in, documents out: a file per format, and the choice between them."""

from __future__ import annotations

from typing import Any

from solver.errors import InvalidInstance, Issue
from solver.formats import json_text, msr, native
from solver.formats.document_faults import shorten
from solver.instance import Request
from solver.result import Placement


def read(data: bytes, format: str = "auto") -> Request:  # noqa: A002  the command line's own word
    """A request from the bytes of a document in ``format``: ``native``, ``msr`` or ``auto``.

    Raises:
        UnreadableDocument: not JSON at all.
        InvalidInstance: with every fault of the document.
    """
    document = json_text.parse(data)
    if format == "msr" or (format == "auto" and msr.accepts(document)):
        return msr.from_document(document)
    return native.from_document(document)


def read_placement(data: bytes) -> Placement:
    """A placement: an answer document, ``{"placement": {...}}``, a plain map, or a split of the msr format.

    Raises:
        UnreadableDocument: not JSON at all.
        InvalidInstance: JSON, but no placement.
    """
    document: Any = json_text.parse(data)
    if msr.accepts_split(document) and "placement" not in document:
        return msr.placement_from_document(document)
    path: tuple[str, ...] = ()
    for key in ("result", "placement"):  # a resource of the service holds the answer, the answer holds the placement
        if isinstance(document, dict) and isinstance(document.get(key, ""), dict | None):
            document, path = document[key], (*path, key)
    if not isinstance(document, dict) or not document:
        raise InvalidInstance(
            (Issue("no_placement", "there is no placement in the document", path, "give {operator id: device name}"),)
        )
    hint = "give the name of one device of the cluster"
    issues = tuple(
        Issue("wrong_type", f"expected the name of a device, found {shorten(device)}", (*path, operator), hint)
        for operator, device in document.items()
        if not isinstance(device, str)
    )
    if issues:
        raise InvalidInstance(issues)
    return document
