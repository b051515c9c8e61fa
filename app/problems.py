"""Errors as the client sees them: RFC 9457 problem documents, never a traceback, never another content type."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.database import log_failure
from app.schemas import Problem
from solver.errors import InvalidInstance, Issue

_MAX_TEXT = 1000
_log = logging.getLogger(__name__)

_TITLES = {
    "already-finished": "The placement has ended",
    "body-too-large": "The request body is too large",
    "database-unavailable": "The job database cannot be reached",
    "example-not-found": "There is no such example",
    "idempotency-key-reused": "The Idempotency-Key belongs to another request",
    "internal-error": "The service made a mistake",
    "invalid-document": "The document is not a valid request",
    "invalid-parameter": "A parameter of the request is not valid",
    "issuer-unreachable": "The token cannot be checked now",
    "log-out-of-range": "The log is not that long",
    "no-free-slots": "All cores are taken",
    "not-allowed": "The key does not allow this",
    "not-authenticated": "A key is needed",
    "not-finished": "The placement has not ended",
    "not-ready": "The service is not ready",
    "placement-not-found": "There is no such placement",
    "queue-full": "Too many placements are waiting",
    "quota-exceeded": "The key has all it may have",
    "rate-limited": "Too many requests",
    "request-in-flight": "The same request is being answered",
    "solver-defect": "The solver failed",
    "solver-killed": "The solve was stopped by force",
    "solver-died": "The solving process died",
    "out-of-memory": "The solve ran out of memory",
    "time-limit-overrun": "The solve overran its time limit and had to be killed",
    "too-many-attempts": "The solve was interrupted too often",
    "waited-too-long": "The job waited for longer than it was willing to",
    "too-busy": "The service has too much to read",
    "unreadable-document": "The document cannot be read",
    "unsupported-instance": "No method here solves this instance as stated",
    "unsupported-media-type": "The request body must be JSON",
}


def describe(code: str, detail: str, status: int = HTTPStatus.INTERNAL_SERVER_ERROR) -> Problem:
    """A problem document; ``code`` is the last part of its type."""
    title = _TITLES.get(code) or HTTPStatus(status).phrase
    return Problem(type=f"urn:placewright:problem:{code}", title=title, status=int(status), detail=_clip(detail))


class ProblemError(Exception):
    """Raised anywhere below a route to answer with a problem document."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = headers


class ProblemResponse(Response):
    """A problem document on the wire."""

    media_type = "application/problem+json"

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        # ensure_ascii stays on: an issue may quote a lone surrogate, which has no UTF-8 form.
        body = json.dumps(problem.model_dump(exclude_none=True), allow_nan=False)
        super().__init__(body, status_code=problem.status, headers=dict(headers or {}))


def describe_issues(code: str, issues: tuple[Issue, ...], limit: int) -> Problem:
    """A 422 that lists up to ``limit`` faults and counts them all."""
    listed = list_issue_records(issues[:limit])
    count = "1 fault" if len(issues) == 1 else f"{len(issues)} faults"
    detail = f"{count} found." if len(listed) == len(issues) else f"{count} found; the first {limit} are listed."
    problem = describe(code, detail, HTTPStatus.UNPROCESSABLE_ENTITY)
    return Problem.model_validate(problem.model_dump() | {"issues": listed, "num_issues": len(issues)})


def list_issue_records(issues: tuple[Issue, ...]) -> list[dict[str, str]]:
    """The faults as JSON values."""
    return [
        {
            "code": issue.code,
            "pointer": _clip(issue.pointer),
            "message": _clip(issue.message),
            "hint": _clip(issue.hint),
        }
        for issue in issues
    ]


def _clip(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


async def _answer_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)  # noqa: S101 - registered for this class only
    return ProblemResponse(error.problem, error.headers)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    details = {
        404: f"Nothing is at {request.url.path}. GET /openapi.json describes what there is.",
        405: f"{request.method} is not possible at {request.url.path}.",
    }
    status = error.status_code
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return ProblemResponse(reject_large_body(request.app.state.settings.max_body_bytes).problem)
    code = HTTPStatus(status).phrase.lower().replace(" ", "-")
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods_of(request)):
        headers["Allow"] = ", ".join(methods)  # the framework names only those of the first route that matches
    return ProblemResponse(describe(code, details.get(status, str(error.detail)), status), headers)


