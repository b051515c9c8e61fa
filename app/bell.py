"""Wakes the requests that wait for a job; the threads that ring are not the event loop's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_Listener = tuple[asyncio.AbstractEventLoop, asyncio.Event]


class Bell:
    """Events by key, set from any thread."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[_Listener]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def listen(self, key: str) -> Iterator[asyncio.Event]:
        """A context in which ringing ``key`` sets the event."""
        listener = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._listeners.setdefault(key, []).append(listener)
        try:
            yield listener[1]
        finally:
            with self._lock:
                self._listeners[key].remove(listener)
                if not self._listeners[key]:
                    del self._listeners[key]

    def keys(self) -> list[str]:
        """What is listened to."""
        with self._lock:
            return list(self._listeners)

    def ring(self, key: str) -> None:
        """Wake whoever listens to ``key``."""
        with self._lock:
            self._wake(self._listeners.get(key, []))

    def ring_all(self) -> None:
        """Wake everybody."""
        with self._lock:
            for listeners in self._listeners.values():
                self._wake(listeners)

    @staticmethod
    def _wake(listeners: list[_Listener]) -> None:
        for loop, event in listeners:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
