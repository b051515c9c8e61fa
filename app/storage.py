"""The record of every job: SQL rows, and the documents that belong to them.

SQLite in WAL mode: readers never wait, writers queue up for the busy timeout. A write to a running job carries the
claim it was started under; when another owner has taken the job since, nothing is written and :class:`ClaimLost` is
raised.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import JSON, Engine, ForeignKey, Index, LargeBinary, String, create_engine, event, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from app.schemas import State

_MIGRATIONS = Path(__file__).parent / "migrations"
_REQUEST, _RESULT = "request", "result"
_LEAST_TIME_S = 1.0
"""What even a job gets whose earlier attempts used up its time limit."""


class Base(DeclarativeBase):
    """All tables."""


class PlacementRow(Base):
    """A job. Small, so that a heartbeat is cheap; its documents are elsewhere."""

    __tablename__ = "placements"
    __table_args__ = (Index("ix_placements_state_sequence", "state", "sequence"), {"sqlite_autoincrement": True})

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(36), unique=True)
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    attempt: Mapped[int]
    owner: Mapped[str | None] = mapped_column(String(36))
    time_limit_s: Mapped[float]
    spent_s: Mapped[float]
    workers: Mapped[int]
    request_digest: Mapped[str] = mapped_column(String(64))
    objective_value: Mapped[float | None]
    best_bound: Mapped[float | None]
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class DocumentRow(Base):
    """The request or the result of a job: JSON, gzip."""

    __tablename__ = "documents"

    placement_id: Mapped[str] = mapped_column(ForeignKey("placements.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class ClaimLost(Exception):
    """The job is no longer this owner's to write."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a job once: what to run, and the token every write shows."""

    id: str
    owner: str
    attempt: int
    spent_s: float
    """What earlier attempts took."""
    time_limit_s: float
    """What they left of the job's time limit."""
    workers: int
    request: bytes
    """The request document, gzip."""
    best: bytes | None
    """The best result of earlier attempts, gzip."""
    objective_value: float | None
    """What that is worth."""


@dataclass(frozen=True, slots=True)
class Record:
    """A job as it stands."""

    id: str
    state: State
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    heartbeat_at: datetime | None
    attempt: int
    request_digest: str
    time_limit_s: float
    result: dict[str, Any] | None
    error: dict[str, Any] | None


