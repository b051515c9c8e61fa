"""How loops are compiled, without the interpreter's lock and kept on disk where that can be done, and how they end."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba.core.caching import FunctionCache

WATCH_INTERVAL_S = 0.05

Function = TypeVar("Function", bound=Callable[..., Any])

KERNELS: list[Any] = []
"""Everything compiled by :func:`kernel`, in the order of definition."""


def _cache_folder() -> Path:
    """Where this state of the kernels is kept.

    Numba sees a change in the file of a kernel, but not in the files of those that it calls: what it compiled before
    such a change would be run with what was compiled after it. So each state of all of them has a folder of its own.
    """
    package = Path(__file__).parent
    sources = {path.relative_to(package).as_posix(): path.read_bytes() for path in sorted(package.rglob("*.py"))}
    digest = hashlib.sha256()
    for name, source in sources.items():
        if b"@kernel" in source:
            digest.update(f"{name} {len(source)}\n".encode() + source)
    return Path(_settings.CACHE_DIR or package / "__pycache__") / f"kernels-{digest.hexdigest()[:16]}"


_settings: Any = numba.config
_settings.CACHE_DIR = str(_cache_folder())


class _Cache(FunctionCache):
    """What Numba keeps of one kernel. Whatever is wrong with it costs time to compile, never an answer.

    Numba by itself lets a damaged file, or a disk that is full, end the call (numba/numba#10434).
    """

    def load_overload(self, sig: object, target_context: object) -> object:
        """What was kept for these types, or nothing; damaged files are forgotten."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # noqa: BLE001  what is left of a pickle can raise nearly anything
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: object, data: object) -> None:
        """Keep what was compiled for these types, where that can be done."""
        with suppress(Exception):
            super().save_overload(sig, data)


def kernel(function: Function) -> Function:
    """Compile ``function`` at its first call.

    The cache is where NUMBA_CACHE_DIR says, or beside the source, else in the user's cache folder. Where none of them
    can be written, as in a read-only container, each process compiles for itself, which takes it some seconds.
    """
    compiled: Any = numba.njit(nogil=True)(function)
    with suppress(RuntimeError):  # "no locator available"
        compiled._cache = _Cache(function)  # noqa: SLF001  as cache=True does; Numba has no other door to it
    KERNELS.append(compiled)
    return cast("Function", compiled)


def kernel_part(function: Function) -> Function:
    """Compile ``function`` into each kernel that calls it.

    To hand arrays to a compiled function costs some nanoseconds for each: more than what a short one does with them.
    What is left of that here, counting references, is felt in an innermost loop: hand over few, and no tuples of many.
    """
    return cast("Function", numba.njit(inline="always", nogil=True)(function))


@contextmanager
def stop_flag(expired: Callable[[], bool]) -> Iterator[npt.NDArray[np.int64]]:
    """A flag that is set soon after ``expired`` says so, also while a kernel runs."""
    stop = np.zeros(1, dtype=np.int64)
    left = threading.Event()

    def wait() -> None:
        while not left.wait(WATCH_INTERVAL_S):
            if expired():
                stop[0] = 1
                return

    thread = threading.Thread(target=wait, name="kernel-watch", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        left.set()
        thread.join()
