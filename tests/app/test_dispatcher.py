"""The dispatcher with an engine that does as it is told: getting ready, and a database that goes away."""

from __future__ import annotations

import logging
import sys
import threading
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app import running_job, supervision
from app.database import Database
from app.dispatcher import Dispatcher
from app.engines import Outcome
from app.engines.local import LocalEngine
from app.leases import LeaseStore
from app.metrics import Metrics
from app.placement_records import NewPlacement
from app.placements import PlacementStore
from app.problems import describe
from app.schemas import State
from app.settings import Settings
from tests.patience import PATIENCE_S, wait_until

NEW = NewPlacement(tenant="default", request=b"", digest="d", time_limit_s=1, workers=1, fingerprint="f")


class Engine:
    name = "told"

    def __init__(self):
        self.is_warm, self.was_stopped, self.has_run = threading.Event(), threading.Event(), threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def start(self):
        pass

    def warm_up(self, stopping):
        while not self.is_warm.wait(0.01):
            if stopping.is_set():
                return

    def count_slots(self):
        return 1

    def run(self, _task, watch):
        watch.note_start()
        self.has_run.set()
        self.may_end.wait(PATIENCE_S)
        return Outcome(None, describe("solver-defect", "it has no solver"))

    def stop(self):
        self.was_stopped.set()


@pytest.fixture
def parts(tmp_path):
    url = f"sqlite:///{tmp_path}/jobs.sqlite3"
    database, engine = Database(url, busy_timeout_s=5), Engine()
    database.migrate()
    placements = PlacementStore(database, dispatcher_timeout_s=30)
    leases = LeaseStore(database, lease_s=30)
    leases.announce("killed a moment ago", "told", slots=8)
    settings = Settings(database_url=url, slots=1, lease_s=2, heartbeat_interval_s=0.1)
    dispatcher = Dispatcher(leases, engine, settings, Metrics(placements.read_queue))
    dispatcher.start(is_alone=True)
    yield dispatcher, engine, placements
    dispatcher.stop()
    assert engine.was_stopped.is_set()
    database.close()


def test_nothing_is_started_before_it_can_be_without_delay(parts):
    dispatcher, engine, placements = parts
    placements.create(NEW)
    dispatcher.wake()
    assert not engine.has_run.wait(0.2)
    assert not dispatcher.is_alive
    assert placements.count_slots() == 0
    engine.is_warm.set()
    assert engine.has_run.wait(PATIENCE_S)
    assert wait_until(lambda: dispatcher.is_alive)
    assert placements.count_slots() == 1


def test_a_dispatcher_that_cannot_write_is_not_ready(parts, monkeypatch, caplog):
    dispatcher, engine, _ = parts
    engine.is_warm.set()
    assert wait_until(lambda: dispatcher.is_alive)

    def fail(*_):
        raise OperationalError("INSERT", {}, Exception("database or disk is full\nand much more"))

    with monkeypatch.context() as broken:
        broken.setattr(LeaseStore, "announce", fail)
        assert wait_until(lambda: not dispatcher.is_alive)
    assert wait_until(lambda: dispatcher.is_alive)
    failures = [record for record in caplog.records if "disk is full" in record.getMessage()]
    assert failures
    assert all(record.exc_info is None and "\n" not in record.getMessage() for record in failures), "a line each"


def test_an_outage_that_outlasts_the_lease_does_not_cost_the_end_of_a_solve(parts, monkeypatch):
    _, engine, placements = parts
    monkeypatch.setattr(running_job, "_WRITE_DELAYS_S", (0.01,))
    engine.may_end.clear()
    engine.is_warm.set()
    job, _ = placements.create(NEW)
    assert engine.has_run.wait(PATIENCE_S)
    fails = {"renew": [], "finish": []}

    def failing(name):
        def fail(*_, **__):
            fails[name].append(name)
            raise OperationalError("UPDATE", {}, Exception("database or disk is full"))

        return fail

    with monkeypatch.context() as broken:
        for name in fails:
            broken.setattr(LeaseStore, name, failing(name))
        engine.may_end.set()
        with placements._database.write() as session:
            session.execute(text("UPDATE placements SET lease_until = '2000-01-01 00:00:00.000000'"))
        assert wait_until(lambda: all(len(calls) > 5 for calls in fails.values()))
        assert placements.read_summary("default", job).state is State.RUNNING
    assert wait_until(lambda: placements.read_summary("default", job).state.is_terminal)
    summary = placements.read_summary("default", job)
    assert (summary.attempt, summary.error["type"]) == (1, "urn:placewright:problem:solver-defect")


def test_the_log_names_what_has_expired(parts, caplog):
    _, engine, placements = parts
    caplog.set_level(logging.INFO)
    engine.may_end.clear()
    engine.is_warm.set()
    placements.create(NEW)  # takes the only slot
    assert engine.has_run.wait(PATIENCE_S)
    waiting, _ = placements.create(replace(NEW, max_wait_s=0.01))
    assert wait_until(lambda: placements.read_summary("default", waiting).state is State.EXPIRED)
    engine.may_end.set()

    def list_expired():
        return [record.placement for record in caplog.records if record.getMessage() == "expired in the queue"]

    assert wait_until(list_expired) == [waiting]


def test_a_dispatcher_that_gets_ready_can_be_stopped(parts):
    dispatcher, _, placements = parts
    dispatcher.stop()
    assert placements.count_slots() == 0


def test_getting_ready_is_tried_until_it_succeeds(monkeypatch):
    monkeypatch.setattr(supervision, "_REHEARSAL_INTERVAL_S", 0.01)
    process, tries = supervision._context.Process, []

    def start(*arguments, **options):
        tries.append(options)
        if len(tries) < 3:
            raise OSError("no processes left")
        return process(*arguments, **options)

    monkeypatch.setattr(supervision._context, "Process", start)
    LocalEngine(slots=1).warm_up(threading.Event())
    assert len(tries) == 3


def test_a_process_that_dies_while_getting_ready_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(supervision, "_REHEARSAL_INTERVAL_S", 0.01)
    process, targets = supervision._context.Process, [int, partial(sys.exit, 3)]
    monkeypatch.setattr(supervision._context, "Process", lambda **_: process(target=targets.pop()))
    LocalEngine(slots=1).warm_up(threading.Event())
    assert not targets
    assert "with code 3" in caplog.text


def test_getting_ready_ends_when_the_service_stops(monkeypatch):
    waits = threading.Event()
    monkeypatch.setattr(supervision, "_process_table", _Taken(waits))
    stopping = threading.Event()
    threading.Timer(0.2, stopping.set).start()
    LocalEngine(slots=1).warm_up(stopping)
    [rehearsal] = [thread for thread in threading.enumerate() if thread.name == "rehearsal"]
    assert rehearsal.is_alive(), "it was not waited for"
    waits.set()
    rehearsal.join(PATIENCE_S)


class _Taken:
    """A lock that is free only once the event is set."""

    def __init__(self, event):
        self._event = event

    def __enter__(self):
        self._event.wait(PATIENCE_S)

    def __exit__(self, *_):
        pass
