"""The child process of one solve: reads the request document, solves, and reports over a pipe.

Messages are JSON objects with a ``kind``: ``started`` once the document is read, ``progress`` with the new steps of the
search and, when it is a better one, the best answer so far, and at the end either ``result`` or ``failed``. Whatever
ends this process early, its last incumbent has been sent. What it prints goes to the log of the job.
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
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from opentelemetry.trace import Span

from app.engines import Task
from app.tracing import exported, span
from solver.errors import InvalidInstance, PlacewrightError
from solver.formats import native
from solver.instance import SolverOptions
from solver.result import Incumbent, Progress, Result, SolverReport, Status, StopReason
from solver.solve import report_versions, solve

_PR_SET_PDEATHSIG = 1
_NICENESS = 10
"""A core that both want goes to the server for nine tenths of the time."""
_AUTOGROUP = Path("/proc/self/autogroup")
_TRIES, _TRY_INTERVAL_S = 5, 0.1
_BOUND_INTERVAL_S = 1.0
"""Least time between two messages that bring a better bound only: each repeats the placement."""
_MAX_INCUMBENTS = 1000
_log = logging.getLogger(__name__)


def run(task: Task, connection: Connection, log: Connection) -> None:
    """The entry point of the child."""
    for stream in (1, 2):
        os.dup2(log.fileno(), stream)
    log.close()
    stop = threading.Event()
    _listen_for_interrupt(stop)  # before any other thread is there to receive the signal instead
    _separate()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    with exported(), span("placewright.solve", task.trace_parent, placement=task.placement_id) as solve_span:
        _solve(task, connection, stop, solve_span)


def _solve(task: Task, connection: Connection, stop: threading.Event, solve_span: Span) -> None:
    try:
        request = native.read(gzip.decompress(task.document))
        limits = [limit for limit in (task.memory_limit_bytes, request.options.memory_limit_bytes) if limit is not None]
        options = replace(
            request.options,
            time_limit_s=task.time_limit_s,
            workers=task.workers,
            memory_limit_bytes=min(limits, default=None),
        )
        _send(connection, {"kind": "started"})
        reporter = Reporter(connection, options)
        try:
            hint = None if task.best is None else json.loads(gzip.decompress(task.best))["placement"]
            result = solve(
                request.instance,
                options,
                on_progress=reporter.observe,
                stop=stop,
                hint=hint,
                bound=task.best_bound,
            )
        finally:
            reporter.close()  # two threads must not write to the pipe at once
        solve_span.set_attributes({"status": result.status, "stop_reason": result.stop_reason})
        for phase, seconds in result.timings_s.items():
            solve_span.set_attribute(f"{phase}_s", seconds)
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
    """Sends the steps of the search, from a thread of its own.

    The solver's threads only leave a note; a slow reader therefore never slows the search down.
    """

    def __init__(self, connection: Connection, options: SolverOptions) -> None:
        self._connection = connection
        self._report = SolverReport(versions=report_versions(), seed=options.seed, workers=options.workers or 1)
        self._changed = threading.Condition()
        self._incumbents: list[Incumbent] = []
        self._unsent: list[Incumbent] = []
        self._best: Progress | None = None
        self._is_better = self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._thread.start()

    def observe(self, progress: Progress) -> None:
        """Take note of a step of the search; called from any thread of the solver."""
        step = progress.incumbent
        with self._changed:
            value = None if self._best is None else self._best.incumbent.objective_value
            if (
                progress.placement is not None
                and step.objective_value is not None
                and (value is None or step.objective_value < value)
            ):
                self._best, self._is_better = progress, True
            if self._unsent and not _is_worth_telling(self._unsent[-1], step):
                self._unsent[-1] = step
            elif len(self._incumbents) + len(self._unsent) < _MAX_INCUMBENTS:
                self._unsent.append(step)
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
                self._changed.wait_for(lambda: self._unsent or self._is_closed)
                if not self._is_better:  # a better bound only
                    self._changed.wait_for(lambda: self._is_better or self._is_closed, timeout=_BOUND_INTERVAL_S)
                if not self._unsent and not self._is_better:
                    return
                steps, self._unsent = self._unsent, []
                self._incumbents += steps
                result = self._describe() if self._is_better else None
                self._is_better = False
            for step in steps:
                _log.info(
                    "%.2f s: objective %s, bound %s (%s)",
                    step.elapsed_s,
                    step.objective_value,
                    step.best_bound,
                    step.found_by,
                )
            message = {"kind": "progress", "steps": [asdict(step) for step in steps], "result": result}
            _send(self._connection, message)

    def _describe(self) -> dict[str, Any]:
        assert self._best is not None  # noqa: S101
        bounds = [step.best_bound for step in self._incumbents if step.best_bound is not None]
        best = Result(
            status=Status.FEASIBLE,
            stop_reason=StopReason.CANCELLED,
            objective_value=self._best.incumbent.objective_value,
            best_bound=max(bounds, default=None),
            placement=self._best.placement,
            stages=self._best.stages,
            incumbents=tuple(self._incumbents),
            solver=self._report,
        )
        return native.result_document(best) | {"stop_reason": None}  # it has not stopped


def _is_worth_telling(last: Incumbent, step: Incumbent) -> bool:
    """Whether ``last`` says something that ``step`` does not: a value of its own, or another method's bound."""
    return last.objective_value != step.objective_value or last.found_by != step.found_by


def _send(connection: Connection, message: Mapping[str, Any]) -> None:
    # Not pickle: the server must be able to read what a broken child sends.
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        connection.send_bytes(json.dumps(message, allow_nan=False).encode())


def _separate() -> None:
    """Make this process the head of a group that can be killed as one, and that never outlives the server."""
    os.setsid()
    _yield_cores()
    with contextlib.suppress(OSError):  # when memory runs out, lose a solve before the server
        Path("/proc/self/oom_score_adj").write_text("500")

    # The forkserver lives as long as anyone holds its pipe. Without this end it goes when the server goes, however
    # that happens, and the kernel then kills this process.
    alive_pipe = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_alive_fd", None)
    if alive_pipe is not None:
        os.close(alive_pipe)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_die_with_server, name="server-watch", daemon=True).start()


def _yield_cores() -> None:
    """Take the cores that nobody else wants: a full machine must still answer requests."""
    os.nice(_NICENESS)
    # Where Linux shares the cores out by session, niceness counts only inside one, and this process has just made its
    # own. Without that there is no such file; right after another process has written its own, the kernel refuses.
    for _ in range(_TRIES):
        try:
            _AUTOGROUP.write_text(str(_NICENESS))
        except BlockingIOError:
            time.sleep(_TRY_INTERVAL_S)
        except OSError:
            return
        else:
            return


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
