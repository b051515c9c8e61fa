"""The request document as bytes: JSON only, gzip accepted, and never larger than the limit once decompressed."""

from __future__ import annotations

import zlib
from email.message import Message

from anyio import to_thread
from fastapi import Request

from app.problems import ProblemError, describe, reject_large_body

_GZIP_WINDOW = 16 + zlib.MAX_WBITS


async def read_document(request: Request, max_body_bytes: int, *, may_be_empty: bool = False) -> bytes:
    """The document in the body.

    Raises:
        ProblemError: 415 for another type or encoding, 413 when too large, 400 for broken gzip.
    """
    if may_be_empty and not await request.body():
        return b""
    _check_type(request)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        detail = f"Content-Encoding {encoding!r} is not known here. Send gzip, or no encoding at all."
        raise ProblemError(describe("unsupported-media-type", detail, 415), {"Accept-Encoding": "gzip, identity"})
    body = await request.body()  # the framework keeps the limit for what arrives
    if encoding == "identity":
        return body
    return await to_thread.run_sync(decompress, body, max_body_bytes)


def decompress(data: bytes, max_bytes: int) -> bytes:
    """Undo gzip, also of several members, without ever holding much more than ``max_bytes``."""
    parts: list[bytes] = []
    room = max_bytes
    try:
        while True:
            stream = zlib.decompressobj(_GZIP_WINDOW)
            part = stream.decompress(data, room + 1)
            room -= len(part)
            if room < 0:
                raise reject_large_body(max_bytes)
            parts.append(part)
            if not stream.eof:
                raise _reject_gzip("the gzip data breaks off")
            data = stream.unused_data
            if not data:
                return b"".join(parts)
    except zlib.error as error:
        raise _reject_gzip(str(error)) from error


def _reject_gzip(reason: str) -> ProblemError:
    return ProblemError(describe("unreadable-document", f"The body is not valid gzip: {reason}.", 400))


def _check_type(request: Request) -> None:
    header = Message()
    header["content-type"] = given = request.headers.get("content-type", "")
    charset = str(header.get_param("charset", "utf-8")).lower()
    if not given or header.get_content_type() != "application/json" or charset not in ("utf-8", "us-ascii"):
        found = f"{given!r} was sent" if given else "no Content-Type was sent"
        detail = f"Send the document with Content-Type: application/json (UTF-8); {found}."
        raise ProblemError(describe("unsupported-media-type", detail, 415), {"Accept": "application/json"})
