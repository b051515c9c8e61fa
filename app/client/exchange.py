"""One conversation with the service, without input or output of its own.

An :data:`Exchange` is a generator: it yields what to send, gets the answer sent back (or the failure of the transport
thrown in), and returns the outcome. :class:`~app.client.synchronous.Client` and
:class:`~app.client.asynchronous.AsyncClient` only carry the messages, so both behave the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from app.client.errors import ServiceUnreachable, UnexpectedAnswer, describe_refusal

_TRANSIENT = frozenset({429, 502, 503, 504})
_IN_FLIGHT = "request-in-flight"


@dataclass(frozen=True, slots=True)
class Send:
    """A step of an exchange: send this, after a pause."""

    request: httpx.Request
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to keep asking when there is no answer, or one that says "later".

    The pauses double from ``first_s`` to ``most_s``; each is cut by a random part, so that many clients of a service
    that comes back do not ask all at once. A ``Retry-After`` of the service counts in their place; when it asks for
    more than ``longest_s``, the client gives up at once.
    """

    attempts: int = 9
    first_s: float = 0.25
    most_s: float = 10.0
    longest_s: float = 60.0

    def pause(self, failures: int, retry_after_s: float | None = None) -> float | None:
        """Seconds to wait after so many failures in a row; None: give up."""
        if failures >= self.attempts or (retry_after_s or 0.0) > self.longest_s:
            return None
        if retry_after_s is not None:
            return retry_after_s + random.uniform(0.0, self.first_s)  # noqa: S311  nothing secret
        return jitter(min(self.most_s, self.first_s * 2.0 ** (failures - 1)))


def jitter(pause_s: float) -> float:
    """Between half of it and all of it."""
    return pause_s * random.uniform(0.5, 1.0)  # noqa: S311  nothing secret


def send(
    build: Callable[[], httpx.Request], retry: Retry, *, after_s: float = 0.0, is_patient: bool = True
) -> Generator[Send, httpx.Response, httpx.Response]:
    """Send a request that may safely arrive twice until it is answered; the answer, when it is none of an error.

    ``is_patient`` false: a 429 is an answer like any other.

    Raises:
        ServiceUnreachable: there was no answer, however often it was tried.
        ProblemReceived: the answer is an error that repeating does not mend, or did not.
    """
    failures = 0
    while True:
        retry_after_s, failure = None, None
        try:
            response = yield Send(build(), after_s)
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:
            raise UnexpectedAnswer(f"this cannot be sent: {error}") from error
        except httpx.RequestError as error:
            failure = error
        else:
            if response.status_code < 400:
                return response
            retry_after_s = read_retry_after(response)
            refusal = describe_refusal(response.status_code, _json_or_none(response), response.text, retry_after_s)
            is_busy = response.status_code in _TRANSIENT and (is_patient or response.status_code != 429)
            if not is_busy and not (response.status_code == 409 and refusal.code == _IN_FLIGHT):
                raise refusal
        failures += 1
        pause_s = retry.pause(failures, retry_after_s)
        if pause_s is None:
            if failure is None:
                raise refusal
            raise unreachable(failure) from failure
        after_s = pause_s


def unreachable(failure: httpx.RequestError) -> ServiceUnreachable:
    """The error for a transport that failed too often."""
    reason = str(failure) or type(failure).__name__
    return ServiceUnreachable(f"the service cannot be reached: {reason}")


def read_document(response: httpx.Response) -> dict[str, Any]:
    """The JSON object in an answer.

    Raises:
        UnexpectedAnswer: it has none.
    """
    document = _json_or_none(response)
    if isinstance(document, dict):
        return document
    kind = response.headers.get("content-type", "no content type")
    raise UnexpectedAnswer(f"{response.request.url} answered {response.status_code} with {kind}, not a JSON object")


def read_retry_after(response: httpx.Response) -> float | None:
    """Seconds of the Retry-After header: a number, or the time until a date; None without a readable one."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, math.ceil((moment - datetime.now(UTC)).total_seconds()))


def _json_or_none(response: httpx.Response) -> Any:
    if "json" not in response.headers.get("content-type", ""):
        return None
    try:
        return response.json()
    except ValueError:
        return None
