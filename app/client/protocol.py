"""What can be said to the service: every operation as an exchange, shared by both clients."""

from __future__ import annotations

import gzip
import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx

from app.client.errors import NotFound, PlacementFailed, WaitTimeout
from app.client.events import END, Event, EventDecoder
from app.client.exchange import Retry, Send, jitter, read_document, read_retry_after, send, unreachable

T = TypeVar("T")
Exchange = Generator[Send, httpx.Response, T]
Document = Mapping[str, Any] | bytes
"""A request document: as JSON values, or as the bytes of a file."""
Placement = dict[str, Any]
"""A placement resource, as the service's OpenAPI document describes it."""
CancelMode = Literal["keep_best", "discard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a submission may say beside its document; see ``POST /placements`` in the service's OpenAPI document."""

    tags: Sequence[str] = ()
    priority: int = 0
    max_wait_s: float | None = None
    """How long it may stay queued. 0: it starts now or not at all, and a 429 is not tried again."""
    warm_start: str | None = None
    """Id of an earlier placement to start the search from."""
    webhook_url: str | None = None
    idempotency_key: str | None = None
    """The same key with the same request gives the same placement, also from another process; made up unless given."""

    def parameters(self) -> dict[str, Any]:
        """The query of the address."""
        tags = {"tag": list(self.tags)} if self.tags else {}
        priority = {"priority": self.priority} if self.priority else {}
        rest = _given(max_wait_s=self.max_wait_s, warm_start=self.warm_start, webhook_url=self.webhook_url)
        return tags | priority | rest


NO_OPTIONS = Options()
TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled", "expired"})
_LONG_POLL_S = 30
_POLL_S = 1.0
"""Between two looks when the service has not said when to come back."""
_GZIP_FROM_BYTES = 16 * 1024


class Protocol:
    """Builds the requests of one client and reads the answers to them."""

    def __init__(self, http: httpx.Client | httpx.AsyncClient, retry: Retry, timeout_s: float) -> None:
        self._http, self._retry, self._timeout_s = http, retry, timeout_s

    def submit(self, document: Document, options: Options, wait_s: float) -> Exchange[Placement]:
        """POST /placements. The key makes it safe to send again what may already have arrived."""
        wait = math.ceil(wait_s)
        headers = {
            "Idempotency-Key": options.idempotency_key or str(uuid4()),
            "Prefer": f"wait={wait}" if wait else "respond-async",
        }
        response = yield from self._call(
            "POST",
            "/placements",
            document=document,
            params=options.parameters(),
            headers=headers,
            longer_s=wait,
            is_patient=options.max_wait_s != 0,
        )
        return read_document(response)

    def read(self, placement_id: str) -> Exchange[Placement]:
        """GET /placements/{id}."""
        return self._read("GET", _path(placement_id))

    def status(self, placement_id: str) -> Exchange[dict[str, Any]]:
        """GET /placements/{id}/status."""
        return self._read("GET", _path(placement_id, "status"))

    def incumbents(self, placement_id: str, after: int, limit: int) -> Exchange[list[dict[str, Any]]]:
        """GET /placements/{id}/incumbents."""
        parameters = {"after": after, "limit": limit}
        page = yield from self._read("GET", _path(placement_id, "incumbents"), params=parameters)
        incumbents: list[dict[str, Any]] = page["incumbents"]
        return incumbents

    def log(self, placement_id: str, from_byte: int) -> Exchange[tuple[bytes, int]]:
        """GET /placements/{id}/log."""
        response = yield from self._call("GET", _path(placement_id, "log"), params={"from_byte": from_byte})
        return response.content, int(response.headers.get("Next-Byte", from_byte + len(response.content)))

    def list_page(
        self, state: str | None, tag: str | None, limit: int | None, cursor: str | None
    ) -> Exchange[dict[str, Any]]:
        """GET /placements: one page."""
        return self._read("GET", "/placements", params=_given(state=state, tag=tag, limit=limit, cursor=cursor))

    def cancel(self, placement_id: str, mode: CancelMode) -> Exchange[None]:
        """POST /placements/{id}/cancel."""
        yield from self._call("POST", _path(placement_id, "cancel"), document={"mode": mode})

    def delete(self, placement_id: str) -> Exchange[None]:
        """DELETE /placements/{id}. A 404 to the second of two tries means that the first one worked."""
        tries = 0

        def build() -> httpx.Request:
            nonlocal tries
            tries += 1
            return self._http.build_request("DELETE", _path(placement_id))

        try:
            yield from send(build, self._retry)
        except NotFound:
            if tries == 1:
                raise

    def validate(self, document: Document) -> Exchange[dict[str, Any]]:
        """POST /placements/validate."""
        return self._read("POST", "/placements/validate", document=document)

    def evaluate(
        self, document: Document, placement: Mapping[str, str], *, explain: bool | str
    ) -> Exchange[dict[str, Any]]:
        """POST /placements/evaluate."""
        request = json.loads(document) if isinstance(document, bytes) else document
        body = {"request": request, "placement": placement} | ({} if explain is False else {"explain": explain})
        return self._read("POST", "/placements/evaluate", document=body)

    def look_up(self, path: str) -> Exchange[dict[str, Any]]:
        """GET of a document that belongs to no placement."""
        return self._read("GET", path)

    def wait(self, placement_id: str, timeout_s: float | None) -> Exchange[Placement]:
        """Long-poll until the placement is finished.

        Raises:
            WaitTimeout: it is not, after ``timeout_s``.
        """
        started = time.monotonic()
        pause_s = 0.0
        while True:
            left_s = math.inf if timeout_s is None else timeout_s - (time.monotonic() - started) - pause_s
            wait_s = max(0, math.ceil(min(_LONG_POLL_S, left_s)))
            asked_at = time.monotonic() + pause_s
            response = yield from self._call(
                "GET", _path(placement_id), headers={"Prefer": f"wait={wait_s}"}, longer_s=wait_s, after_s=pause_s
            )
            placement = read_document(response)
            if placement["state"] in TERMINAL_STATES:
                return placement
            now = time.monotonic()
            if timeout_s is not None and now - started >= timeout_s:
                raise WaitTimeout(placement, timeout_s)
            # A service that is stopping, or a proxy before it, may answer before the wait is over.
            was_short = now - asked_at < wait_s - 1
            pause_s = jitter(read_retry_after(response) or _POLL_S) if was_short else 0.0

    def solve_and_wait(self, document: Document, options: Options, timeout_s: float | None) -> Exchange[Placement]:
        """Submit, and wait until the placement is finished; the time-out is for the waiting.

        Raises:
            PlacementFailed: the solve ended without an answer of its own.
            WaitTimeout: it has not ended after ``timeout_s``.
        """
        # Not one long POST: once the id is known, a connection that breaks costs nothing.
        placement = yield from self.submit(document, options, 0.0)
        if placement["state"] not in TERMINAL_STATES:
            placement = yield from self.wait(placement["id"], timeout_s)
        if placement["state"] in ("failed", "expired"):
            raise PlacementFailed(placement)
        return placement

    def _read(self, method: str, path: str, **request: Any) -> Exchange[dict[str, Any]]:
        response = yield from self._call(method, path, **request)
        return read_document(response)

    def _call(
        self,
        method: str,
        path: str,
        *,
        document: Document | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        longer_s: float = 0.0,
        after_s: float = 0.0,
        is_patient: bool = True,
    ) -> Exchange[httpx.Response]:
        content, content_headers = _encode(document)
        all_headers = {**content_headers, **(headers or {})}
        timeout = httpx.Timeout(self._timeout_s, read=self._timeout_s + longer_s)

        def build() -> httpx.Request:
            return self._http.build_request(
                method, path, content=content, params=params, headers=all_headers, timeout=timeout
            )

        return send(build, self._retry, after_s=after_s, is_patient=is_patient)


class EventStream:
    """One placement's events over as many connections as it takes: what both clients ask at every turn."""

    def __init__(
        self, build: Callable[..., httpx.Request], retry: Retry, placement_id: str, after: str | None, timeout_s: float
    ) -> None:
        self._build, self._retry = build, retry
        self._path, self._timeout_s = _path(placement_id, "events"), timeout_s
        self._decoder = EventDecoder(after or "")
        self._failures = 0
        self._has_ended = False

    def has_ended(self) -> bool:
        """Whether the last event was the last one of all."""
        return self._has_ended

    def connect(self, after_s: float) -> Exchange[httpx.Response]:
        """Open the stream, behind the last event that arrived whole."""
        self._decoder.restart()
        return send(self._request, self._retry, after_s=after_s)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this piece of the stream completes.

        Raises:
            UnexpectedAnswer: it is no stream of events of this service.
        """
        for event in self._decoder.feed(chunk):
            self._failures = 0
            self._has_ended = event.kind == END
            yield event
            if self._has_ended:
                return

    def broke(self, failure: httpx.RequestError) -> float:
        """The stream broke off before its end; how long to wait before the next connection.

        Raises:
            ServiceUnreachable: it did so too often with nothing new in between.
        """
        self._failures += 1
        pause_s = self._retry.pause(self._failures, self._decoder.retry_s)
        if pause_s is None:
            raise unreachable(failure) from failure
        return pause_s

    def _request(self) -> httpx.Request:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._decoder.last_id:
            headers["Last-Event-ID"] = self._decoder.last_id
        return self._build("GET", self._path, headers=headers, timeout=self._timeout_s)


def _path(placement_id: str, *rest: str) -> str:
    return "/".join(("/placements", quote(placement_id, safe=""), *rest))


def _given(**parameters: Any) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _encode(document: Document | None) -> tuple[bytes | None, dict[str, str]]:
    if document is None:
        return None, {}
    body = document if isinstance(document, bytes) else json.dumps(document, allow_nan=False).encode("ascii")
    headers = {"Content-Type": "application/json"}
    if len(body) >= _GZIP_FROM_BYTES:
        return gzip.compress(body, compresslevel=3, mtime=0), {**headers, "Content-Encoding": "gzip"}
    return body, headers
