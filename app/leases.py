"""The dispatchers' side of the job rows: leasing, renewing, and writing what happens under a lease.

A lease is good for a limited time and carries a fencing token that grows with every lease of the job. Each write
names its token; when another dispatcher has taken the job since, nothing is written and :class:`LeaseLost` is raised.
So whoever wakes up late cannot overwrite its successor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, select, update
from sqlalchemy.orm import Session

from app.auth.allowance import forget_usage
from app.database import Database
from app.job_rows import (
    REQUEST,
    RESULT,
    START,
    add_event,
    change_state,
    end,
    end_cancelled,
    keep_better,
    pack,
    raise_bound,
    store_result,
    unpack,
)
from app.schemas import HELD, CancelMode, State
from app.tables import DispatcherRow, DocumentRow, LogRow, PlacementRow
from solver.result import StopReason, relative_gap

_LEAST_TIME_S = 1.0
"""What even a job gets whose earlier attempts used up its time limit."""
_BATCH = 100


class LeaseLost(Exception):
    """The job is no longer this dispatcher's to write."""


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """A job, for a while, and everything needed to run it."""

    id: str
    owner: str
    fence: int
    attempt: int
    spent_s: float
    """What earlier attempts took."""
    time_limit_s: float
    """What they left of the job's time limit."""
    workers: int
    request: bytes
    """The request document, gzip."""
    best: bytes | None
    """The best result of earlier attempts, or the placement to start from; gzip."""
    objective_value: float | None
    """What earlier attempts have found."""
    best_bound: float | None
    """What the same versions of the solver have proved."""
    trace_parent: str | None = None


