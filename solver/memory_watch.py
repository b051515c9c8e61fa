"""How much memory this process holds, and a watch over it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

WATCH_INTERVAL_S = 0.05


def resident_bytes() -> int:
    """What the process holds in main memory now."""
    return int(psutil.Process().memory_info().rss)


def room_bytes(limit_bytes: int | None) -> float:
    """What the process may still take; infinite without a limit."""
    return math.inf if limit_bytes is None else max(0, limit_bytes - resident_bytes())


@contextmanager
def watch_memory(limit_bytes: int | None, exceeded: Callable[[], None]) -> Iterator[None]:
    """Call ``exceeded`` once, from a thread of its own, as soon as more than ``limit_bytes`` are held; ``None``: never.

    The first look is taken before anything else happens, the others every ``WATCH_INTERVAL_S``.
    """
    if limit_bytes is None:
        yield
        return
    if resident_bytes() > limit_bytes:
        exceeded()
        yield
        return
    left = threading.Event()

    def look() -> None:
        while not left.wait(WATCH_INTERVAL_S):
            if resident_bytes() > limit_bytes:
                exceeded()
                return

    thread = threading.Thread(target=look, name="memory-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()
