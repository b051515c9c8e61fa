"""The client for programs that do other things meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from app.client.connection import DEFAULT_TIMEOUT_S, EVENT_SILENCE_S, connection_options
from app.client.events import Event
from app.client.exchange import Retry
from app.client.protocol import NO_OPTIONS, CancelMode, Document, EventStream, Exchange, Options, Placement, Protocol, T


class AsyncClient:
    """:class:`~app.client.synchronous.Client` for asyncio: the same operations, arguments and errors."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: Retry | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retry = retry or Retry()
        self._http = httpx.AsyncClient(transport=transport, **connection_options(url, api_key, timeout_s))
        self._protocol = Protocol(self._http, self._retry, timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def solve_and_wait(
        self, document: Document, options: Options = NO_OPTIONS, *, timeout_s: float | None = None
    ) -> Placement:
        """Submit and wait for the finished placement; see :meth:`submit` and :meth:`wait`.

        Raises:
            PlacementFailed: the solve ended without an answer of its own; the best until then is in the error.
        """
        return await self._carry(self._protocol.solve_and_wait(document, options, timeout_s))

    async def submit(self, document: Document, options: Options = NO_OPTIONS, *, wait_s: float = 0.0) -> Placement:
        """Queue a solve; the placement as it stands, after ``wait_s`` at most."""
        return await self._carry(self._protocol.submit(document, options, wait_s))

    async def wait(self, placement_id: str, *, timeout_s: float | None = None) -> Placement:
        """The placement once it is finished, however it ended.

        Raises:
            WaitTimeout: it is not finished after ``timeout_s``.
        """
        return await self._carry(self._protocol.wait(placement_id, timeout_s))

    async def read(self, placement_id: str) -> Placement:
        """The placement as it stands, with its result or the best so far."""
        return await self._carry(self._protocol.read(placement_id))

    async def status(self, placement_id: str) -> dict[str, Any]:
        """Where the placement stands, without its documents: cheap to ask for."""
        return await self._carry(self._protocol.status(placement_id))

    async def incumbents(self, placement_id: str, *, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """The steps of the search behind the sequence number ``after``, ``limit`` of them at most."""
        return await self._carry(self._protocol.incumbents(placement_id, after, limit))

    async def log(self, placement_id: str, *, from_byte: int = 0) -> tuple[bytes, int]:
        """A piece of what the solve has written, and where the next piece begins."""
        return await self._carry(self._protocol.log(placement_id, from_byte))

    async def list_page(
        self, *, state: str | None = None, tag: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> dict[str, Any]:
        """One page of the placements, newest first; its cursor leads to the next."""
        return await self._carry(self._protocol.list_page(state, tag, limit, cursor))

    async def list_placements(self, *, state: str | None = None, tag: str | None = None) -> AsyncIterator[Placement]:
        """All placements, newest first, page by page as they are asked for."""
        cursor: str | None = None
        while True:
            page = await self.list_page(state=state, tag=tag, cursor=cursor)
            for placement in page["placements"]:
                yield placement
            if page["next_cursor"] is None:
                return
            cursor = page["next_cursor"]

    async def events(self, placement_id: str, *, after: str | None = None) -> AsyncIterator[Event]:
        """Everything that happens to the placement, from its beginning or behind the event ``after``, to its end.

        A connection that breaks is opened again behind the last event. Close the iterator to stop listening early.
        """
        stream = EventStream(self._http.build_request, self._retry, placement_id, after, EVENT_SILENCE_S)
        pause_s = 0.0
        while not stream.has_ended():
            response = await self._carry(stream.connect(pause_s), is_stream=True)
            try:
                async for chunk in response.aiter_bytes():
                    for event in stream.feed(chunk):
                        yield event
                    if stream.has_ended():
                        return
                failure: httpx.RequestError = httpx.RemoteProtocolError("the event stream ended too early")
            except httpx.RequestError as error:
                failure = error
            finally:
                await response.aclose()
            pause_s = stream.broke(failure)

    async def cancel(self, placement_id: str, mode: CancelMode = "keep_best") -> None:
        """Ask for the end of a solve: with its best placement as the result, or without any."""
        await self._carry(self._protocol.cancel(placement_id, mode))

    async def delete(self, placement_id: str) -> None:
        """Remove a finished placement and its documents."""
        await self._carry(self._protocol.delete(placement_id))

    async def validate(self, document: Document) -> dict[str, Any]:
        """What the service thinks of the document, without solving it."""
        return await self._carry(self._protocol.validate(document))

    async def evaluate(
        self, document: Document, placement: Mapping[str, str], *, explain: bool | str = False
    ) -> dict[str, Any]:
        """What a given placement is worth; ``explain``: also why, or why with the moves of that operator."""
        return await self._carry(self._protocol.evaluate(document, placement, explain=explain))

    async def limits(self) -> dict[str, Any]:
        """What may be asked of this service, by this key."""
        return await self._carry(self._protocol.look_up("/limits"))

    async def solvers(self) -> dict[str, Any]:
        """The methods of this service and what they support."""
        return await self._carry(self._protocol.look_up("/solvers"))

    async def example(self, name: str) -> dict[str, Any]:
        """A request document to try."""
        return await self._carry(self._protocol.look_up(f"/examples/{name}"))

    async def _carry(self, exchange: Exchange[T], *, is_stream: bool = False) -> T:
        try:
            step = next(exchange)
            while True:
                if step.after_s:
                    await asyncio.sleep(step.after_s)
                try:
                    response = await self._http.send(step.request, stream=is_stream)
                    if is_stream and response.is_error:
                        await response.aread()  # a problem document
                except httpx.RequestError as error:
                    step = exchange.throw(error)
                else:
                    step = exchange.send(response)
        except StopIteration as end:
            outcome: T = end.value
            return outcome
