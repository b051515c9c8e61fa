"""One job while it runs: passes on what the engine reports, and decides how the job ends."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from app.database import OUTAGES, log_failure
from app.engines import Outcome, StopCause
from app.leases import Lease, LeaseStore
from app.problems import describe
from app.schemas import Problem, State
from solver.result import StopReason

_WRITE_DELAYS_S = (0.2, 1.0, 5.0)
"""Between tries to write the end of a solve; the last one over and over."""
_STOP_REASONS = {StopCause.OVERRUN: StopReason.TIME_LIMIT, StopCause.MEMORY: StopReason.MEMORY_LIMIT}
_WORTH_ANOTHER_TRY = "solver-died"
_log = logging.getLogger(__name__)


class RunningJob:
    """The :class:`app.engines.Watch` of a leased job. An outage of the database loses nothing that counts."""

    def __init__(self, leases: LeaseStore, lease: Lease, *, lease_s: float, max_attempts: int) -> None:
        self.lease = lease
        self.on_steps: Callable[[int], None] = lambda _: None
        self._leases, self._lease_s, self._max_attempts = leases, lease_s, max_attempts
        self._best_value = lease.objective_value
        self._unstored: tuple[list[Mapping[str, Any]], dict[str, Any] | None] = ([], None)
        self._began: float | None = None
        self._renewed = time.monotonic()
        self._order: StopCause | None = None
        self._is_shutting_down = False
        self._ordering = threading.Lock()

    @property
    def elapsed_s(self) -> float:
        """How long this attempt has been solving."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    def order_stop(self, cause: StopCause) -> None:
        """End the solve. A later order counts only when it is the harder one."""
        with self._ordering:
            self._is_shutting_down |= cause is StopCause.SHUTDOWN
            if self._order is None or (cause.is_unkind and not self._order.is_unkind):
                self._order = cause

    def note_renewal(self) -> None:
        """The lease is good for another while."""
        self._renewed = time.monotonic()

    def stop_order(self) -> StopCause | None:
        """Why to stop. A lease that cannot be renewed will be given to someone else: better end before that."""
        if time.monotonic() - self._renewed > self._lease_s * 0.9:
            self.order_stop(StopCause.LEASE_LOST)
        return self._order

    def note_start(self) -> None:
        """The clock runs."""
        self._began = time.monotonic()

    def note_progress(self, steps: Sequence[Mapping[str, Any]], result: dict[str, Any] | None) -> None:
        """Store what was found."""
        if result is not None and not self._is_worse(result):
            self._best_value = result["objective_value"]
        unstored_steps, unstored_result = self._unstored
        self._unstored = [*unstored_steps, *steps], result or unstored_result
        try:
            self._store_unstored()
        except SQLAlchemyError as error:
            log_failure(_log, "progress of the solve is stored later", error, placement=self.lease.id)

    def note_log(self, content: bytes) -> None:
        """Store what was written, if that is possible."""
        try:
            self._leases.append_log(self.lease, content)
        except SQLAlchemyError as error:
            log_failure(_log, "a piece of the log is lost", error, placement=self.lease.id)

    def conclude(self, outcome: Outcome) -> str:
        """Store how the solve ended; in a word.

        Raises:
            LeaseLost: that is no longer our business.
        """
        if self._unstored != ([], None):
            self._insist(self._store_unstored)
        result, error, cause = outcome.result, outcome.error, outcome.stop_cause
        was_interrupted = result is None or result["stop_reason"] == StopReason.CANCELLED
        if cause in (StopCause.SHUTDOWN, StopCause.LEASE_LOST) and was_interrupted:
            best = None if result is None else result | {"stop_reason": None}
            return self._requeue(best, outcome.elapsed_s, counts=False)
        if cause in (StopCause.CANCEL, StopCause.DISCARD):
            # Whatever came of it; the store knows what the client wants of that.
            return self._finish(
                outcome, State.CANCELLED, result=None if result is None or self._is_worse(result) else result
            )
        if result is not None and self._is_worse(result):
            detail = "The solve ended with less than it had already found. The better placement is kept."
            return self._finish(outcome, State.FAILED, error=describe("solver-defect", detail))
        if result is not None:
            if was_interrupted and cause in _STOP_REASONS:
                result = result | {"stop_reason": _STOP_REASONS[cause]}  # that is why it was interrupted
            return self._finish(outcome, State.SUCCEEDED, result=result)
        return self._conclude_failure(outcome, error or describe("solver-died", "It left nothing behind."))

    def _conclude_failure(self, outcome: Outcome, error: Problem) -> str:
        kind = error.type.rpartition(":")[2]
        is_out_of_memory = kind == "out-of-memory"
        if self._best_value is not None and (is_out_of_memory or outcome.stop_cause in _STOP_REASONS):
            # It ran into a limit, did not end by itself, and its best placement is known and verified.
            reason = StopReason.MEMORY_LIMIT if is_out_of_memory else _STOP_REASONS[StopCause(outcome.stop_cause or "")]
            return self._finish(outcome, State.SUCCEEDED, stop_reason=reason)
        if kind == _WORTH_ANOTHER_TRY and self.lease.attempt < self._max_attempts:
            return self._requeue(None, outcome.elapsed_s, counts=True)
        return self._finish(outcome, State.FAILED, error=error)

    def _finish(
        self,
        outcome: Outcome,
        state: State,
        *,
        result: dict[str, Any] | None = None,
        error: Problem | None = None,
        stop_reason: StopReason | None = None,
    ) -> str:
        problem = None if error is None else error.model_dump(exclude_none=True)
        self._insist(
            lambda: self._leases.finish(
                self.lease, state, outcome.elapsed_s, result=result, error=problem, stop_reason=stop_reason
            )
        )
        return state

    def _requeue(self, best: dict[str, Any] | None, elapsed_s: float, *, counts: bool) -> str:
        self._insist(lambda: self._leases.requeue(self.lease, best, elapsed_s, counts=counts))
        return "queued_again"

    def _store_unstored(self) -> None:
        self._leases.record_progress(self.lease, *self._unstored)
        self.on_steps(len(self._unstored[0]))
        self._unstored = ([], None)

    def _is_worse(self, result: dict[str, Any]) -> bool:
        value = result["objective_value"]
        return self._best_value is not None and (value is None or value > self._best_value)

    def _insist(self, write: Callable[[], None]) -> None:
        """Write, however long the outage: the fence says whether the job is still ours. A shutdown waits for less."""
        for num_failures in itertools.count():
            try:
                write()
            except OUTAGES as error:
                if self._is_shutting_down and num_failures >= len(_WRITE_DELAYS_S):
                    raise
                log_failure(_log, "cannot store the end of the solve; trying again", error, placement=self.lease.id)
                time.sleep(_WRITE_DELAYS_S[min(num_failures, len(_WRITE_DELAYS_S) - 1)])
            else:
                return
