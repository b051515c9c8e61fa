"""How loops are compiled: without the interpreter's lock, and kept on disk where that can be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile ``function`` at its first call.

    The cache is beside the source, else in the user's cache folder, or where NUMBA_CACHE_DIR says. Where none of them
    can be written, as in a read-only container, each process compiles for itself, which takes it some seconds.
    """
    try:
        compiled = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # "no locator available"
        compiled = numba.njit(nogil=True)(function)
    return cast("Function", compiled)
