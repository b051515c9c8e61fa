"""The database: opening, transactions, migrations and its clock.

SQLite in WAL mode by default: readers never wait, writers queue up for the busy timeout. PostgreSQL, by address, when
several processes share the jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine, event, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 5_067_224
"""Of PostgreSQL's advisory locks; any number does that nothing else takes."""
OUTAGES = (OperationalError, InternalError, PoolTimeout)
"""What a database raises that is away, full or read-only, and may soon be well again."""
_IDLE_MS = 5000
"""How long a transaction may be open with nothing going on in it."""


class Database:
    """One database. Safe to use from many threads."""

    def __init__(self, url: str, busy_timeout_s: float) -> None:
        address = driver_url(url)
        self.is_shared = address.get_backend_name() != "sqlite"
        """Whether several processes may run jobs of it."""
        self._engine = (_open_postgresql if self.is_shared else _open_sqlite)(address, busy_timeout_s)
        self._reading = self._engine.execution_options(is_read=True)

    @property
    def name(self) -> str:
        """For messages: the file, or the address without the password."""
        url = self._engine.url
        return url.render_as_string(hide_password=True) if self.is_shared else str(url.database)

    def migrate(self) -> None:
        """Bring the schema to the newest version.

        Raises:
            OSError: the database cannot be reached or written, is none, or is of a newer version.
        """
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        try:
            with self._engine.begin() as connection:
                if self.is_shared:  # several processes may start at once
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except (DBAPIError, CommandError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise OSError(f"cannot use the database {self.name}: {reason}") from error

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def ping(self) -> None:
        """Raise if the database does not answer, or has no jobs table."""
        with self.read() as session:
            session.execute(text("SELECT count(*) FROM placements WHERE sequence = 0"))

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that writes nothing."""
        with Session(self._reading, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is committed at the end of the block."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.connection()  # begins it: what the caller takes the time for, it does alone
            yield session

    def take_turn(self, session: Session, name: str) -> None:
        """Until the transaction ends, let other transactions that take their turn under this name wait."""
        if self.is_shared:  # writers of a SQLite file come one after the other anyway
            session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))

    def now(self, session: Session) -> datetime:
        """The time by the one clock that everybody who shares the database has."""
        if self.is_shared:
            moment: datetime = session.execute(text("SELECT timezone('utc', clock_timestamp())")).scalar_one()
            return moment
        return datetime.now(UTC).replace(tzinfo=None)


def log_failure(log: logging.Logger, message: str, error: Exception, **names: object) -> None:
    """Log a failure: a line for an outage of the database, which comes over and over; else with its traceback."""
    if isinstance(error, OUTAGES):
        reason = str(error.orig if isinstance(error, DBAPIError) else error).strip().partition("\n")[0]
        log.warning("%s: %s", message, reason, extra=names)
    else:
        log.error("%s", message, exc_info=error, extra=names)


def driver_url(url: str) -> URL:
    """The address with the driver that this service uses. Raises :class:`ValueError` for other databases."""
    address = make_url(url)
    backend = address.get_backend_name()
    if backend == "postgresql" and address.database:
        return address.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and address.database not in (None, "", ":memory:"):
        return address
    raise ValueError("neither a SQLite file nor a PostgreSQL database")


def _open_postgresql(url: URL, timeout_s: float) -> Engine:
    return create_engine(
        url,
        pool_size=10,
        max_overflow=40,
        pool_timeout=timeout_s,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": max(1, round(timeout_s)),
            "application_name": "placewright",
            "client_encoding": "utf8",  # also of a database in SQL_ASCII, which otherwise answers with bytes
            # A process that is paused inside a transaction must not keep its rows from whoever takes them over.
            "options": f"-c idle_in_transaction_session_timeout={_IDLE_MS} -c lock_timeout={round(timeout_s * 1000)}",
        },
    )


def _open_sqlite(url: URL, busy_timeout_s: float) -> Engine:
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
