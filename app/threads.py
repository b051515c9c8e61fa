"""Threads in which the event loop has the database read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

_Read = TypeVar("_Read")
_READERS = CapacityLimiter(4)
"""Few: each competes with the event loop for the interpreter, and the slowest answers feel it.
Writers, which may have to wait for one another, have threads of their own."""


async def read(function: Callable[..., _Read], *arguments: object, **options: Any) -> _Read:
    """What the function returns, called in one of the threads for reading."""
    return await to_thread.run_sync(partial(function, *arguments, **options), limiter=_READERS)