class LeaseStore:
    """What dispatchers read and write. Safe to use from many threads."""

    def __init__(
        self,
        database: Database,
        *,
        lease_s: float,
        max_log_bytes: int = 1 << 20,
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._database, self._lease, self._max_log_bytes = database, timedelta(seconds=lease_s), max_log_bytes
        self._on_change = on_change

    def announce(self, dispatcher_id: str, engine: str, slots: int) -> None:
        """Say that this dispatcher is alive; forget the ones long gone."""
        with self._database.write() as session:
            now = self._database.now(session)
            row = session.get(DispatcherRow, dispatcher_id)
            if row is None:
                row = DispatcherRow(id=dispatcher_id, engine=engine, started_at=now)
                session.add(row)
            row.slots, row.heartbeat_at = slots, now
            session.execute(delete(DispatcherRow).where(DispatcherRow.heartbeat_at < now - 10 * self._lease))

    def sign_off(self, dispatcher_id: str) -> None:
        """This dispatcher is gone."""
        with self._database.write() as session:
            session.execute(delete(DispatcherRow).where(DispatcherRow.id == dispatcher_id))

    def lease_next(self, owner: str, free_slots: int, slots: int, solver_versions: str) -> Lease | None:
        """Start the first queued job, or nothing while it needs more than the free slots.

        Later, smaller jobs do not overtake it: a stream of them would keep a large one waiting for ever.
        """
        with self._database.read() as session:  # most looks find nothing, and need no write lock for that
            if session.scalar(_first_queued(select(PlacementRow.sequence))) is None:
                return None
        with self._database.write() as session:
            # Another dispatcher may be starting the first one: on PostgreSQL this one then takes the second.
            row = session.scalar(_first_queued(select(PlacementRow)).with_for_update(skip_locked=True))
            if row is None or min(row.workers, slots) > free_slots:
                return None
            now = self._database.now(session)
            row.owner, row.fence, row.attempt = owner, row.fence + 1, row.attempt + 1
            row.started_at = row.started_at or now
            row.heartbeat_at, row.lease_until = now, now + self._lease
            if row.solver_versions != solver_versions:
                row.solver_versions, row.best_bound = solver_versions, None
            change_state(session, row, now, State.RUNNING)
            document = session.get_one(DocumentRow, (row.id, REQUEST))
            best = session.get(DocumentRow, (row.id, RESULT)) or session.get(DocumentRow, (row.id, START))
            lease = Lease(
                id=row.id,
                owner=owner,
                fence=row.fence,
                attempt=row.attempt,
                spent_s=row.spent_s,
                time_limit_s=min(row.time_limit_s, max(row.time_limit_s - row.spent_s, _LEAST_TIME_S)),
                workers=min(row.workers, slots),
                request=document.content,
                best=None if best is None else best.content,
                objective_value=row.objective_value,
                best_bound=row.best_bound,
                trace_parent=row.trace_parent,
            )
        self._on_change(lease.id)
        return lease

    def renew(self, elapsed_s: Mapping[Lease, float]) -> set[Lease]:
        """Keep the leases for another while, and note how long each attempt has solved; the leases that are lost."""
        lost: set[Lease] = set()
        with self._database.write() as session:
            now = self._database.now(session)
            for lease, seconds in sorted(elapsed_s.items(), key=lambda item: item[0].id):
                values = {"heartbeat_at": now, "lease_until": now + self._lease, "spent_s": lease.spent_s + seconds}
                changed = session.execute(update(PlacementRow).where(_is_mine(lease)).values(**values))
                if changed.rowcount != 1:  # type: ignore[attr-defined]
                    lost.add(lease)
        return lost

    def list_cancelled(self, owner: str) -> dict[str, CancelMode]:
        """The jobs of this dispatcher that are to be cancelled."""
        wanted = select(PlacementRow.id, PlacementRow.cancel_mode).where(
            PlacementRow.state == State.CANCELLING, PlacementRow.owner == owner
        )
        with self._database.read() as session:
            return {
                placement_id: CancelMode(mode or CancelMode.KEEP_BEST) for placement_id, mode in session.execute(wanted)
            }

    def record_progress(
        self, lease: Lease, steps: Sequence[Mapping[str, Any]], result: Mapping[str, Any] | None
    ) -> None:
        """Add steps of the search to the events, and keep the result unless an earlier one is better."""
        with self._database.write() as session:
            row = self._lock(session, lease)
            now = self._database.now(session)
            for step in steps:
                gap = relative_gap(step["objective_value"], step["best_bound"])
                data = {**step, "relative_gap": gap, "attempt": lease.attempt}
                add_event(session, row, now, "incumbent", data)
            raise_bound(row, [step["best_bound"] for step in steps])
            if result is not None:
                keep_better(session, row, result)
        self._on_change(lease.id)

    def append_log(self, lease: Lease, content: bytes) -> None:
        """Add to the job's log while it has room."""
        with self._database.write() as session:
            row = self._lock(session, lease)
            content = content[: max(0, self._max_log_bytes - row.num_log_bytes)]
            if content:
                session.add(LogRow(placement_id=row.id, from_byte=row.num_log_bytes, content=content))
                row.num_log_bytes += len(content)

    def finish(
        self,
        lease: Lease,
        state: State,
        elapsed_s: float,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        stop_reason: StopReason | None = None,
    ) -> None:
        """End the job; as cancelled when that was asked for.

        Without a ``result`` the best incumbent stays, with ``stop_reason`` if one is given.
        """
        with self._database.write() as session:
            row = self._lock(session, lease)
            now = self._database.now(session)
            row.heartbeat_at, row.spent_s = now, lease.spent_s + elapsed_s
            if result is not None:
                store_result(session, row, result)
            if row.state == State.CANCELLING:
                end_cancelled(session, row, now)
            else:
                document = session.get(DocumentRow, (row.id, RESULT))
                if stop_reason is not None and document is not None:
                    document.content = pack(unpack(document.content) | {"stop_reason": stop_reason})
                end(session, row, now, state, error)
        self._on_change(lease.id)

    def requeue(self, lease: Lease, best: Mapping[str, Any] | None, elapsed_s: float, *, counts: bool) -> None:
        """Give the job back: it keeps its place in the queue. An interruption in good order is no attempt."""
        with self._database.write() as session:
            row = self._lock(session, lease)
            now = self._database.now(session)
            if best is not None:
                keep_better(session, row, best)
            row.spent_s = lease.spent_s + elapsed_s
            row.attempt = lease.attempt if counts else lease.attempt - 1
            if row.state == State.CANCELLING:
                end_cancelled(session, row, now)
            else:
                change_state(session, row, now, State.QUEUED)
        self._on_change(lease.id)

    def recover(self, max_attempts: int, error: Mapping[str, Any], *, everything: bool = False) -> list[str]:
        """Queue the jobs whose lease has run out, or end them after too many attempts; their ids.

        ``everything``: whoever held a lease is known to be dead, and offers no slots either.
        """
        if everything:
            with self._database.write() as session:
                session.execute(delete(DispatcherRow))
        left = select(PlacementRow).where(PlacementRow.state.in_(HELD))
        with self._database.read() as session:
            now = self._database.now(session)
            if not everything:
                left = left.where(PlacementRow.lease_until < now)
            if session.scalar(left.limit(1)) is None:
                return []
        with self._database.write() as session:
            now = self._database.now(session)
            rows = session.scalars(left.with_for_update(skip_locked=True)).all()
            for row in rows:
                if row.state == State.CANCELLING:
                    end_cancelled(session, row, now)
                elif row.attempt >= max_attempts:
                    end(session, row, now, State.FAILED, error)
                else:
                    change_state(session, row, now, State.QUEUED)
        return self._tell(rows)

    def expire(self, error: Mapping[str, Any]) -> list[str]:
        """End the jobs that waited for their first start for longer than they were willing to; their ids."""
        never_started = (PlacementRow.state == State.QUEUED) & PlacementRow.started_at.is_(None)
        due = select(PlacementRow).where(never_started).limit(_BATCH)
        with self._database.read() as session:
            now = self._database.now(session)
            due = due.where(PlacementRow.start_before < now)
            if session.scalar(due) is None:
                return []
        with self._database.write() as session:
            rows = session.scalars(due.with_for_update(skip_locked=True)).all()
            for row in rows:
                end(session, row, now, State.EXPIRED, error)
        return self._tell(rows)

    def forget(self, retention_s: float) -> int:
        """Delete some of the jobs that ended longer ago than that; how many."""
        with self._database.write() as session:
            horizon = self._database.now(session) - timedelta(seconds=retention_s)
            old = select(PlacementRow.id).where(PlacementRow.finished_at < horizon).limit(_BATCH)
            ids = session.scalars(old).all()
            session.execute(delete(PlacementRow).where(PlacementRow.id.in_(ids)))
        return len(ids)

    def forget_usage(self) -> None:
        """Delete what counts against no quota any more."""
        with self._database.write() as session:
            forget_usage(session, self._database.now(session))

    def _tell(self, rows: Iterable[PlacementRow]) -> list[str]:
        ids = [row.id for row in rows]
        for placement_id in ids:
            self._on_change(placement_id)
        return ids

    def _lock(self, session: Session, lease: Lease) -> PlacementRow:
        row = session.scalar(select(PlacementRow).where(_is_mine(lease)).with_for_update())
        if row is None:
            raise LeaseLost(lease.id)
        return row


def _first_queued(columns: Select[Any]) -> Select[Any]:
    order = (PlacementRow.priority.desc(), PlacementRow.sequence)
    return columns.where(PlacementRow.state == State.QUEUED).order_by(*order).limit(1)


def _is_mine(lease: Lease) -> ColumnElement[bool]:
    return (PlacementRow.id == lease.id) & (PlacementRow.fence == lease.fence) & PlacementRow.state.in_(HELD)