def _methods_of(request: Request) -> list[str]:
    """What can be done at the address of the request, as documented."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    if request.url.path in paths:
        return sorted(method.upper() for method in paths[request.url.path])
    methods: set[str] = set()
    for template, operations in paths.items():
        pattern = "[^/]+".join(re.escape(part) for part in re.split(r"\{\w+\}", template))
        if re.fullmatch(pattern, request.url.path):
            methods |= {method.upper() for method in operations}
    return sorted(methods)


async def _answer_invalid_parameter(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    issues = tuple(
        Issue(code=str(fault["type"]), message=str(fault["msg"]), path=tuple(fault["loc"]), hint="See /docs.")
        for fault in error.errors()
    )
    return ProblemResponse(describe_issues("invalid-parameter", issues, limit=100))


async def _answer_database_error(_request: Request, error: Exception) -> Response:
    log_failure(_log, "answered 503", error)
    problem = describe("database-unavailable", "Try again in a moment.", HTTPStatus.SERVICE_UNAVAILABLE)
    return ProblemResponse(problem, {"Retry-After": "2"})


async def _answer_broken_off(_request: Request, _error: Exception) -> Response:
    # Nobody hears it: the client has gone in the middle of its body. But it is no fault of the service.
    return ProblemResponse(describe("unreadable-document", "The body breaks off.", HTTPStatus.BAD_REQUEST))


async def _answer_defect(_request: Request, _error: Exception) -> Response:
    # Starlette raises the exception again afterwards: the server logs the traceback and closes the connection, of which
    # the client must know, or its next request would be lost.
    problem = describe("internal-error", "The fault is not in the request. It has been logged.")
    return ProblemResponse(problem, {"Connection": "close"})


def install_handlers(app: FastAPI) -> None:
    """Make every error that a route or the framework raises a problem document."""
    app.add_exception_handler(ProblemError, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_parameter)
    app.add_exception_handler(ClientDisconnect, _answer_broken_off)
    app.add_exception_handler(SQLAlchemyError, _answer_database_error)
    app.add_exception_handler(Exception, _answer_defect)


def reject_instance(error: InvalidInstance, code: str, limit: int) -> ProblemError:
    """The 422 for an instance that breaks rules or that nothing here can solve."""
    return ProblemError(describe_issues(code, error.issues, limit))


def reject_parameter(name: str, message: str, hint: str) -> ProblemError:
    """The 422 for a query parameter that only a second look finds wrong."""
    issue = Issue("invalid_parameter", message, ("query", name), hint)
    return ProblemError(describe_issues("invalid-parameter", (issue,), limit=1))


def reject_large_body(max_body_bytes: int) -> ProblemError:
    """The 413, with the limit the client has to keep."""
    detail = f"A request body may have {max_body_bytes} bytes, also after decompression."
    return ProblemError(describe("body-too-large", detail, HTTPStatus.REQUEST_ENTITY_TOO_LARGE))


def reject_not_ready() -> ProblemError:
    """The 503 of a service that begins or ends."""
    detail = "The service is starting or stopping, or no dispatcher runs jobs."
    return ProblemError(describe("not-ready", detail, HTTPStatus.SERVICE_UNAVAILABLE), {"Retry-After": "5"})


class CutOffProblems:
    """Answers the requests that the end of the server cuts off: nobody else cancels one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through; a 503 once it is cancelled, unless its answer has begun."""
        has_begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            if not has_begun:
                error = reject_not_ready()
                await ProblemResponse(error.problem, error.headers)(scope, receive, send)


class BodyLimitProblems:
    """Rewrites the text/plain 413 of the framework's body limit, which is sent from outside the exception handlers."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._problem = reject_large_body(max_body_bytes).problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through but a plain 413."""
        replacing = False

        async def send_problem(message: Message) -> None:
            nonlocal replacing
            if message["type"] == "http.response.start" and _is_plain_413(message):
                replacing = True
                await ProblemResponse(self._problem)(scope, receive, send)
            elif not replacing:
                await send(message)

        await self._app(scope, receive, send_problem)


def _is_plain_413(message: Message) -> bool:
    headers: dict[bytes, Any] = dict(message["headers"])
    return bool(message["status"] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE) and headers.get(
        b"content-type", b""
    ).startswith(b"text/plain")
