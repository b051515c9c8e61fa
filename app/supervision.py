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
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing import connection as pipes
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from app import worker
from app.problems import describe
from app.schemas import Problem
from app.settings import Settings

_POLL_S = 0.1
_START_TRIES = 3
_KEPT = "The best placement found until then, if any, is kept."
_log = logging.getLogger(__name__)

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["app.preload"])
# Starting and reaping touch one table inside multiprocessing, which two threads must not do at once.
_process_table = threading.Lock()


class StopCause(StrEnum):
    """Why a child was told to stop."""

    OVERRUN = "overrun"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child ended: with a result, or with an error; and what it had been told."""

    result: dict[str, Any] | None
    error: Problem | None
    stop_cause: StopCause | None
    elapsed_s: float = 0.0
    """How long it solved, its start left aside."""


@dataclass(frozen=True, slots=True)
class Observer:
    """What the owner of the job wants to know meanwhile, and may want."""

    store_incumbent: Callable[[dict[str, Any]], None]
    heartbeat: Callable[[float], None]
    """Told for how long the child has been solving."""
    is_stopping: Callable[[], bool]


def warm_up() -> None:
    """Start the forkserver now, so that the first solve need not wait for its imports."""
    with _process_table:
        multiprocessing.forkserver.ensure_running()


def supervise(task: worker.Task, settings: Settings, observer: Observer) -> Outcome:
    """Run the task in a child of its own. Returns once the child is reaped, whatever happens."""
    try:
        process, messages = _start(task)
    except OSError as error:
        _log.exception("no child process")
        return Outcome(None, describe("solver-died", f"The solving process could not be started: {error}"), None)
    supervision = _Supervision(task, settings, observer, process, messages)
    try:
        return supervision.watch()
    finally:
        supervision.reap()


def _start(task: worker.Task) -> tuple[ForkServerProcess, Connection]:
    for tries_left in reversed(range(_START_TRIES)):
        reader, writer = _context.Pipe(duplex=False)
        process = _context.Process(target=worker.run, args=(task, writer), name="solve")
        try:
            with _process_table:
                process.start()
        except (OSError, EOFError) as error:  # the forkserver has just died; the next try starts another
            reader.close()
            if not tries_left:
                raise OSError(f"{type(error).__name__}: {error}") from error
            time.sleep(0.1)
        else:
            return process, reader
        finally:
            writer.close()  # the child has its own; the reader must see the end when that one closes
    raise AssertionError("unreachable")


class _Supervision:
    """One child: its messages, its deadline, and the ladder from interrupt to kill."""

    def __init__(
        self,
        task: worker.Task,
        settings: Settings,
        observer: Observer,
        process: ForkServerProcess,
        messages: Connection,
    ) -> None:
        self._task, self._settings, self._observer = task, settings, observer
        self._process, self._messages = process, messages
        self._pid = process.pid or 0
        self._deadline = time.monotonic() + settings.startup_grace_s
        self._began: float | None = None
        self._kill_at: float | None = None
        self._stop_cause: StopCause | None = None
        self._was_killed = self._is_reaped = self._is_at_end = False
        self._result: dict[str, Any] | None = None
        self._error: Problem | None = None
        # A thread of its own reads: a child that freezes in the middle of a message must not freeze the ladder.
        self._inbox: queue.Queue[dict[str, Any] | None] = queue.Queue(maxsize=4)
        threading.Thread(target=self._receive, name=f"receive-{self._pid}", daemon=True).start()

    def watch(self) -> Outcome:
        """Follow the child to its end."""
        next_heartbeat = time.monotonic()
        while True:
            if (now := time.monotonic()) >= next_heartbeat:
                self._observer.heartbeat(self._elapsed_s)
                next_heartbeat = now + self._settings.heartbeat_interval_s
            self._climb_ladder(now)
            try:
                message = self._inbox.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if message is None:
                self._is_at_end = True
                break
            self._take(message)
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
        patience = self._settings.stop_grace_s if self._result or self._error else 0.5
        if not pipes.wait([self._process.sentinel], timeout=patience):
            self._kill()
            pipes.wait([self._process.sentinel])
        with _process_table:
            self._process.join()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)  # whatever the child itself may have started
        self._is_reaped = True
        while not self._is_at_end:  # let the receiving thread go
            self._is_at_end = self._inbox.get() is None

    def _take(self, message: dict[str, Any]) -> None:
        match message["kind"]:
            case "started":
                self._began = time.monotonic()
                self._deadline = self._began + self._task.time_limit_s + self._settings.overrun_grace_s
            case "incumbent":
                self._observer.store_incumbent(message["result"])
            case "result":
                self._result = message["result"]
            case "failed":
                self._error = describe(message["code"], message["detail"])

    def _climb_ladder(self, now: float) -> None:
        if self._stop_cause is None:
            if self._observer.is_stopping():
                self._interrupt(StopCause.SHUTDOWN, now)
            elif now >= self._deadline:
                self._interrupt(StopCause.OVERRUN, now)
        elif self._kill_at is not None and now >= self._kill_at:
            self._kill()

    def _interrupt(self, cause: StopCause, now: float) -> None:
        self._stop_cause, self._kill_at = cause, now + self._settings.stop_grace_s
        self._signal_group(signal.SIGINT)

    def _kill(self) -> None:
        if not self._was_killed:
            _log.warning("killing solve %d (%s)", self._pid, self._stop_cause or "it closed its pipe but did not end")
        self._was_killed = True
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._pid, number)
        except ProcessLookupError:
            # No such group: the child is gone, or so young that it has not made its group yet.
            if not pipes.wait([self._process.sentinel], timeout=0):
                os.kill(self._pid, number)

    def _explain_death(self) -> Problem:
        with _process_table:
            code = self._process.exitcode
        limit = f"its time limit of {self._task.time_limit_s:g} s"
        if self._was_killed and self._stop_cause is StopCause.OVERRUN:
            detail = f"The solve went on past {limit} and did not react to an interrupt."
            return describe("time-limit-overrun", f"{detail} {_KEPT}")
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
