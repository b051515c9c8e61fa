"""A search that a person watches and may interrupt."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from app.display import ProgressDisplay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from rich.console import Console

    from solver.frontier import SweepProgress
    from solver.instance import Request
    from solver.result import Frontier, Progress, Result

    P = TypeVar("P")
    T = TypeVar("T")
    Search = Callable[[Callable[[P], None], threading.Event], T]
    """Reports its progress to the first argument, and ends soon after the second one is set."""

REFRESH_INTERVAL_S = 0.1


def search_here(request: Request) -> Search[Progress, Result]:
    """Solve in this process."""

    def search(report: Callable[[Progress], None], stop: threading.Event) -> Result:
        from solver.solve import solve  # takes a moment, in which the display and the signals already work

        return solve(request.instance, request.options, on_progress=report, stop=stop)

    return search


def sweep_here(request: Request, max_points: int) -> Search[SweepProgress, Frontier]:
    """Sweep the frontier in this process."""

    def search(report: Callable[[SweepProgress], None], stop: threading.Event) -> Frontier:
        from solver.frontier import sweep

        return sweep(request.instance, request.options, max_points=max_points, on_progress=report, stop=stop)

    return search


def run_search(search: Search[P, T], describe: Callable[[P | None], list[str]], console: Console) -> T:
    """Run ``search`` and show how it goes, in the words of ``describe``.

    The first interrupt ends it with its best placement so far.
    The search runs in a thread of its own, because Python delivers signals to the main thread only between two of its
    own instructions: native code there would delay them. A second interrupt ends the process at once.

    Whatever ``search`` raises is raised here.
    """
    stop, finished = threading.Event(), threading.Event()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(search(display.report, stop))
        except BaseException as error:  # noqa: BLE001  raised again in the main thread
            errors.append(error)
        finally:
            finished.set()

    mute_native_output()
    display = ProgressDisplay(console, describe)
    with display, _interruptible(stop, display):
        threading.Thread(target=run, name="search", daemon=True).start()
        while not finished.wait(REFRESH_INTERVAL_S):
            if stop.is_set():
                display.announce_stop()
            display.refresh()
    if errors:
        raise errors[0]
    return results[0]


def mute_native_output() -> None:
    """Keep standard output for Python: native libraries print there when they please, also after a search is over.

    File descriptor 1 leads nowhere from now on, and ``sys.stdout`` writes to a copy of the old one.
    """
    stream = sys.__stdout__
    if stream is None or sys.stdout is not stream or stream.fileno() != 1:
        return  # Someone has already redirected it.
    stream.flush()
    # The stream must live as long as the process, so nobody closes it.
    copy = os.fdopen(os.dup(1), "w", encoding=stream.encoding, errors=stream.errors)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    sys.stdout = copy


@contextmanager
def _interruptible(stop: threading.Event, display: ProgressDisplay[P]) -> Iterator[None]:
    """SIGINT and SIGTERM set ``stop``; a second one ends the process."""

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            display.restore_terminal()
            os._exit(128 + number)
        stop.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
