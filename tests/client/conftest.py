from __future__ import annotations

import asyncio
import inspect
from types import SimpleNamespace

import httpx
import pytest

from app.client import AsyncClient, Client


class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces. A piece that is an exception breaks the connection there."""

    def __init__(self, *pieces):
        self._pieces = pieces

    def __iter__(self):
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def __aiter__(self):
        for piece in self:
            yield piece


class Service:
    """Answers from a script, one entry a request; an entry that is an exception is a failure of the transport."""

    def __init__(self, kind, script, retry):
        self._kind, self._script, self._retry = kind, list(script), retry
        self.requests = []

    def __call__(self, operation, *arguments, **options):
        """Call an operation of the client; an iterator comes back as a list."""
        if self._kind == "async":
            return asyncio.run(self._call_async(operation, *arguments, **options))
        with Client("http://service/api/", api_key="pw_secret", retry=self._retry, transport=self._transport()) as http:
            outcome = getattr(http, operation)(*arguments, **options)
            return list(outcome) if inspect.isgenerator(outcome) else outcome

    async def _call_async(self, operation, *arguments, **options):
        client = AsyncClient("http://service/api/", api_key="pw_secret", retry=self._retry, transport=self._transport())
        async with client:
            outcome = getattr(client, operation)(*arguments, **options)
            return [item async for item in outcome] if inspect.isasyncgen(outcome) else await outcome

    def _transport(self):
        def handle(request):
            self.requests.append(request)
            assert self._script, f"one request too many: {request.method} {request.url}"
            answer = self._script.pop(0)
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer.stream, Stream):
                return answer
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)  # parameters last

        return httpx.MockTransport(handle)


@pytest.fixture
def pauses(monkeypatch):
    """What the clients have slept; none of it really."""
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr("app.client.synchronous.time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr("app.client.asynchronous.asyncio", SimpleNamespace(sleep=sleep))
    return slept


@pytest.fixture(params=["sync", "async"])
def serve(request, pauses):  # noqa: ARG001
    """A service with a script, spoken to by each of the clients."""

    def make(*script, retry=None):
        return Service(request.param, script, retry)

    return make


@pytest.fixture
def stream():
    """An answer whose body comes in pieces."""

    def make(*pieces):
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Stream(*pieces))

    return make
