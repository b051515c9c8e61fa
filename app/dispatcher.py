"""The dispatcher: leases queued jobs, as many at a time as its engine has cores for, and has them run."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

from app.database import log_failure
from app.engines import Engine, StopCause, Task
from app.leases import Lease, LeaseLost, LeaseStore
from app.metrics import Metrics
from app.problems import describe
from app.running_job import RunningJob
from app.schemas import CancelMode
from app.settings import Settings
from app.tracing import current_parent, span
from solver.solve import report_versions

_TICK_S = 0.5
_EXPIRY_INTERVAL_S = 1.0
_FORGET_INTERVAL_S = 60.0
_log = logging.getLogger(__name__)


class Dispatcher:
    """Any number of them may share a PostgreSQL database; a SQLite file has one."""

    def __init__(self, leases: LeaseStore, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self._leases, self._engine, self._settings, self._metrics = leases, engine, settings, metrics
        self._id = str(uuid4())
        self._versions = " ".join(f"{name}={number}" for name, number in sorted(report_versions().items()))
        self._jobs: dict[str, RunningJob] = {}
        self._threads: set[threading.Thread] = set()
        self._changing = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._announced = -math.inf
        self._thread = threading.Thread(target=self._loop, name="dispatcher")
        self._chores: list[_Chore] = [
            _Chore(settings.heartbeat_interval_s, self._look_after_leases),
            _Chore(_EXPIRY_INTERVAL_S, self._expire),
            _Chore(_TICK_S, self._obey_cancels),
            _Chore(_FORGET_INTERVAL_S, self._forget),
        ]

    def start(self, *, is_alone: bool) -> None:
        """Begin to run jobs. ``is_alone``: nobody else can be running jobs of this database, so take over at once."""
        self._engine.start()
        if is_alone:
            self._recover(everything=True)
        self._thread.start()

    def begin_stop(self) -> None:
        """Lease no more jobs, and interrupt the running ones."""
        self._stopping.set()
        with self._changing:
            for job in self._jobs.values():
                job.order_stop(StopCause.SHUTDOWN)
        self._wake.set()

    def stop(self) -> None:
        """Return once no solve runs any more. What was interrupted is queued again, with its best so far."""
        self.begin_stop()
        if self._thread.ident is not None:
            self._thread.join()
            self._leases.sign_off(self._id)
        self._engine.stop()

    @property
    def is_alive(self) -> bool:
        """Whether queued jobs get started: it is warm, goes on, and could write to the database of late."""
        can_write = time.monotonic() - self._announced < self._settings.lease_s
        return can_write and self._thread.is_alive() and not self._stopping.is_set()

    def wake(self) -> None:
        """A job was queued, or is to be cancelled."""
        self._wake.set()

    def _loop(self) -> None:
        self._engine.warm_up(self._stopping)
        while not self._stopping.is_set() or self._jobs:
            self._wake.clear()
            for chore in self._chores:
                self._try(chore.run_if_due)
            self._try(self._fill)
            self._wake.wait(_TICK_S)
        for thread in tuple(self._threads):
            thread.join()

    @staticmethod
    def _try(step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - nothing may end the loop but the end of the service
            log_failure(_log, "the dispatcher goes on after a failure", error)

    def _fill(self) -> None:
        """Start queued jobs while there are free slots."""
        slots = self._engine.count_slots()
        while not self._stopping.is_set():
            with self._changing:
                free = slots - sum(job.lease.workers for job in self._jobs.values())
            if free <= 0:
                return
            lease = self._leases.lease_next(self._id, free, slots, self._versions)
            if lease is None:
                return
            self._start_job(lease)

    def _start_job(self, lease: Lease) -> None:
        limits = self._settings
        job = RunningJob(self._leases, lease, lease_s=limits.lease_s, max_attempts=limits.max_attempts)
        job.on_steps = self._metrics.incumbents.inc
        with self._changing:
            self._jobs[lease.id] = job
            if self._stopping.is_set():
                job.order_stop(StopCause.SHUTDOWN)
        thread = threading.Thread(target=self._run, args=(job,), name=f"solve {lease.id}")
        self._threads.add(thread)
        thread.start()

    def _run(self, job: RunningJob) -> None:
        lease, limits = job.lease, self._settings
        names = {"placement": lease.id, "attempt": lease.attempt}
        outcome_name = "failed"
        self._metrics.solves_running.inc()
        began = time.monotonic()
        try:
            _log.info("solve starts", extra=names)
            task = Task(
                placement_id=lease.id,
                document=lease.request,
                time_limit_s=lease.time_limit_s,
                workers=lease.workers,
                best=lease.best,
                best_bound=lease.best_bound,
                memory_limit_bytes=limits.memory_limit_bytes,
                stop_grace_s=limits.stop_grace_s,
                overrun_grace_s=limits.overrun_grace_s,
                startup_grace_s=limits.startup_grace_s,
            )
            with span("placewright.job", lease.trace_parent, placement=lease.id, attempt=lease.attempt) as job_span:
                task = replace(task, trace_parent=current_parent())
                outcome_name = job.conclude(self._engine.run(task, job))
                job_span.set_attribute("outcome", outcome_name)
            _log.info("solve ended: %s", outcome_name, extra=names)
        except LeaseLost:
            outcome_name = "lease_lost"
            self._metrics.leases_lost.inc()
            _log.warning("the job was taken over; its solve here is dropped", extra=names)
        except Exception as error:  # noqa: BLE001 - the slots must be given back; the job is tried again after its lease
            log_failure(_log, "the job stays unfinished until its lease has run out", error, **names)
        finally:
            self._metrics.solves_running.dec()
            self._metrics.solves.labels(outcome_name).observe(time.monotonic() - began)
            with self._changing:
                del self._jobs[lease.id]
            self._threads.discard(threading.current_thread())
            self._wake.set()

    def _look_after_leases(self) -> None:
        self._renew()  # first: after an outage our own have run out too
        self._recover()

    def _renew(self) -> None:
        with self._changing:
            jobs = list(self._jobs.values())
        lost = self._leases.renew({job.lease: job.elapsed_s for job in jobs})
        for job in jobs:
            if job.lease in lost:
                job.order_stop(StopCause.LEASE_LOST)
            else:
                job.note_renewal()
        self._announce()

    def _announce(self) -> None:
        if not self._stopping.is_set():
            self._leases.announce(self._id, self._engine.name, self._engine.count_slots())
            self._announced = time.monotonic()

    def _obey_cancels(self) -> None:
        with self._changing:
            if not self._jobs:
                return
        for placement_id, mode in self._leases.list_cancelled(self._id).items():
            job = self._jobs.get(placement_id)
            if job is not None:
                job.order_stop(StopCause.DISCARD if mode is CancelMode.DISCARD else StopCause.CANCEL)

    def _recover(self, *, everything: bool = False) -> None:
        attempts = self._settings.max_attempts
        detail = f"Whatever ran the solve died, {attempts} times in a row. The best placement found is kept."
        error = describe("too-many-attempts", detail).model_dump(exclude_none=True)
        for placement_id in self._leases.recover(attempts, error, everything=everything):
            _log.warning("recovered from a dead dispatcher", extra={"placement": placement_id})

    def _expire(self) -> None:
        error = describe("waited-too-long", "The job could not be started within its max_wait.")
        for placement_id in self._leases.expire(error.model_dump(exclude_none=True)):
            _log.info("expired in the queue", extra={"placement": placement_id})

    def _forget(self) -> None:
        self._leases.forget_usage()
        days = self._settings.retention_days
        while days is not None and not self._stopping.is_set() and self._leases.forget(days * 86_400):
            pass


class _Chore:
    """Something to be done once in a while."""

    def __init__(self, interval_s: float, work: Callable[[], object]) -> None:
        self._interval_s, self._work, self._due = interval_s, work, 0.0

    def run_if_due(self) -> None:
        if (now := time.monotonic()) >= self._due:
            self._due = now + self._interval_s
            self._work()
