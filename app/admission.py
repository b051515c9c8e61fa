"""The door: documents are read and checked here before anything is done with them."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import ValidationError

from app.problems import ProblemError, describe, reject_instance
from app.schemas import Cancellation
from solver.errors import InvalidInstance, Issue, UnreadableDocument, UnsupportedInstance
from solver.explanation import explain
from solver.formats import document_faults, json_text, native
from solver.instance import Instance, Request, SolverOptions
from solver.solve import check_supported
from solver.verification import verify

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
            raise InvalidInstance(
                tuple(document_faults.issue_of(f) for f in error.errors(include_url=False))
            ) from error

    return _answering(max_issues, read)


def evaluate(document: bytes, max_issues: int) -> dict[str, Any]:
    """What the placement of an evaluation document is worth and, if it asks, why.

    Raises:
        ProblemError: 400 for what is no JSON, 422 with every fault of the document.
    """

    def run() -> dict[str, Any]:
        instance, placement, wanted = _read_evaluation(read_json(document))
        try:
            verification = verify(instance, placement)
            if wanted is False:
                return native.verification_document(verification)
            explanation = explain(instance, placement, None if wanted is True else wanted)
            return native.explanation_document(verification, explanation)
        except InvalidInstance as error:
            raise type(error)(_inside("request", error.issues)) from error

    return _answering(max_issues, run)


def _read_supported(document: bytes) -> Request:
    request = native.from_document(read_json(document))
    check_supported(request.instance)
    return request


def _read_evaluation(document: Any) -> tuple[Instance, dict[str, str], bool | str]:
    """The instance, the placement, and what to explain: nothing, the whole, or the moves of one operator as well."""
    if not isinstance(document, dict):
        message = f"expected an object, found {type(document).__name__}"
        raise InvalidInstance((Issue("wrong_type", message, (), "give {request, placement}"),))
    issues = [
        Issue("unknown_field", f"there is no field {name!r} here", (name,), "remove it; mind the spelling")
        for name in document.keys() - {"request", "placement", "explain"}
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
    wanted = document.get("explain", False)
    if not isinstance(wanted, bool | str):
        message = "expected true, false or the id of an operator"
        issues.append(Issue("wrong_type", message, ("explain",), "give true, or the operator whose moves count"))
    try:
        request = native.from_document(document["request"]) if "request" in document else None
    except InvalidInstance as error:
        issues += _inside("request", error.issues)
        request = None
    if isinstance(wanted, str) and request and wanted not in {o.id for o in request.instance.graph.operators}:
        message = f"there is no operator {wanted!r}"
        issues.append(Issue("unknown_operator", message, ("explain",), "name an operator of graph.operators"))
    if issues or request is None:
        raise InvalidInstance(tuple(issues))
    return request.instance, placement, wanted


def _inside(field: str, issues: tuple[Issue, ...]) -> tuple[Issue, ...]:
    return tuple(Issue(issue.code, issue.message, (field, *issue.path), issue.hint) for issue in issues)


def _answering(max_issues: int, work: Callable[[], _Read]) -> _Read:
    try:
        return work()
    except UnsupportedInstance as error:
        raise reject_instance(error, "unsupported-instance", max_issues) from error
    except InvalidInstance as error:
        raise reject_instance(error, "invalid-document", max_issues) from error
