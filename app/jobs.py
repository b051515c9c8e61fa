"""The runner: starts queued jobs in the order of their creation, as many at a time as there are cores for."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError

from app import supervision
from app.bell import Bell
from app.problems import describe
from app.schemas import State
from app.settings import Settings
from app.storage import Claim, ClaimLost, Record, Storage
from app.supervision import Observer, Outcome, StopCause
from app.worker import Task
from solver.result import StopReason

_IDLE_S = 1.0
_WRITE_DELAYS_S = (0.2, 1.0, 5.0)
_log = logging.getLogger(__name__)


class DatabaseInUse(OSError):
    """Another server runs the jobs of this database."""


class Runner:
    """Owns every job of its database while it runs; the database's lock file sees to that."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        self._storage, self._settings = storage, settings
        self._owner = str(uuid4())
        self._lock_path = settings.database_path.with_name(settings.database_path.name + ".lock")
        self._lock_file: int | None = None
        self._free_slots = settings.slots
        self._slots_changed = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._dispatcher = threading.Thread(target=self._dispatch, name="dispatcher")
        self._solves: set[threading.Thread] = set()
        self._bell = Bell()

    def take_database(self) -> None:
        """Lock the database and bring its schema up to date, unless that was done.

        Raises:
            DatabaseInUse: another live server has it.
            OSError: it cannot be used; in a sentence for the operator.
        """
        if self._lock_file is None:
            self._lock()
            try:
                self._storage.migrate()
            except BaseException:
                self._unlock()
                raise

    def start(self) -> None:
        """Take over the jobs of the database and begin to run them. Raises what :meth:`take_database` raises."""
        self.take_database()
        attempts = self._settings.max_attempts
        detail = f"The server died during the solve, {attempts} times in a row. The best placement found is kept."
        recovered = self._storage.recover(attempts, describe("too-many-attempts", detail).model_dump(exclude_none=True))
        if recovered:
            _log.warning("recovered %d jobs of a dead server", recovered)
        supervision.warm_up()
        self._dispatcher.start()

    def begin_stop(self) -> None:
        """Start no more solves, interrupt the running ones, and let every waiting request go."""
        self._stopping.set()
        self._wake.set()
        self._bell.ring_all()

    def stop(self) -> None:
        """Return once no solve runs any more. What was interrupted is queued again, with its best so far."""
        self.begin_stop()
        if self._dispatcher.ident is not None:
            self._dispatcher.join()
        for thread in tuple(self._solves):
            thread.join()
        self._unlock()

    @property
    def is_alive(self) -> bool:
        """Whether queued jobs get started."""
        return self._dispatcher.is_alive() and not self._stopping.is_set()

    def announce_job(self) -> None:
        """A job was queued."""
        self._wake.set()

    async def wait_until_finished(self, placement_id: str, timeout_s: float) -> Record | None:
        """The job once it is finished, or as it stands when the time is up or the server stops."""
        with self._bell.listen(placement_id) as rung:
            record = await to_thread.run_sync(self._storage.read, placement_id)
            if record is None or record.state.is_terminal or timeout_s <= 0 or self._stopping.is_set():
                return record
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), timeout_s)
        return await to_thread.run_sync(self._storage.read, placement_id)

    def _lock(self) -> None:
        path = self._settings.database_path
        try:
            self._lock_file = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise OSError(f"cannot write the database {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._unlock()
            message = f"another server is running the jobs of {path}; stop it, or use another database"
            raise DatabaseInUse(message) from error

    def _unlock(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def _dispatch(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                while not self._stopping.is_set() and (claim := self._claim()) is not None:
                    thread = threading.Thread(target=self._run, args=(claim,), name=f"solve {claim.id}")
                    self._solves.add(thread)
                    thread.start()
            except Exception:  # noqa: BLE001 - nothing may end this loop but the end of the service
                _log.exception("cannot start queued jobs; trying again")
            self._wake.wait(_IDLE_S)

    def _claim(self) -> Claim | None:
        with self._slots_changed:
            if not self._free_slots:
                return None
            claim = self._storage.claim_next(self._owner, self._free_slots, self._settings.slots)
            if claim is not None:
                self._free_slots -= claim.workers
            return claim

    def _run(self, claim: Claim) -> None:
        try:
            log = _JobLog(self._storage, claim)
            observer = Observer(log.store_incumbent, log.heartbeat, self._stopping.is_set)
            task = Task(claim.request, claim.time_limit_s, claim.workers, claim.best)
            log.conclude(supervision.supervise(task, self._settings, observer))
        except ClaimLost:
            _log.warning("job %s was taken over; its solve here is dropped", claim.id)
        except Exception:  # noqa: BLE001 - the slots must be given back and the waiting woken
            _log.exception("job %s stays unfinished until the next start of the service", claim.id)
        finally:
            with self._slots_changed:
                self._free_slots += claim.workers
            self._solves.discard(threading.current_thread())
            self._bell.ring(claim.id)
            self._wake.set()


class _JobLog:
    """Writes what happens to one running job. A database that fails for a while loses nothing that counts."""

    def __init__(self, storage: Storage, claim: Claim) -> None:
        self._storage, self._claim = storage, claim
        self._best_value = claim.objective_value
        self._unstored: dict[str, Any] | None = None

    def heartbeat(self, elapsed_s: float) -> None:
        try:
            self._storage.heartbeat(self._claim, elapsed_s)
        except SQLAlchemyError:
            _log.exception("no heartbeat of job %s", self._claim.id)

    def store_incumbent(self, result: dict[str, Any]) -> None:
        if not self._is_worse(result):
            self._best_value = result["objective_value"]
        try:
            self._storage.store_incumbent(self._claim, result)
            self._unstored = None
        except SQLAlchemyError:
            _log.exception("incumbent of job %s is stored later", self._claim.id)
            self._unstored = result

    def conclude(self, outcome: Outcome) -> None:
        """Store how the solve ended."""
        if self._unstored is not None:
            unstored = self._unstored
            self._retry(lambda: self._storage.store_incumbent(self._claim, unstored))
        result, error = outcome.result, outcome.error
        was_interrupted = result is None or result["stop_reason"] == StopReason.CANCELLED
        if outcome.stop_cause is StopCause.SHUTDOWN and was_interrupted:
            best = None if result is None else result | {"stop_reason": None}
            self._retry(lambda: self._storage.requeue(self._claim, best, outcome.elapsed_s))
        elif result is not None and self._is_worse(result):
            detail = "The solve ended with less than it had already found. The better placement is kept."
            problem = describe("solver-defect", detail).model_dump(exclude_none=True)
            self._retry(lambda: self._storage.finish(self._claim, State.FAILED, error=problem))
        elif result is not None:
            if outcome.stop_cause is StopCause.OVERRUN and was_interrupted:
                result = result | {"stop_reason": str(StopReason.TIME_LIMIT)}  # that is why it was interrupted
            self._retry(lambda: self._storage.finish(self._claim, State.SUCCEEDED, result=result))
        elif error is not None:
            problem = error.model_dump(exclude_none=True)
            self._retry(lambda: self._storage.finish(self._claim, State.FAILED, error=problem))

    def _is_worse(self, result: dict[str, Any]) -> bool:
        value = result["objective_value"]
        return self._best_value is not None and (value is None or value > self._best_value)

    def _retry(self, write: Callable[[], None]) -> None:
        for delay_s in _WRITE_DELAYS_S:
            try:
                return write()
            except SQLAlchemyError:
                _log.exception("cannot store the end of job %s; trying again", self._claim.id)
                time.sleep(delay_s)
        return write()
