"""What can go wrong between a client and the service. Whoever catches :class:`ClientError` catches all of it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

_MAX_QUOTED = 200


class ClientError(Exception):
    """The service did not do what was asked; the message is a sentence for people."""


class ServiceUnreachable(ClientError):
    """No answer came, however often it was asked for; the last failure is the ``__cause__``."""


class UnexpectedAnswer(ClientError):
    """Something answered that does not speak the language of the service: a wrong address, or a proxy on the way."""


class WaitTimeout(ClientError):
    """The placement was not finished in the time the caller had. The service goes on with it."""

    def __init__(self, placement: dict[str, Any], timeout_s: float) -> None:
        super().__init__(f"placement {placement['id']} is {placement['state']} after {timeout_s:g} s of waiting")
        self.placement = placement
        """The resource as it stood at the end, with the best so far."""


class PlacementFailed(ClientError):
    """The solve ended without an answer of its own; ``placement`` still has the best found until then."""

    def __init__(self, placement: dict[str, Any]) -> None:
        error = placement["error"] or {}
        reason = error.get("detail") or error.get("title") or "there is no result"
        super().__init__(f"placement {placement['id']} ended as {placement['state']}: {reason}")
        self.placement = placement


class ProblemReceived(ClientError):
    """The service refused, with a problem document (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any], retry_after_s: float | None = None) -> None:
        title = problem.get("title") or _phrase(status)
        detail = problem.get("detail")
        super().__init__(f"{title}: {detail}" if detail else str(title))
        self.status = status
        self.problem = problem
        self.retry_after_s = retry_after_s
        """When the service wants to be asked again, if it said so."""

    @property
    def code(self) -> str:
        """The stable name of the kind of problem, such as ``invalid-document``."""
        return str(self.problem.get("type", "about:blank")).rpartition(":")[2]

    @property
    def issues(self) -> list[dict[str, str]]:
        """The faults of the document: ``code``, ``pointer``, ``message``, ``hint``."""
        return self.problem.get("issues") or []


class InvalidRequest(ProblemReceived):
    """The request breaks rules (400, 413, 415, 422); :attr:`issues` lists those of its document."""


class NotAuthenticated(ProblemReceived):
    """The service wants a key or a token, or does not accept the one it got (401)."""


class NotAllowed(ProblemReceived):
    """The key may not do this (403)."""


class NotFound(ProblemReceived):
    """There is no such placement, or not for this key (404)."""


class Conflict(ProblemReceived):
    """The placement is in a state that does not allow this (409)."""


class TooManyRequests(ProblemReceived):
    """A rate limit, a quota or a full queue (429)."""


class ServiceUnavailable(ProblemReceived):
    """The service or something before it cannot answer now (502, 503, 504)."""


_KINDS: dict[int, type[ProblemReceived]] = {
    400: InvalidRequest,
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: TooManyRequests,
    502: ServiceUnavailable,
    503: ServiceUnavailable,
    504: ServiceUnavailable,
}


def describe_refusal(status: int, problem: object, text: str, retry_after_s: float | None) -> ProblemReceived:
    """The error for an answer of 400 or above. ``problem`` is its body as JSON, or None when it is none."""
    if not isinstance(problem, dict):  # written by something between the service and this client
        quoted = " ".join(text.split())[:_MAX_QUOTED]
        problem = {"title": _phrase(status), "detail": quoted} if quoted else {"title": _phrase(status)}
    return _KINDS.get(status, ProblemReceived)(status, problem, retry_after_s)


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
