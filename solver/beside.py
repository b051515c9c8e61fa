"""Work in threads of its own, so that signals and cancellation are heard, and an overrun can be left behind.

Native code must not come back while Python ends: the interpreter then ends its thread, which for C++ is a crash of the
whole process. So what was left behind is waited for at exit.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

POLL_S = 0.02
INTERRUPT_EVERY_S = 0.5
GRACE_S = 1.0
"""How long one waits for work that ends soon after the search is over."""
EXIT_WAIT_S = 5.0
"""How long the process waits at exit. HiGHS, which cannot be interrupted, may have more to do; then it is cut off in
the middle, which is safe: it does not come back in the moment that is left."""

_at_work: set[Call[Any]] = set()


class Call(Generic[T]):
    """A function at work in a daemon thread; an exception in it is raised again in :meth:`result`.

    Args:
        function: what to do.
        name: of the thread.
        interrupt: asks the function to end. It is asked again and again: what has hardly begun may not hear it.
    """

    def __init__(self, function: Callable[[], T], name: str, interrupt: Callable[[], object] | None = None) -> None:
        self._function = function
        self._interrupt = interrupt
        self._ended = threading.Event()
        self._results: list[T] = []
        self._failures: list[BaseException] = []
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        _at_work.add(self)
        try:
            self._results.append(self._function())
        except BaseException as error:  # noqa: BLE001  handed to the thread that waits
            self._failures.append(error)
        finally:
            _at_work.discard(self)
            self._ended.set()

    def is_alive(self) -> bool:
        """Whether it is still at work."""
        return not self._ended.is_set()

    def wait(self, over: Callable[[], bool], limit_s: float) -> bool:
        """Wait until it ends, ``over`` says so, or ``limit_s`` has passed; tell whether it ended."""
        deadline = time.monotonic() + limit_s
        while not self._ended.wait(POLL_S):
            if over() or time.monotonic() > deadline:
                return False
        return True

    def stop(self, limit_s: float) -> bool:
        """Ask it to end, and wait for that, but not longer than ``limit_s``; tell whether it ended."""
        deadline = time.monotonic() + limit_s
        while not self._ended.is_set() and time.monotonic() < deadline:
            if self._interrupt is not None:
                self._interrupt()
            self._ended.wait(max(0.0, min(INTERRUPT_EVERY_S, deadline - time.monotonic())))
        return self._ended.is_set()

    def join(self, limit_s: float) -> T | None:
        """Wait for what ends by itself, but not longer than ``limit_s`` and a moment more; then as :meth:`result`."""
        self._ended.wait(limit_s + GRACE_S)
        return self.result()

    def result(self) -> T | None:
        """What the function returned; ``None`` while it runs."""
        if self._failures:
            raise self._failures[0]
        return self._results[0] if self._results else None


def _wait_at_exit() -> None:
    deadline = time.monotonic() + EXIT_WAIT_S
    for call in tuple(_at_work):
        call.stop(deadline - time.monotonic())


atexit.register(_wait_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_at_work.clear)  # Threads do not follow into a fork.
