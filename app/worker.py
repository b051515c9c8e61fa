"""The child process of one solve: reads the request document, solves, and reports over a pipe.

Messages are JSON objects with a ``kind``: ``started`` once the document is read, ``incumbent`` with the best answer so
far, and at the end either ``result`` or ``failed``. Whatever ends this process early, the last incumbent has been sent.
"""

from __future__ import annotations

import contextlib
import ctypes
import gzip
import json
import logging
import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from solver.errors import InvalidInstance, PlacewrightError
from solver.formats import native
from solver.instance import SolverOptions
from solver.result import Incumbent, Placement, Progress, Result, SolverReport, Stage, Status, StopReason
from solver.solve import report_versions, solve

_PR_SET_PDEATHSIG = 1
_BOUND_INTERVAL_S = 1.0
"""Least time between two messages that bring a better bound only: each repeats the placement."""
_MAX_INCUMBENTS = 1000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """What the child is to do; limits are the server's, not the document's."""

    document: bytes
    """The request document, gzip."""
    time_limit_s: float
    workers: int
    best: bytes | None = None
    """The result document to start from, gzip: the best of an attempt that was interrupted."""


def run(task: Task, connection: Connection) -> None:
    """The entry point of the child."""
    stop = threading.Event()
    _listen_for_interrupt(stop)  # before any other thread is there to receive the signal instead
    _separate()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s solve %(process)d %(message)s")
    try:
        request = native.read(gzip.decompress(task.document))
        options = replace(request.options, time_limit_s=task.time_limit_s, workers=task.workers)
        _send(connection, {"kind": "started"})
        reporter = Reporter(connection, options)
        try:
            hint, bound = _read_best(task.best)
            result = solve(request.instance, options, on_progress=reporter.observe, stop=stop, hint=hint, bound=bound)
        finally:
            reporter.close()  # two threads must not write to the pipe at once
        _send(connection, {"kind": "result", "result": native.result_document(result)})
    except MemoryError:
        detail = "The process could not get more memory. A smaller instance or fewer workers need less."
        _send(connection, {"kind": "failed", "code": "out-of-memory", "detail": detail})
    except InvalidInstance as error:  # the door lets none through; a job of an older version may still be in the queue
        _send(connection, {"kind": "failed", "code": "unsupported-instance", "detail": str(error)})
    except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
        _log.exception("the solve failed")
        named = f" It says: {error}" if isinstance(error, PlacewrightError) else ""
        detail = f"This is a defect of Placewright, not of the request; the service's log has more.{named}"
        _send(connection, {"kind": "failed", "code": "solver-defect", "detail": detail})


class Reporter:
    """Sends the newest state of the search, from a thread of its own.

    The solver's threads only leave a note; a slow reader therefore never slows the search down, it sees fewer steps.
    """

    def __init__(self, connection: Connection, options: SolverOptions) -> None:
        self._connection = connection
        self._report = SolverReport(versions=report_versions(), seed=options.seed, workers=options.workers or 1)
        self._changed = threading.Condition()
        self._incumbents: list[Incumbent] = []
        self._placement: Placement | None = None
        self._stages: tuple[Stage, ...] = ()
        self._objective_value: float | None = None
        self._best_bound: float | None = None
        self._has_news = self._is_better = self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._thread.start()

    def observe(self, progress: Progress) -> None:
        """Take note of a step of the search; called from any thread of the solver."""
        step = progress.incumbent
        with self._changed:
            if len(self._incumbents) < _MAX_INCUMBENTS:
                self._incumbents.append(step)
            if step.best_bound is not None:
                self._best_bound = max(step.best_bound, self._best_bound or step.best_bound)
            value = step.objective_value
            is_better = self._objective_value is None or (value is not None and value < self._objective_value)
            if progress.placement is not None and value is not None and is_better:
                self._placement, self._stages = progress.placement, progress.stages
                self._objective_value, self._is_better = value, True
            self._has_news = self._placement is not None
            self._changed.notify()

    def close(self) -> None:
        """Send what is unsent, then nothing more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_news or self._is_closed)
                if not self._is_better:
                    self._changed.wait_for(lambda: self._is_better or self._is_closed, timeout=_BOUND_INTERVAL_S)
                if self._is_closed and not self._is_better:
                    return
                document = self._describe()
                self._has_news = self._is_better = False
            _send(self._connection, {"kind": "incumbent", "result": document})

    def _describe(self) -> dict[str, Any]:
        best = Result(
            status=Status.FEASIBLE,
            stop_reason=StopReason.CANCELLED,
            objective_value=self._objective_value,
            best_bound=self._best_bound,
            placement=self._placement,
            stages=self._stages,
            incumbents=tuple(self._incumbents),
            solver=self._report,
        )
        return native.result_document(best) | {"stop_reason": None}  # it has not stopped


def _read_best(best: bytes | None) -> tuple[Placement | None, float | None]:
    """Placement and bound to start from. The placement gets verified; a bound counts only if this version proved it."""
    if best is None:
        return None, None
    result = json.loads(gzip.decompress(best))
    is_ours = result["solver"]["versions"] == report_versions()
    return result["placement"], result["best_bound"] if is_ours else None


def _send(connection: Connection, message: dict[str, Any]) -> None:
    # Not pickle: the server must be able to read what a broken child sends.
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        connection.send_bytes(json.dumps(message, allow_nan=False).encode())


def _separate() -> None:
    """Make this process the head of a group that can be killed as one, and that never outlives the server."""
    os.setsid()
    os.nice(5)  # a full machine must still answer requests
    with contextlib.suppress(OSError):  # when memory runs out, lose a solve before the server
        Path("/proc/self/oom_score_adj").write_text("500")

    # The forkserver lives as long as anyone holds its pipe. Without this end it goes when the server goes, however
    # that happens, and the kernel then kills this process.
    alive_pipe = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_alive_fd", None)
    if alive_pipe is not None:
        os.close(alive_pipe)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_die_with_server, name="server-watch", daemon=True).start()


def _die_with_server() -> None:
    """For a Python without the pipe above."""
    server = multiprocessing.parent_process()
    if server is not None:
        server.join()
        os.killpg(0, signal.SIGKILL)


def _listen_for_interrupt(stop: threading.Event) -> None:
    """Turn SIGINT into ``stop``.

    Not a signal handler: those run only when the main thread is back from native code, and CP-SAT installs its own.
    A signal that every thread blocks is received by the one that waits for it. Threads inherit the block.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    def wait() -> None:
        while True:
            signal.sigwait({signal.SIGINT})
            stop.set()

    threading.Thread(target=wait, name="interrupt", daemon=True).start()
