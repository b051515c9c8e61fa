"""The job rows: who may write, what is kept, and that the migrations make the tables the code expects."""

from __future__ import annotations

import gzip
import json

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.schemas import State
from app.storage import Base, ClaimLost, Storage

ERROR = {"type": "urn:x", "title": "x", "status": 500, "detail": "x"}


@pytest.fixture
def storage(tmp_path):
    opened = Storage(f"sqlite:///{tmp_path}/jobs.sqlite3", busy_timeout_s=5)
    opened.migrate()
    yield opened
    opened.close()


def queue(storage, workers=1):
    return storage.create(request=b"request", digest="d", time_limit_s=1, workers=workers)


def best(value, bound=None):
    return {"objective_value": value, "best_bound": bound}


def test_migrations_make_the_tables_of_the_code(storage):
    with storage._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_migrating_again_changes_nothing(storage):
    job = queue(storage)
    storage.migrate()
    assert storage.read(job).state is State.QUEUED


def test_the_oldest_job_comes_first_and_is_not_overtaken(storage):
    large, small = queue(storage, workers=2), queue(storage)
    assert storage.claim_next("me", free_slots=1, slots=2) is None
    assert storage.claim_next("me", free_slots=2, slots=2).id == large
    assert storage.claim_next("me", free_slots=1, slots=2).id == small
    assert storage.claim_next("me", free_slots=1, slots=2) is None


def test_a_job_of_more_workers_than_slots_runs_on_all_slots(storage):
    queue(storage, workers=8)
    assert storage.claim_next("me", free_slots=2, slots=2).workers == 2


def test_an_old_owner_writes_nothing(storage):
    job = queue(storage)
    old = storage.claim_next("old", 1, 1)
    assert storage.recover(3, ERROR) == 1
    new = storage.claim_next("new", 1, 1)
    assert (new.id, new.attempt) == (job, 2)
    storage.store_incumbent(new, best(5.0))
    for write in (
        lambda: storage.heartbeat(old, 1.0),
        lambda: storage.store_incumbent(old, best(1.0)),
        lambda: storage.finish(old, State.SUCCEEDED, result=best(1.0)),
        lambda: storage.finish(old, State.FAILED, error=ERROR),
        lambda: storage.requeue(old, best(1.0), 1.0),
    ):
        with pytest.raises(ClaimLost):
            write()
    record = storage.read(job)
    assert record.state is State.RUNNING
    assert record.result == best(5.0)
    storage.finish(new, State.SUCCEEDED, result=best(4.0))
    with pytest.raises(ClaimLost):
        storage.finish(new, State.FAILED, error=ERROR)


def test_a_worse_incumbent_does_not_replace_a_better_one(storage):
    job = queue(storage)
    claim = storage.claim_next("me", 1, 1)
    for value, bound in ((5.0, 1.0), (6.0, 1.0), (5.0, 2.0), (None, 3.0)):
        storage.store_incumbent(claim, best(value, bound))
    assert storage.read(job).result == best(5.0, 2.0)
    storage.finish(claim, State.FAILED, error=ERROR)
    assert storage.read(job).result == best(5.0, 2.0)
    assert storage.read(job).error == ERROR


def test_a_job_given_back_keeps_its_place_and_its_attempts(storage):
    first, _second = queue(storage), queue(storage)
    claim = storage.claim_next("me", 2, 2)
    storage.requeue(claim, best(5.0), 0.25)
    again = storage.claim_next("me", 2, 2)
    assert (again.id, again.attempt) == (first, 1)
    assert storage.read(first).result == best(5.0)
    assert (again.time_limit_s, again.objective_value) == (1, 5.0)  # the least there is
    assert json.loads(gzip.decompress(again.best)) == best(5.0)


def test_the_next_attempt_gets_what_is_left_of_the_time(storage):
    storage.create(request=b"request", digest="d", time_limit_s=30, workers=1)
    claim = storage.claim_next("me", 1, 1)
    assert (claim.time_limit_s, claim.best, claim.objective_value) == (30, None, None)
    storage.heartbeat(claim, 12.0)
    storage.recover(3, ERROR)
    claim = storage.claim_next("me", 1, 1)
    assert claim.time_limit_s == 18
    storage.requeue(claim, None, 17.5)
    assert storage.claim_next("me", 1, 1).time_limit_s == 1


def test_too_many_attempts_fail(storage):
    job = queue(storage)
    for attempt in (1, 2, 3):
        assert storage.claim_next(f"server {attempt}", 1, 1).attempt == attempt
        storage.recover(3, ERROR)
    assert storage.claim_next("server 4", 1, 1) is None
    record = storage.read(job)
    assert record.state is State.FAILED
    assert record.error == ERROR
