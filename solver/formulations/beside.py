"""Native code in a thread of its own, so that signals and cancellation are heard, and an overrun can be left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

POLL_S = 0.02


class Call(Generic[T]):
    """A function at work in a daemon thread; an exception in it is raised again in :meth:`result`."""

    def __init__(self, function: Callable[[], T], name: str) -> None:
        self._ended = threading.Event()
        self._results: list[T] = []
        self._failures: list[BaseException] = []

        def work() -> None:
            try:
                self._results.append(function())
            except BaseException as error:  # noqa: BLE001  handed to the thread that waits
                self._failures.append(error)
            finally:
                self._ended.set()

        threading.Thread(target=work, name=name, daemon=True).start()

    def wait(self, over: Callable[[], bool], limit_s: float) -> bool:
        """Wait until it ends, ``over`` says so, or ``limit_s`` has passed; tell whether it ended."""
        deadline = time.monotonic() + limit_s
        while not self._ended.wait(POLL_S):
            if over() or time.monotonic() > deadline:
                return False
        return True

    def result(self) -> T | None:
        """What the function returned; ``None`` while it runs."""
        if self._failures:
            raise self._failures[0]
        return self._results[0] if self._results else None
