"""A search on a service, for the command line: it looks and ends like one in this process."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from rich.text import Text

from app.client import (
    Client,
    ClientError,
    Conflict,
    InvalidRequest,
    PlacementFailed,
    Retry,
    ServiceUnavailable,
    ServiceUnreachable,
    TooManyRequests,
    UnexpectedAnswer,
)
from app.display import printable
from solver.errors import InvalidInstance, Issue
from solver.formats.native import request_document
from solver.result import Incumbent, Progress, Result, StopReason
from solver.verification import verify

if TYPE_CHECKING:
    from rich.console import Console

    from app.search import Search
    from solver.instance import Instance, Request

API_KEY_VARIABLE = "PLACEWRIGHT_API_KEY"
_CHECK_INTERVAL_S = 0.1
_HASTY = Retry(attempts=4)
"""A service that has never answered is more likely mistyped than busy."""
_RELATIVE_TOLERANCE = 1e-9
"""Two versions may add the same numbers in another order."""
_UNAVAILABLE = (PlacementFailed, ServiceUnavailable, ServiceUnreachable, TooManyRequests, UnexpectedAnswer)
_read_result = TypeAdapter(Result).validate_python
_read_incumbent = TypeAdapter(Incumbent).validate_python


class RemoteError(Exception):
    """The service gave no answer that counts, in a sentence for people."""

    def __init__(self, message: str, *, is_unavailable: bool) -> None:
        super().__init__(message)
        self.is_unavailable = is_unavailable
        """Whether the same command may work later."""


class WrongAnswer(Exception):
    """The answer of the service does not hold: its placement breaks rules, or is not worth what it says."""


@dataclass(frozen=True, slots=True)
class RemoteAnswer:
    """The answer as a record, and as the service wrote it."""

    result: Result
    document: dict[str, Any]


def search_there(url: str, request: Request, console: Console) -> Search[Progress, RemoteAnswer]:
    """Let the service at ``url`` solve ``request``; the placement is verified once more on this side.

    The search raises :class:`InvalidInstance` for the service's own faults of the document, :class:`RemoteError` and
    :class:`WrongAnswer`.

    Raises:
        RemoteError: ``url`` is no address.
    """
    api_key = os.environ.get(API_KEY_VARIABLE) or None
    try:
        hasty, patient = Client(url, api_key=api_key, retry=_HASTY), Client(url, api_key=api_key)
    except ValueError as error:
        raise RemoteError(printable(str(error)), is_unavailable=False) from error

    def search(report: Callable[[Progress], None], stop: threading.Event) -> RemoteAnswer:
        try:
            with hasty, patient:
                placement_id = hasty.submit(request_document(request))["id"]
                console.print(Text(f"placement {printable(placement_id)}"))
                placement = _follow(patient, placement_id, report, stop)
        except InvalidRequest as error:
            if error.issues:
                raise InvalidInstance(tuple(_read_issue(issue) for issue in error.issues)) from error
            raise RemoteError(printable(str(error)), is_unavailable=False) from error
        except ClientError as error:
            raise RemoteError(printable(str(error)), is_unavailable=isinstance(error, _UNAVAILABLE)) from error
        if placement["error"] is not None:
            console.print(Text(printable(str(PlacementFailed(placement)))))
        return _check(request.instance, placement)

    return search


def _follow(
    client: Client, placement_id: str, report: Callable[[Progress], None], stop: threading.Event
) -> dict[str, Any]:
    """The finished placement; cancelled when ``stop`` is set first."""
    outcome: Future[dict[str, Any]] = Future()

    def watch() -> None:
        try:
            _show(client, placement_id, report)
            outcome.set_result(client.wait(placement_id))
        except BaseException as error:  # noqa: BLE001  raised again below
            outcome.set_exception(error)

    threading.Thread(target=watch, name="watch", daemon=True).start()
    is_cancelled = False
    while not outcome.done():
        with suppress(TimeoutError):
            outcome.exception(_CHECK_INTERVAL_S)
        if stop.is_set() and not is_cancelled:
            is_cancelled = True
            with suppress(Conflict):  # it has just finished
                client.cancel(placement_id, "keep_best")
    placement = outcome.result()
    if placement["result"] is None:
        if is_cancelled:  # while it was still queued
            raise KeyboardInterrupt
        raise PlacementFailed(placement)
    return placement


def _show(client: Client, placement_id: str, report: Callable[[Progress], None]) -> None:
    """Report the steps of the search while they come. They are for the display only, so it may fail."""
    with suppress(ClientError, ValidationError):
        for event in client.events(placement_id):
            if event.kind == "incumbent":
                report(Progress(_read_incumbent(event.data)))


def _check(instance: Instance, placement: dict[str, Any]) -> RemoteAnswer:
    document = placement["result"]
    try:
        # A solve that died has no reason to have stopped; for people, it was interrupted.
        stopped = document["stop_reason"] or StopReason.CANCELLED
        result = _read_result(document | {"stop_reason": stopped, "infeasibility": document["infeasibility"] or ()})
    except (KeyError, TypeError, ValidationError) as error:
        raise RemoteError("the service answered in a form this version cannot read", is_unavailable=False) from error
    if result.placement is not None:
        verification = verify(instance, result.placement)
        value, claimed = verification.objective_value, result.objective_value
        if verification.violations:
            raise WrongAnswer(f"the placement breaks a rule: {verification.violations[0].message}")
        if value is None or claimed is None or not math.isclose(value, claimed, rel_tol=_RELATIVE_TOLERANCE):
            raise WrongAnswer(f"the placement is worth {value}, not {claimed}")
    return RemoteAnswer(result, document)


def _read_issue(issue: dict[str, str]) -> Issue:
    parts = issue.get("pointer", "").split("/")[1:]
    path = tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)
    return Issue(issue.get("code", "unknown"), issue.get("message", ""), path, issue.get("hint", ""))
