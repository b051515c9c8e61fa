"""Runs one child process per solve and makes sure that it ends: in time when it can, by force when it must."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import queue
import signal
import threading
import time
from multiprocessing import connection as pipes
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from app import worker
from app.engines import Outcome, StopCause, Task, Watch
from app.problems import describe
from app.schemas import Problem

_POLL_S = 0.1
_LOG_INTERVAL_S = 0.2
_LOG_PIECE_BYTES = 65536
_DRAIN_S = 1.0
_MEMORY_MARGIN = 1.2
"""Beyond its limit by this factor a solve is killed without grace."""
_START_TRIES = 3
_REHEARSAL_INTERVAL_S = 5.0
_KEPT = "The best placement found until then, if any, is kept."
_log = logging.getLogger(__name__)

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["app.preload"])
# Starting and reaping touch one table inside multiprocessing, which two threads must not do at once.
_process_table = threading.Lock()


def warm_up(stopping: threading.Event) -> None:
    """Start the forkserver, and return once it has loaded the solver and compiled its kernels, or when ``stopping``.

    Every solve is forked from it, so none has to do that again. With a cache for the kernels it takes a second or two,
    else up to a minute.
    """
    while not stopping.is_set():
        attempt = _Rehearsal()
        while attempt.is_alive() and not stopping.is_set():
            attempt.join(_POLL_S)
        if attempt.has_succeeded:
            return
        stopping.wait(_REHEARSAL_INTERVAL_S)


class _Rehearsal(threading.Thread):
    """Starts a process that does nothing; in a thread, which may be left behind when the service stops meanwhile."""

    def __init__(self) -> None:
        super().__init__(name="rehearsal", daemon=True)
        self.has_succeeded = False
        self.start()

    def run(self) -> None:
        try:
            process = _context.Process(target=int, name="rehearsal")
            with _process_table:
                process.start()
                process.join()
            self.has_succeeded = process.exitcode == 0
            if not self.has_succeeded:
                _log.error("a process for solves ended at once with code %s; trying again", process.exitcode)
        except (OSError, EOFError):
            _log.exception("the processes of solves cannot be started; trying again")


def supervise(task: Task, watch: Watch) -> Outcome:
    """Run the task in a child of its own. Returns once the child is reaped, whatever happens."""
    try:
        process, messages, log = _start(task)
    except OSError as error:
        _log.exception("no child process", extra={"placement": task.placement_id})
        return Outcome(None, describe("solver-died", f"The solving process could not be started: {error}"))
    supervision = _Supervision(task, watch, process, messages, log)
    try:
        return supervision.watch()
    finally:
        supervision.reap()


def _start(task: Task) -> tuple[ForkServerProcess, Connection, Connection]:
    for tries_left in reversed(range(_START_TRIES)):
        reader, writer = _context.Pipe(duplex=False)
        log_reader, log_writer = _context.Pipe(duplex=False)
        process = _context.Process(target=worker.run, args=(task, writer, log_writer), name="solve")
        try:
            with _process_table:
                process.start()
        except (OSError, EOFError) as error:  # the forkserver has just died; the next try starts another
            reader.close()
            log_reader.close()
            if not tries_left:
                raise OSError(f"{type(error).__name__}: {error}") from error
            time.sleep(0.1)
        else:
            return process, reader, log_reader
        finally:
            # The child has its own; the readers must see the end when those close.
            writer.close()
            log_writer.close()
    raise AssertionError("unreachable")


class _Supervision:
    """One child: its messages, its deadline, its memory, and the ladder from interrupt to kill."""

    def __init__(
        self, task: Task, watch: Watch, process: ForkServerProcess, messages: Connection, log: Connection
    ) -> None:
        self._task, self._watch = task, watch
        self._process, self._messages, self._log_pipe = process, messages, log
        self._pid = process.pid or 0
        self._deadline = time.monotonic() + task.startup_grace_s
        self._began: float | None = None
        self._kill_at: float | None = None
        self._stop_cause: StopCause | None = None
        self._was_killed = self._is_reaped = False
        self._result: dict[str, Any] | None = None
        self._error: Problem | None = None
        # Threads of their own read: a child that freezes in the middle of a message must not freeze the ladder.
        self._inbox: queue.Queue[dict[str, Any] | bytes | None] = queue.Queue(maxsize=4)
        self._num_readers = 2
        for read in (self._receive, self._receive_log):
            threading.Thread(target=read, name=f"receive-{self._pid}", daemon=True).start()

    def watch(self) -> Outcome:
        """Follow the child to its end."""
        drained_by: float | None = None
        while self._num_readers and (drained_by is None or time.monotonic() < drained_by):
            self._climb_ladder(time.monotonic())
            try:
                self._take(self._inbox.get(timeout=_POLL_S))
            except queue.Empty:
                # Dead: what it has sent is read in a moment, unless something it started holds its pipes.
                if drained_by is None and pipes.wait([self._process.sentinel], timeout=0):
                    drained_by = time.monotonic() + _DRAIN_S
        elapsed_s = self._elapsed_s
        self.reap()
        if self._result is None and self._error is None:
            self._error = self._explain_death()
        return Outcome(self._result, self._error, self._stop_cause, elapsed_s)

    @property
    def _elapsed_s(self) -> float:
        return 0.0 if self._began is None else time.monotonic() - self._began

    def reap(self) -> None:
        """Leave nothing of the child behind."""
        if self._is_reaped:
            return
        patience = self._task.stop_grace_s if self._result or self._error else 0.5
        if not pipes.wait([self._process.sentinel], timeout=patience):
            self._kill()
            pipes.wait([self._process.sentinel])
        with _process_table:
            self._process.join()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)  # whatever the child itself may have started
        self._is_reaped = True
        while self._num_readers:  # let the receiving threads go
            if self._inbox.get() is None:
                self._num_readers -= 1

    def _take(self, message: dict[str, Any] | bytes | None) -> None:
        if message is None:
            self._num_readers -= 1
            return
        if isinstance(message, bytes):
            self._watch.note_log(message)
            return
        match message["kind"]:
            case "started":
                self._began = time.monotonic()
                self._deadline = self._began + self._task.time_limit_s + self._task.overrun_grace_s
                self._watch.note_start()
            case "progress":
                self._watch.note_progress(message["steps"], message["result"])
            case "result":
                self._result = message["result"]
            case "failed":
                self._error = describe(message["code"], message["detail"])

    def _climb_ladder(self, now: float) -> None:
        order = self._watch.stop_order()
        if order is not None and order.is_unkind:
            self._stop_cause = order
            self._kill()
        elif self._stop_cause is None:
            if order is not None:
                self._interrupt(order, now)
            elif now >= self._deadline:
                self._interrupt(StopCause.OVERRUN, now)
        elif self._kill_at is not None and now >= self._kill_at:
            self._kill()
        self._watch_memory(now)

    def _watch_memory(self, now: float) -> None:
        limit = self._task.memory_limit_bytes
        if limit is None or (used := _measure_memory(self._pid)) <= limit:
            return
        if self._stop_cause is None:
            self._warn("solve %d uses %d bytes, more than its %d", self._pid, used, limit)
            self._interrupt(StopCause.MEMORY, now)
        elif used > limit * _MEMORY_MARGIN:
            self._kill()

    def _interrupt(self, cause: StopCause, now: float) -> None:
        self._stop_cause, self._kill_at = cause, now + self._task.stop_grace_s
        self._signal_group(signal.SIGINT)

    def _kill(self) -> None:
        if not self._was_killed:
            self._warn("killing solve %d (%s)", self._pid, self._stop_cause or "it closed its pipe but did not end")
            self._was_killed = True
            self._signal_group(signal.SIGKILL)

    def _warn(self, message: str, *arguments: object) -> None:
        _log.warning(message, *arguments, extra={"placement": self._task.placement_id})

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._pid, number)
        except ProcessLookupError:
            # No such group: the child is gone, or so young that it has not made its group yet.
            # A third: the forkserver has just reaped it and not yet said so.
            if not pipes.wait([self._process.sentinel], timeout=0):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, number)

    def _explain_death(self) -> Problem:
        with _process_table:
            code = self._process.exitcode
        if self._was_killed and self._stop_cause is StopCause.OVERRUN:
            detail = f"The solve went on past its time limit of {self._task.time_limit_s:g} s and did not stop."
            return describe("time-limit-overrun", f"{detail} {_KEPT}")
        if self._was_killed and self._stop_cause is StopCause.MEMORY:
            detail = f"The solve needed more than the {self._task.memory_limit_bytes} bytes it may have."
            return describe("out-of-memory", f"{detail} {_KEPT}")
        if self._was_killed and self._stop_cause is not None:
            return describe("solver-killed", f"The solve was told to stop ({self._stop_cause}) and did not. {_KEPT}")
        cause = f"exit code {code}"
        if code is not None and code < 0:
            cause = f"signal {-code} ({signal.strsignal(-code)})"
            if code == -signal.SIGKILL:
                cause += ", most likely because memory ran out"
        return describe("solver-died", f"The solving process ended with {cause}. {_KEPT}")

    def _receive(self) -> None:
        try:
            while True:
                self._inbox.put(json.loads(self._messages.recv_bytes()))
        except (EOFError, OSError, ValueError):  # ValueError: the child broke off, or sent what is no JSON
            self._inbox.put(None)
        finally:
            self._messages.close()

    def _receive_log(self) -> None:
        try:
            while piece := os.read(self._log_pipe.fileno(), _LOG_PIECE_BYTES):
                self._inbox.put(piece)
                time.sleep(_LOG_INTERVAL_S)  # many lines, one write
        except OSError:
            pass
        finally:
            self._inbox.put(None)
            self._log_pipe.close()


def _measure_memory(pid: int) -> int:
    """Resident bytes of the process; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
