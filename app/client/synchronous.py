"""The client for programs that wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from app.client.connection import DEFAULT_TIMEOUT_S, EVENT_SILENCE_S, connection_options
from app.client.events import Event
from app.client.exchange import Retry
from app.client.protocol import NO_OPTIONS, CancelMode, Document, EventStream, Exchange, Options, Placement, Protocol, T


class Client:
    """The service at ``url``. Safe to use from many threads.

    ``api_key`` is an API key or an OIDC token; it is sent to ``url`` only, as a bearer token. ``timeout_s`` is for
    each answer, beyond what was asked to wait for; ``retry`` says how often to ask again when none comes.
    Every method raises :class:`~app.client.errors.ClientError`, and nothing else, when it cannot do its work; an
    address or a key that can be none is a :class:`ValueError` at once.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: Retry | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retry = retry or Retry()
        self._http = httpx.Client(transport=transport, **connection_options(url, api_key, timeout_s))
        self._protocol = Protocol(self._http, self._retry, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def solve_and_wait(
        self, document: Document, options: Options = NO_OPTIONS, *, timeout_s: float | None = None
    ) -> Placement:
        """Submit and wait for the finished placement; see :meth:`submit` and :meth:`wait`.

        Raises:
            PlacementFailed: the solve ended without an answer of its own; the best until then is in the error.
        """
        return self._carry(self._protocol.solve_and_wait(document, options, timeout_s))

    def submit(self, document: Document, options: Options = NO_OPTIONS, *, wait_s: float = 0.0) -> Placement:
        """Queue a solve; the placement as it stands, after ``wait_s`` at most."""
        return self._carry(self._protocol.submit(document, options, wait_s))

    def wait(self, placement_id: str, *, timeout_s: float | None = None) -> Placement:
        """The placement once it is finished, however it ended.

        Raises:
            WaitTimeout: it is not finished after ``timeout_s``.
        """
        return self._carry(self._protocol.wait(placement_id, timeout_s))

    def read(self, placement_id: str) -> Placement:
        """The placement as it stands, with its result or the best so far."""
        return self._carry(self._protocol.read(placement_id))

    def status(self, placement_id: str) -> dict[str, Any]:
        """Where the placement stands, without its documents: cheap to ask for."""
        return self._carry(self._protocol.status(placement_id))

    def incumbents(self, placement_id: str, *, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """The steps of the search behind the sequence number ``after``, ``limit`` of them at most."""
        return self._carry(self._protocol.incumbents(placement_id, after, limit))

    def log(self, placement_id: str, *, from_byte: int = 0) -> tuple[bytes, int]:
        """A piece of what the solve has written, and where the next piece begins."""
        return self._carry(self._protocol.log(placement_id, from_byte))

    def list_page(
        self, *, state: str | None = None, tag: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> dict[str, Any]:
        """One page of the placements, newest first; its cursor leads to the next."""
        return self._carry(self._protocol.list_page(state, tag, limit, cursor))

    def list_placements(self, *, state: str | None = None, tag: str | None = None) -> Iterator[Placement]:
        """All placements, newest first, page by page as they are asked for."""
        cursor: str | None = None
        while True:
            page = self.list_page(state=state, tag=tag, cursor=cursor)
            yield from page["placements"]
            if page["next_cursor"] is None:
                return
            cursor = page["next_cursor"]

    def events(self, placement_id: str, *, after: str | None = None) -> Iterator[Event]:
        """Everything that happens to the placement, from its beginning or behind the event ``after``, to its end.

        A connection that breaks is opened again behind the last event. Close the iterator to stop listening early.
        """
        stream = EventStream(self._http.build_request, self._retry, placement_id, after, EVENT_SILENCE_S)
        pause_s = 0.0
        while not stream.has_ended():
            response = self._carry(stream.connect(pause_s), is_stream=True)
            try:
                for chunk in response.iter_bytes():
                    yield from stream.feed(chunk)
                    if stream.has_ended():
                        return
                failure: httpx.RequestError = httpx.RemoteProtocolError("the event stream ended too early")
            except httpx.RequestError as error:
                failure = error
            finally:
                response.close()
            pause_s = stream.broke(failure)

    def cancel(self, placement_id: str, mode: CancelMode = "keep_best") -> None:
        """Ask for the end of a solve: with its best placement as the result, or without any."""
        self._carry(self._protocol.cancel(placement_id, mode))

    def delete(self, placement_id: str) -> None:
        """Remove a finished placement and its documents."""
        self._carry(self._protocol.delete(placement_id))

    def validate(self, document: Document) -> dict[str, Any]:
        """What the service thinks of the document, without solving it."""
        return self._carry(self._protocol.validate(document))

    def evaluate(
        self, document: Document, placement: Mapping[str, str], *, explain: bool | str = False
    ) -> dict[str, Any]:
        """What a given placement is worth; ``explain``: also why, or why with the moves of that operator."""
        return self._carry(self._protocol.evaluate(document, placement, explain=explain))

    def limits(self) -> dict[str, Any]:
        """What may be asked of this service, by this key."""
        return self._carry(self._protocol.look_up("/limits"))

    def solvers(self) -> dict[str, Any]:
        """The methods of this service and what they support."""
        return self._carry(self._protocol.look_up("/solvers"))

    def example(self, name: str) -> dict[str, Any]:
        """A request document to try."""
        return self._carry(self._protocol.look_up(f"/examples/{name}"))

    def _carry(self, exchange: Exchange[T], *, is_stream: bool = False) -> T:
        try:
            step = next(exchange)
            while True:
                if step.after_s:
                    time.sleep(step.after_s)
                try:
                    response = self._http.send(step.request, stream=is_stream)
                    if is_stream and response.is_error:
                        response.read()  # a problem document
                except httpx.RequestError as error:
                    step = exchange.throw(error)
                else:
                    step = exchange.send(response)
        except StopIteration as end:
            outcome: T = end.value
            return outcome
