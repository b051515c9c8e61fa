"""The parts of a running service, put together: the database, what is kept in it, and who runs the jobs."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from app.bell import Bell
from app.courier import Courier
from app.database import Database
from app.dispatcher import Dispatcher
from app.engines import Engine
from app.engines.local import LocalEngine
from app.leases import LeaseStore
from app.metrics import Metrics
from app.placements import PlacementStore
from app.settings import Settings
from app.waiting import Waiting


class DatabaseInUse(OSError):
    """Another server runs the jobs of this database."""


class Runtime:
    """Everything between the routes and the database. A SQLite file has one of these at a time: its lock says so."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database_url, settings.database_busy_timeout_s)
        self._bell = Bell()
        self.placements = PlacementStore(
            self.database,
            dispatcher_timeout_s=settings.lease_s,
            max_queued=settings.max_queued,
            on_change=self._note_change,
        )
        self.metrics = Metrics(self.placements.read_queue)
        self.waiting = Waiting(self.placements, self._bell, is_shared=self.database.is_shared)
        self.dispatcher = self._make_dispatcher() if settings.run_dispatcher else None
        self._courier = self._make_courier() if settings.run_dispatcher else None
        self._lock_file: int | None = None
        self._has_database = False

    def take_database(self) -> None:
        """Lock the database, if it is a file, and bring its schema up to date, unless that was done.

        Raises:
            DatabaseInUse: another live server has it.
            OSError: it cannot be used; in a sentence for the operator.
        """
        if self._has_database:
            return
        path = self.settings.database_path
        if path is not None:
            self._lock(path)
        try:
            self.database.migrate()
        except BaseException:
            self._unlock()
            raise
        self._has_database = True

    def start(self) -> None:
        """Take over the jobs of the database and begin to run them. Raises what :meth:`take_database` raises."""
        self.take_database()
        if self.dispatcher is not None:
            self.dispatcher.start(is_alone=not self.database.is_shared)
        if self._courier is not None:
            self._courier.start()

    def begin_stop(self) -> None:
        """Start no more solves, interrupt the running ones, and let every waiting request go."""
        if self.dispatcher is not None:
            self.dispatcher.begin_stop()
        self.waiting.begin_stop()

    def stop(self) -> None:
        """Return once no solve runs any more."""
        self.begin_stop()
        if self.dispatcher is not None:
            self.dispatcher.stop()
        if self._courier is not None:
            self._courier.stop()
        self.database.close()
        self._unlock()

    @property
    def solves_jobs(self) -> bool:
        """Whether some dispatcher, here or elsewhere, starts queued jobs. Asks the database unless it is our own."""
        if self.waiting.is_stopping:
            return False
        if self.dispatcher is not None:
            return self.dispatcher.is_alive
        return self.placements.count_slots() > 0

    def count_most_slots(self) -> int:
        """Slots that one solve can have: here, or where the jobs of a shared database are run."""
        largest = self.placements.count_most_slots() if self.database.is_shared else 0
        return largest or self.settings.slots

    def _note_change(self, placement_id: str) -> None:
        self._bell.ring(placement_id)
        if self.dispatcher is not None:
            self.dispatcher.wake()

    def _make_dispatcher(self) -> Dispatcher:
        settings = self.settings
        leases = LeaseStore(
            self.database,
            lease_s=settings.lease_s,
            max_log_bytes=settings.max_log_bytes,
            on_change=self._bell.ring,
        )
        return Dispatcher(leases, make_engine(settings), settings, self.metrics)

    def _make_courier(self) -> Courier | None:
        secret = self.settings.webhook_secret
        if secret is None:
            return None
        return Courier(self.database, secret, may_be_private=self.settings.webhook_allow_private)

    def _lock(self, path: Path) -> None:
        lock_path = path.with_name(path.name + ".lock")
        try:
            self._lock_file = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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


def make_engine(settings: Settings) -> Engine:
    """The engine that the settings name. Raises :class:`OSError` when its packages are not installed."""
    if settings.engine == "ray":
        try:
            from app.engines.ray import RayEngine  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise OSError("the engine ray needs more packages: pip install 'placewright[service,ray]'") from error
        # A cluster may give a solve memory of its own, but only the operator knows how much a node has.
        memory_bytes = settings.memory_limit_bytes if "memory_limit_bytes" in settings.model_fields_set else None
        return RayEngine(settings.ray_address, memory_bytes)
    return LocalEngine(settings.slots)
