"""Server-sent events, as the HTML standard defines their wire format, and how a broken stream is taken up again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.client.errors import UnexpectedAnswer

END = "end"
"""The kind of the last event of every placement."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a placement."""

    id: str
    """Position in the placement's history; :meth:`Client.events` can start after it."""
    kind: str
    data: dict[str, Any]


class EventDecoder:
    """Bytes of an event stream in, events out.

    Lines end with CR, LF or both and nothing else (``str.splitlines`` knows more line ends, which may stand in data).
    """

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry_s: float | None = None
        """How long the service wants a client to wait before it connects again, if it said so."""
        self._rest = bytearray()
        self._id, self._kind = last_id, ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this piece of the stream completes. Raises :class:`UnexpectedAnswer`."""
        self._rest += chunk
        if b"\n" not in chunk and b"\r" not in self._rest[-len(chunk) - 1 :]:
            return  # still the same line, which may be long
        held = bytes(self._rest[-1:]) if self._rest.endswith(b"\r") else b""  # its "\n" may be in the next piece
        text = bytes(self._rest).removesuffix(b"\r")
        *lines, rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = bytearray(rest + held)
        for line in lines:
            event = self._take(line.decode("utf-8", "replace"))
            if event is not None:
                yield event

    def restart(self) -> None:
        """Forget the unfinished event of a connection that broke."""
        self._rest.clear()
        self._id, self._kind = self.last_id, ""
        self._data.clear()

    def _take(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_s = int(value) / 1000
        return None

    def _dispatch(self) -> Event | None:
        kind, text = self._kind or "message", "\n".join(self._data)
        has_data = bool(self._data)
        self.last_id, self._kind = self._id, ""  # not before: a broken event must come again
        self._data.clear()
        if not has_data:
            return None
        try:
            data = json.loads(text)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise UnexpectedAnswer(f"the event {self.last_id or kind!r} holds no JSON object")
        return Event(self.last_id, kind, data)
