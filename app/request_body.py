"""The document in the body of a request: JSON only, gzip accepted, and never larger than the limit once unpacked."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from email.message import Message
from http import HTTPStatus
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request

from app.problems import ProblemError, describe, reject_large_body

_AT_ONCE = 2
_MOST_BODIES = 4
_MAX_NOTE_BYTES = 4096
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 16 * 1024
_Read = TypeVar("_Read")


class Door:
    """Where documents come in.

    Two are read at a time: each takes a core and many times its size in memory, and together they would starve the
    event loop. Others wait as they were sent; all that are here have at most four times the size of the largest.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._readers = CapacityLimiter(_AT_ONCE)
        self._free_bytes = _MOST_BODIES * max_body_bytes

    async def read(self, request: Request, work: Callable[[bytes], _Read]) -> _Read:
        """What ``work`` makes of the document; it is called in a thread.

        Raises:
            ProblemError: 415 for another type or encoding, 413 when too large, 400 for broken gzip, 503 when too much
                is here already.
        """
        is_packed = _check_type(request)
        body = bytearray()

        def unpack_and_work() -> _Read:
            return work(decompress(body, self._max_body_bytes) if is_packed else bytes(body))

        try:
            async for chunk in request.stream():  # the framework keeps the limit for what arrives
                body += chunk
                self._free_bytes -= len(chunk)
                if self._free_bytes < 0:
                    raise _reject_for_now()
            return await to_thread.run_sync(unpack_and_work, limiter=self._readers)
        finally:
            self._free_bytes += len(body)


async def read_note(request: Request) -> bytes:
    """The document in a body that may be empty and is so small that the event loop can do everything with it.

    Raises:
        ProblemError: 415 for another type or encoding, 413 when too large, 400 for broken gzip.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_NOTE_BYTES:
            raise reject_large_body(_MAX_NOTE_BYTES)
    return decompress(body, _MAX_NOTE_BYTES) if body and _check_type(request) else bytes(body)


def decompress(data: bytes | bytearray, max_bytes: int) -> bytes:
    """Undo gzip, also of several members, without ever holding much more than ``max_bytes``."""
    parts: list[bytes] = []
    room, begin = max_bytes, 0
    stream = zlib.decompressobj(_GZIP_WINDOW)
    try:
        while begin < len(data):
            if stream.eof:
                stream = zlib.decompressobj(_GZIP_WINDOW)
            # In pieces: whatever follows a member is copied at its end, and there may be millions of members.
            piece = data[begin : begin + _PIECE_BYTES]
            part = stream.decompress(piece, room + 1)
            room -= len(part)
            if room < 0:
                raise reject_large_body(max_bytes)
            parts.append(part)
            begin += len(piece) - len(stream.unused_data)
    except zlib.error as error:
        raise _reject_gzip(str(error)) from error
    if not stream.eof:
        raise _reject_gzip("the gzip data breaks off")
    return b"".join(parts)


def _reject_gzip(reason: str) -> ProblemError:
    return ProblemError(describe("unreadable-document", f"The body is not valid gzip: {reason}.", 400))


def _reject_for_now() -> ProblemError:
    detail = "Too many documents wait to be read. Try again in a moment; gzip makes them smaller."
    return ProblemError(describe("too-busy", detail, HTTPStatus.SERVICE_UNAVAILABLE), {"Retry-After": "5"})


def _check_type(request: Request) -> bool:
    """Whether the body is packed; it is JSON in any case."""
    header = Message()
    header["content-type"] = given = request.headers.get("content-type", "")
    charset = str(header.get_param("charset", "utf-8")).lower()
    if not given or header.get_content_type() != "application/json" or charset not in ("utf-8", "us-ascii"):
        found = f"{given!r} was sent" if given else "no Content-Type was sent"
        detail = f"Send the document with Content-Type: application/json (UTF-8); {found}."
        raise ProblemError(describe("unsupported-media-type", detail, 415), {"Accept": "application/json"})
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        detail = f"Content-Encoding {encoding!r} is not known here. Send gzip, or no encoding at all."
        raise ProblemError(describe("unsupported-media-type", detail, 415), {"Accept-Encoding": "gzip, identity"})
    return encoding != "identity"
