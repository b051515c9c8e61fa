"""Python's cyclic garbage collector, out of the way while much is built that has no cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Switch the collector off for a block, or for a function as its decorator; it is on again afterwards if it was.

    The records of a large instance are millions of objects that stay. The collector would go through all of them
    again and again while they grow, which takes as long as the work itself.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
