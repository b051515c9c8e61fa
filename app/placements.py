"""The clients' side of the job rows: making, reading, listing, cancelling and deleting, each for one tenant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Row, Select, bindparam, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.auth.allowance import NO_BOUNDS, check_quota
from app.database import Database
from app.job_rows import REQUEST, RESULT, START, add_event, change_state, end_cancelled, pack, unpack
from app.placement_records import (
    AlreadyFinished,
    Event,
    KeyInFlight,
    KeyReused,
    NewPlacement,
    NoFreeSlots,
    NotFinished,
    PlacementNotFound,
    QueueFigures,
    QueueFull,
    Record,
    StartNotUsable,
    Summary,
)
from app.schemas import ACTIVE, HELD, CancelMode, State
from app.tables import DispatcherRow, DocumentRow, EventRow, LogRow, PlacementRow, TagRow
from solver.result import relative_gap

_TAKE_UP_S = 10.0
"""How long a dispatcher may take to start a job that must not wait."""

# What clients ask for over and over: one statement each, built once, for columns and not for objects.
_WITH_TAGS = (
    select(*PlacementRow.__table__.columns, TagRow.tag)
    .outerjoin(TagRow, TagRow.placement_id == PlacementRow.id)
    .where(PlacementRow.id == bindparam("id"), PlacementRow.tenant == bindparam("tenant"))
    .order_by(TagRow.tag)
)
_NUM_AHEAD = select(func.count()).where(
    PlacementRow.state == State.QUEUED,
    (PlacementRow.priority > bindparam("priority"))
    | ((PlacementRow.priority == bindparam("priority")) & (PlacementRow.sequence < bindparam("sequence"))),
)


class PlacementStore:
    """What clients read and write. Safe to use from many threads."""

    def __init__(
        self,
        database: Database,
        *,
        dispatcher_timeout_s: float,
        max_queued: int = 10_000,
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._database, self._dispatcher_timeout = database, timedelta(seconds=dispatcher_timeout_s)
        self._max_queued, self._on_change = max_queued, on_change

    def create(self, new: NewPlacement) -> tuple[str, bool]:
        """Queue a job; its id, and whether it is new: a repeated idempotency key leads to the first one.

        Raises:
            KeyInFlight, KeyReused: see there.
            StartNotUsable: the placement to start from does not exist.
            QuotaExceeded: the key has all it may have.
            NoFreeSlots: ``max_wait_s`` is 0 and the job could not start now.
            QueueFull: see there.
        """
        try:
            return self._create(new)
        except IntegrityError:
            if new.idempotency_key is None:
                raise
            return self._create(new)  # another server has just made the job of this key

    def _create(self, new: NewPlacement) -> tuple[str, bool]:
        with self._database.write() as session:
            now = self._database.now(session)
            if new.idempotency_key is not None and (known := self._find_repeated(session, new, now)):
                return known, False
            if new.allowance != NO_BOUNDS:
                self._database.take_turn(session, f"quota {new.tenant} {new.key_id}")
                check_quota(
                    session,
                    now,
                    tenant=new.tenant,
                    key_id=new.key_id,
                    allowance=new.allowance,
                    workers=new.workers,
                    time_limit_s=new.time_limit_s,
                )
            start = None if new.warm_start is None else _read_start(session, new.tenant, new.warm_start)
            queued = select(func.count()).where(PlacementRow.state == State.QUEUED)
            if (session.scalar(queued) or 0) >= self._max_queued:
                raise QueueFull
            if new.max_wait_s == 0 and not self._has_room(session, new.workers, now):
                raise NoFreeSlots
            row = _make_row(new, now)
            session.add(row)
            session.flush()
            session.add(DocumentRow(placement_id=row.id, kind=REQUEST, content=new.request))
            if start is not None:
                session.add(DocumentRow(placement_id=row.id, kind=START, content=pack({"placement": start})))
            session.add_all(TagRow(placement_id=row.id, tag=tag) for tag in new.tags)
            add_event(session, row, now, "state", {"state": State.QUEUED, "attempt": 0})
        self._on_change(row.id)
        return row.id, True

    def set_answering(self, placement_id: str, seconds: float) -> None:
        """The request that made the job goes on waiting for that long; 0: it has its answer."""
        with self._database.write() as session:
            until = self._database.now(session) + timedelta(seconds=seconds) if seconds else None
            session.execute(update(PlacementRow).where(PlacementRow.id == placement_id).values(answering_until=until))

    def read(self, tenant: str, placement_id: str) -> Record:
        """The job with its newest result. Raises :class:`PlacementNotFound`."""
        with self._database.read() as session:
            row = _find(session, tenant, placement_id)
            document = session.get(DocumentRow, (placement_id, RESULT))
            summary = _summarise(row, _tags_of(session, [placement_id])[placement_id], self._database.now(session))
        if document is None:
            return Record(summary, None)
        result = unpack(document.content)
        # The bound may have been raised since the placement was found.
        bounds = {"best_bound": summary.best_bound, "relative_gap": summary.relative_gap}
        return Record(summary, result if summary.state.is_terminal else result | bounds)

    def read_summary(self, tenant: str, placement_id: str) -> Summary:
        """The job without its documents, with its place in the queue. Raises :class:`PlacementNotFound`."""
        with self._database.read() as session:
            rows = session.execute(_WITH_TAGS, {"id": placement_id, "tenant": tenant}).all()
            if not rows:
                raise PlacementNotFound(placement_id)
            row = rows[0]
            position = None
            if row.state == State.QUEUED:
                position = session.scalar(_NUM_AHEAD, {"priority": row.priority, "sequence": row.sequence})
            tags = tuple(found.tag for found in rows if found.tag is not None)
            return _summarise(row, tags, self._database.now(session), position)

    def list_newest(
        self, tenant: str, *, state: State | None, tag: str | None, limit: int, before: int | None
    ) -> tuple[list[Summary], int | None]:
        """The newest jobs first, and where to go on after them; ``before`` is such a place."""
        wanted = select(PlacementRow).where(PlacementRow.tenant == tenant)
        if state is not None:
            wanted = wanted.where(PlacementRow.state == state)
        if tag is not None:
            wanted = wanted.join(TagRow, TagRow.placement_id == PlacementRow.id).where(TagRow.tag == tag)
        if before is not None:
            wanted = wanted.where(PlacementRow.sequence < before)
        with self._database.read() as session:
            rows = session.scalars(wanted.order_by(PlacementRow.sequence.desc()).limit(limit + 1)).all()
            shown = rows[:limit]
            tags, now = _tags_of(session, [row.id for row in shown]), self._database.now(session)
            summaries = [_summarise(row, tags[row.id], now) for row in shown]
        return summaries, shown[-1].sequence if len(rows) > limit else None

    def cancel(self, tenant: str, placement_id: str, mode: CancelMode) -> None:
        """Cancel the job: at once while it is queued, else once its process has ended.

        Raises:
            PlacementNotFound: see there.
            AlreadyFinished: it was not cancelled, but has ended.
        """
        with self._database.write() as session:
            row = _find(session, tenant, placement_id, lock=True)
            now = self._database.now(session)
            state = State(row.state)
            if state.is_terminal:
                if state is State.CANCELLED:
                    return
                raise AlreadyFinished(state)
            if row.cancel_mode != CancelMode.DISCARD:
                row.cancel_mode = mode
            if state is State.QUEUED:
                end_cancelled(session, row, now)
            elif state is State.RUNNING:
                change_state(session, row, now, State.CANCELLING)
        self._on_change(placement_id)

    def delete(self, tenant: str, placement_id: str) -> None:
        """Forget the job. Raises :class:`PlacementNotFound`, or :class:`NotFinished`."""
        with self._database.write() as session:
            row = _find(session, tenant, placement_id, lock=True)
            if not State(row.state).is_terminal:
                raise NotFinished
            session.execute(delete(PlacementRow).where(PlacementRow.id == placement_id))
        self._on_change(placement_id)

    def list_events(
        self, tenant: str, placement_id: str, *, after: int, limit: int, kind: str | None = None
    ) -> list[Event]:
        """What happened to the job after that sequence number. Raises :class:`PlacementNotFound`."""
        wanted = select(EventRow).where(EventRow.placement_id == placement_id, EventRow.sequence > after)
        if kind is not None:
            wanted = wanted.where(EventRow.kind == kind)
        with self._database.read() as session:
            _find(session, tenant, placement_id)
            rows = session.scalars(wanted.order_by(EventRow.sequence).limit(limit)).all()
        return [Event(row.sequence, row.kind, row.created_at, row.data) for row in rows]

    def read_log(self, tenant: str, placement_id: str, *, from_byte: int, max_bytes: int) -> tuple[bytes, int]:
        """A piece of the log, and how long the log is. Raises :class:`PlacementNotFound`."""
        with self._database.read() as session:
            size = _find(session, tenant, placement_id).num_log_bytes
            pieces = (
                select(LogRow)
                .where(LogRow.placement_id == placement_id)
                .where(
                    LogRow.from_byte + func.length(LogRow.content) > from_byte, LogRow.from_byte < from_byte + max_bytes
                )
                .order_by(LogRow.from_byte)
            )
            content = b""
            for piece in session.scalars(pieces):
                content += piece.content[max(0, from_byte - piece.from_byte) :]
        return content[:max_bytes], size

    def count_events(self, ids: Collection[str]) -> dict[str, int]:
        """How many events each of these jobs has; those that are gone are left out."""
        with self._database.read() as session:
            wanted = select(PlacementRow.id, PlacementRow.num_events).where(PlacementRow.id.in_(ids))
            return {row.id: row.num_events for row in session.execute(wanted)}

    def count_slots(self) -> int:
        """Slots of all live dispatchers; 0: nobody runs jobs."""
        with self._database.read() as session:
            return self._count_slots(session, self._database.now(session))

    def count_most_slots(self) -> int:
        """Slots of the largest live dispatcher; 0: nobody runs jobs."""
        with self._database.read() as session:
            return session.scalar(self._of_live(func.max(DispatcherRow.slots), self._database.now(session))) or 0

    def read_queue(self) -> QueueFigures:
        """How the queue of all tenants stands."""
        with self._database.read() as session:
            now = self._database.now(session)
            counted = session.execute(select(PlacementRow.state, func.count()).group_by(PlacementRow.state))
            states = dict.fromkeys(State, 0) | {State(state): count for state, count in counted}
            oldest = session.scalar(select(func.min(PlacementRow.created_at)).where(PlacementRow.state == State.QUEUED))
            oldest_s = 0.0 if oldest is None else (now - oldest).total_seconds()
            return QueueFigures(states, self._count_slots(session, now), oldest_s)

    def _count_slots(self, session: Session, now: datetime) -> int:
        return session.scalar(self._of_live(func.sum(DispatcherRow.slots), now)) or 0

    def _of_live(self, figure: ColumnElement[Any], now: datetime) -> Select[Any]:
        return select(figure).where(DispatcherRow.heartbeat_at >= now - self._dispatcher_timeout)

    def _has_room(self, session: Session, workers: int, now: datetime) -> bool:
        slots = self._count_slots(session, now)
        taken = session.scalar(select(func.sum(PlacementRow.workers)).where(PlacementRow.state.in_(ACTIVE))) or 0
        return taken + min(workers, slots) <= slots != 0

    @staticmethod
    def _find_repeated(session: Session, new: NewPlacement, now: datetime) -> str | None:
        is_same = (PlacementRow.tenant == new.tenant) & (PlacementRow.idempotency_key == new.idempotency_key)
        row = session.scalar(select(PlacementRow).where(is_same).with_for_update())
        if row is None:
            return None
        if row.fingerprint != new.fingerprint:
            raise KeyReused
        if row.answering_until is not None and row.answering_until > now:
            raise KeyInFlight
        row.answering_until = _answering_until(new, now)
        return row.id


def _make_row(new: NewPlacement, now: datetime) -> PlacementRow:
    start_before = None
    if new.max_wait_s is not None:
        # Room was found for a job that must not wait; the dispatcher gets a moment to take it up.
        start_before = now + timedelta(seconds=new.max_wait_s or _TAKE_UP_S)
    return PlacementRow(
        id=str(uuid4()),
        tenant=new.tenant,
        key_id=new.key_id,
        state=State.QUEUED,
        priority=new.priority,
        created_at=now,
        start_before=start_before,
        fence=0,
        attempt=0,
        time_limit_s=new.time_limit_s,
        spent_s=0.0,
        workers=new.workers,
        request_digest=new.digest,
        idempotency_key=new.idempotency_key,
        fingerprint=new.fingerprint,
        answering_until=_answering_until(new, now),
        num_events=0,
        num_log_bytes=0,
        webhook_url=new.webhook_url,
        trace_parent=new.trace_parent,
    )


def _answering_until(new: NewPlacement, now: datetime) -> datetime | None:
    return now + timedelta(seconds=new.answering_s) if new.idempotency_key is not None and new.answering_s else None


def _is_of(tenant: str, placement_id: str) -> ColumnElement[bool]:
    return (PlacementRow.id == placement_id) & (PlacementRow.tenant == tenant)


def _find(session: Session, tenant: str, placement_id: str, *, lock: bool = False) -> PlacementRow:
    wanted = select(PlacementRow).where(_is_of(tenant, placement_id))
    row = session.scalar(wanted.with_for_update() if lock else wanted)
    if row is None:
        raise PlacementNotFound(placement_id)
    return row


def _read_start(session: Session, tenant: str, placement_id: str) -> dict[str, str]:
    try:
        _find(session, tenant, placement_id)
    except PlacementNotFound as error:
        raise StartNotUsable(f"No placement has the id {placement_id!r}.") from error
    document = session.get(DocumentRow, (placement_id, RESULT))
    placement: dict[str, str] | None = None if document is None else unpack(document.content)["placement"]
    if placement is None:
        raise StartNotUsable(f"The placement {placement_id!r} has found nothing to start from.")
    return placement


def _tags_of(session: Session, ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = dict.fromkeys(ids, ())
    for row in session.scalars(select(TagRow).where(TagRow.placement_id.in_(found)).order_by(TagRow.tag)):
        found[row.placement_id] += (row.tag,)
    return found


def _summarise(
    row: PlacementRow | Row[*tuple[Any, ...]], tags: tuple[str, ...], now: datetime, queue_position: int | None = None
) -> Summary:
    elapsed_s = row.spent_s
    state = State(row.state)
    if state in HELD and row.heartbeat_at is not None:
        elapsed_s += max(0.0, (now - row.heartbeat_at).total_seconds())
    return Summary(
        id=row.id,
        state=state,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        heartbeat_at=row.heartbeat_at,
        attempt=row.attempt,
        priority=row.priority,
        tags=tags,
        request_digest=row.request_digest,
        time_limit_s=row.time_limit_s,
        elapsed_s=elapsed_s,
        objective_value=row.objective_value,
        best_bound=row.best_bound,
        relative_gap=relative_gap(row.objective_value, row.best_bound),
        error=row.error,
        num_events=row.num_events,
        queue_position=queue_position,
    )
