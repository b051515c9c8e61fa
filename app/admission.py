"""The door: documents are read and checked here before anything is done with them."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import ValidationError

from app.problems import ProblemError, describe, reject_instance
from app.schemas import Cancellation
from solver.errors import InvalidInstance, Issue, UnreadableDocument, UnsupportedInstance
from solver.formats import json_text, native
from solver.instance import Instance, Request, SolverOptions
from solver.solve import check_supported
from solver.verification import Verification, verify

_Read = TypeVar("_Read")


def read_json(document: bytes) -> Any:
    """The JSON value of a body. Raises :class:`ProblemError` (400) when it is none."""
    try:
        return json_text.parse(document)
    except UnreadableDocument as error:
        raise ProblemError(describe("unreadable-document", str(error), HTTPStatus.BAD_REQUEST)) from error


def admit(document: bytes, max_issues: int) -> SolverOptions:
    """Check a request document that is to be solved; what it asks of the solver.

    Raises:
        ProblemError: 400 for what is no JSON, 422 with every fault of the document.
    """
    return _answering(max_issues, lambda: _read_supported(document).options)


def list_issues(document: bytes) -> tuple[Instance | None, tuple[Issue, ...], bool]:
    """What can be read of a request document, all its faults, and whether something here can solve it."""
    try:
        request = native.from_document(read_json(document))
    except InvalidInstance as error:
        return None, error.issues, False
    try:
        check_supported(request.instance)
    except UnsupportedInstance as error:
        return request.instance, error.issues, False
    return request.instance, (), True


def read_cancellation(document: bytes, max_issues: int) -> Cancellation:
    """How to cancel; nothing said means to keep the best.

    Raises:
        ProblemError: 400 for what is no JSON, 422 with every fault of the document.
    """

    def read() -> Cancellation:
        try:
            return Cancellation.model_validate(read_json(document) if document else {})
        except ValidationError as error:
            raise InvalidInstance(tuple(native.issue_of(f) for f in error.errors(include_url=False))) from error

    return _answering(max_issues, read)


def evaluate(document: bytes, max_issues: int) -> Verification:
    """What the placement of an evaluation document is worth.

    Raises:
        ProblemError: 400 for what is no JSON, 422 with every fault of the document.
    """

    def run() -> Verification:
        instance, placement = _read_evaluation(read_json(document))
        try:
            return verify(instance, placement)
        except InvalidInstance as error:
            raise type(error)(_inside("request", error.issues)) from error

    return _answering(max_issues, run)


def _read_supported(document: bytes) -> Request:
    request = native.from_document(read_json(document))
    check_supported(request.instance)
    return request


def _read_evaluation(document: Any) -> tuple[Instance, dict[str, str]]:
    if not isinstance(document, dict):
        message = f"expected an object, found {type(document).__name__}"
        raise InvalidInstance((Issue("wrong_type", message, (), "give {request, placement}"),))
    issues = [
        Issue("unknown_field", f"there is no field {name!r} here", (name,), "remove it; mind the spelling")
        for name in document.keys() - {"request", "placement"}
    ]
    issues += [
        Issue("missing_field", f"the field {name!r} is missing", (name,), "add the field")
        for name in ("request", "placement")
        if name not in document
    ]
    placement = document.get("placement", {})
    if isinstance(placement, dict):
        issues += [
            Issue("wrong_type", "expected the name of a device", ("placement", operator), "give a JSON string")
            for operator, device in placement.items()
            if not isinstance(device, str)
        ]
    else:
        issues.append(Issue("wrong_type", "expected an object", ("placement",), "give {operator id: device name}"))
    try:
        request = native.from_document(document["request"]) if "request" in document else None
    except InvalidInstance as error:
        issues += _inside("request", error.issues)
        request = None
    if issues or request is None:
        raise InvalidInstance(tuple(issues))
    return request.instance, placement


def _inside(field: str, issues: tuple[Issue, ...]) -> tuple[Issue, ...]:
    return tuple(Issue(issue.code, issue.message, (field, *issue.path), issue.hint) for issue in issues)


def _answering(max_issues: int, work: Callable[[], _Read]) -> _Read:
    try:
        return work()
    except UnsupportedInstance as error:
        raise reject_instance(error, "unsupported-instance", max_issues) from error
    except InvalidInstance as error:
        raise reject_instance(error, "invalid-document", max_issues) from error
