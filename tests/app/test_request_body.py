"""Bodies of requests: unpacked and read a few at a time, with a bound on what waits."""

from __future__ import annotations

import asyncio
import gzip
import threading

import pytest
from fastapi import Request

from app import request_body
from app.problems import ProblemError
from app.request_body import Door, decompress


def request_of(*chunks, encoding="gzip"):
    """A request whose body arrives in these pieces; for ``None`` the rest never comes."""
    messages = iter(chunks)

    async def receive():
        chunk = next(messages, b"")
        if chunk is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": chunk, "more_body": chunk != b""}

    headers = [(b"content-type", b"application/json"), (b"content-encoding", encoding.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def test_documents_wait_as_they_were_sent(monkeypatch):
    """However many wait, only those being read are unpacked."""
    started, going_on = threading.Semaphore(0), threading.Event()
    unpacked, most = set(), []

    def unpack(*arguments):
        document = decompress(*arguments)
        unpacked.add(id(document))
        most.append(len(unpacked))
        return document

    def read(document):
        started.release()
        going_on.wait(30)
        unpacked.remove(id(document))
        return len(document)

    async def send_many():
        door = Door(max_body_bytes=100_000)
        body = gzip.compress(b" " * 100_000)
        reading = [asyncio.create_task(door.read(request_of(body), read)) for _ in range(12)]
        for _ in range(2):
            assert await asyncio.to_thread(started.acquire, timeout=30)
        await asyncio.sleep(0.2)  # for the others to go as far as they can
        going_on.set()
        assert await asyncio.gather(*reading) == [100_000] * 12

    monkeypatch.setattr(request_body, "decompress", unpack)
    asyncio.run(send_many())
    assert max(most) == 2


def test_what_waits_is_bounded_and_room_comes_back():
    async def fill():
        door = Door(max_body_bytes=1000)
        slow = [asyncio.create_task(door.read(request_of(b"x" * 1000, None), len)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(ProblemError) as caught:
            await door.read(request_of(b"x", encoding="identity"), len)
        assert caught.value.problem.status == 503
        assert caught.value.problem.type.endswith(":too-busy")
        assert caught.value.headers["Retry-After"]
        slow.pop().cancel()
        await asyncio.sleep(0)
        assert await door.read(request_of(b"x" * 500, b"x" * 500, encoding="identity"), len) == 1000
        for task in slow:
            task.cancel()

    asyncio.run(fill())


def test_a_body_that_cannot_be_read_takes_no_room():
    async def send_broken():
        door = Door(max_body_bytes=1000)
        for _ in range(10):
            with pytest.raises(ProblemError):
                await door.read(request_of(b"x" * 1000), len)
        assert await door.read(request_of(b"x" * 1000, encoding="identity"), len) == 1000

    asyncio.run(send_broken())


def test_decompress_stops_at_the_limit_across_members():
    member = gzip.compress(b"x" * 600)
    assert decompress(member, 600) == b"x" * 600
    with pytest.raises(ProblemError) as caught:
        decompress(member + member, 1000)
    assert caught.value.problem.status == 413
    assert decompress(member + member, 1200) == b"x" * 1200


def test_decompress_of_members_that_end_anywhere():
    members = [gzip.compress(b"x" * size) for size in range(3000)]
    assert len(decompress(b"".join(members), 10**7)) == sum(range(3000))
    with pytest.raises(ProblemError, match="breaks off"):
        decompress(b"".join(members)[:-1], 10**7)