class Storage:
    """All reads and writes of jobs. Safe to use from many threads."""

    def __init__(self, url: str, busy_timeout_s: float) -> None:
        self._engine = _open(url, busy_timeout_s)

    def migrate(self) -> None:
        """Bring the schema to the newest version.

        Raises:
            OSError: the file is no database, is of a newer version, or cannot be written.
        """
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        try:
            with self._engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except (DBAPIError, CommandError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise OSError(f"cannot use the database {self._engine.url.database}: {reason}") from error

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def ping(self) -> None:
        """Raise if the database does not answer."""
        with self._read() as session:
            session.execute(text("SELECT count(*) FROM placements WHERE sequence = 0"))

    def create(self, *, request: bytes, digest: str, time_limit_s: float, workers: int) -> str:
        """Queue a job for the request document ``request`` (gzip); its new id."""
        row = PlacementRow(
            id=str(uuid4()),
            state=State.QUEUED,
            created_at=_now(),
            attempt=0,
            time_limit_s=time_limit_s,
            spent_s=0.0,
            workers=workers,
            request_digest=digest,
        )
        with self._write() as session:
            session.add(row)
            session.flush()
            session.add(DocumentRow(placement_id=row.id, kind=_REQUEST, content=request))
            return row.id

    def read(self, placement_id: str) -> Record | None:
        """The job of that id with its newest result."""
        with self._read() as session:
            row = session.scalar(select(PlacementRow).where(PlacementRow.id == placement_id))
            document = session.get(DocumentRow, (placement_id, _RESULT))
        if row is None:
            return None
        return Record(
            id=row.id,
            state=State(row.state),
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            heartbeat_at=row.heartbeat_at,
            attempt=row.attempt,
            request_digest=row.request_digest,
            time_limit_s=row.time_limit_s,
            result=None if document is None else json.loads(gzip.decompress(document.content)),
            error=row.error,
        )

    def claim_next(self, owner: str, free_slots: int, slots: int) -> Claim | None:
        """Start the oldest queued job, or nothing while it needs more than the free slots.

        Younger, smaller jobs do not overtake it: a stream of them would keep a large one waiting for ever.
        """
        oldest = select(PlacementRow).where(PlacementRow.state == State.QUEUED).order_by(PlacementRow.sequence).limit(1)
        with self._read() as session:  # most looks find nothing, and need no write lock for that
            if session.scalar(oldest) is None:
                return None
        with self._write() as session:
            row = session.scalar(oldest)
            if row is None or min(row.workers, slots) > free_slots:
                return None
            row.state, row.owner, row.attempt = State.RUNNING, owner, row.attempt + 1
            row.started_at = row.started_at or _now()
            row.heartbeat_at = _now()
            document = session.get_one(DocumentRow, (row.id, _REQUEST))
            best = session.get(DocumentRow, (row.id, _RESULT))
            return Claim(
                id=row.id,
                owner=owner,
                attempt=row.attempt,
                spent_s=row.spent_s,
                time_limit_s=min(row.time_limit_s, max(row.time_limit_s - row.spent_s, _LEAST_TIME_S)),
                workers=min(row.workers, slots),
                request=document.content,
                best=None if best is None else best.content,
                objective_value=row.objective_value,
            )

    def heartbeat(self, claim: Claim, elapsed_s: float) -> None:
        """Note that the job is still watched over, and how long this attempt has taken."""
        with self._write() as session:
            self._update(session, claim, heartbeat_at=_now(), spent_s=claim.spent_s + elapsed_s)

    def store_incumbent(self, claim: Claim, result: Mapping[str, Any]) -> None:
        """Keep the best so far, unless an earlier attempt had found a better one."""
        with self._write() as session:
            self._store_best(session, claim, result)

    def finish(
        self,
        claim: Claim,
        state: State,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> None:
        """End the job. Without a ``result`` the best incumbent stays."""
        with self._write() as session:
            self._update(session, claim, state=state, finished_at=_now(), error=error, owner=None)
            if result is not None:
                self._store_result(session, claim.id, result)

    def requeue(self, claim: Claim, best: Mapping[str, Any] | None, elapsed_s: float) -> None:
        """Give the job back in good order: it keeps its place in the queue, and the attempt does not count."""
        with self._write() as session:
            if best is not None:
                self._store_best(session, claim, best)
            spent_s = claim.spent_s + elapsed_s
            self._update(session, claim, state=State.QUEUED, owner=None, attempt=claim.attempt - 1, spent_s=spent_s)

    def recover(self, max_attempts: int, error: Mapping[str, Any]) -> int:
        """Queue what a dead server left running, or fail it after too many attempts; how many jobs that were."""
        left = (
            update(PlacementRow).where(PlacementRow.state == State.RUNNING).execution_options(synchronize_session=False)
        )
        with self._write() as session:
            failed = left.where(PlacementRow.attempt >= max_attempts)
            done = session.execute(failed.values(state=State.FAILED, owner=None, finished_at=_now(), error=dict(error)))
            again = session.execute(left.values(state=State.QUEUED, owner=None))
            return int(done.rowcount + again.rowcount)  # type: ignore[attr-defined]

    def _store_best(self, session: Session, claim: Claim, result: Mapping[str, Any]) -> None:
        stored = session.scalar(select(PlacementRow.objective_value).where(PlacementRow.id == claim.id))
        value = result["objective_value"]
        self._update(session, claim, heartbeat_at=_now())
        if value is not None and (stored is None or value <= stored):
            self._store_result(session, claim.id, result)

    @staticmethod
    def _store_result(session: Session, placement_id: str, result: Mapping[str, Any]) -> None:
        content = gzip.compress(json.dumps(result, allow_nan=False).encode(), compresslevel=1)
        session.merge(DocumentRow(placement_id=placement_id, kind=_RESULT, content=content))
        session.execute(
            update(PlacementRow)
            .where(PlacementRow.id == placement_id)
            .values(objective_value=result["objective_value"], best_bound=result["best_bound"])
        )

    @staticmethod
    def _update(session: Session, claim: Claim, **values: object) -> None:
        mine = (
            (PlacementRow.id == claim.id)
            & (PlacementRow.owner == claim.owner)
            & (PlacementRow.attempt == claim.attempt)
            & PlacementRow.state.in_((State.RUNNING, State.CANCELLING))
        )
        changed = session.execute(update(PlacementRow).where(mine).values(**values))
        if changed.rowcount != 1:  # type: ignore[attr-defined]
            raise ClaimLost(claim.id)

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with Session(self._engine.execution_options(is_read=True), expire_on_commit=False) as session:
            yield session

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session


def _now() -> datetime:
    """UTC without a time zone: SQLite would drop it anyway."""
    return datetime.now(UTC).replace(tzinfo=None)


def _open(url: str, busy_timeout_s: float) -> Engine:
    engine = create_engine(url, connect_args={"timeout": busy_timeout_s})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin below, not where sqlite3 guesses
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        # A write transaction that begins as a read one cannot be promoted once another has written.
        is_read = connection.get_execution_options().get("is_read", False)
        connection.exec_driver_sql("BEGIN" if is_read else "BEGIN IMMEDIATE")

    return engine
