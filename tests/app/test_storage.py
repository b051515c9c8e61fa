"""The job rows: who may write, what is kept, who sees them; and that the migrations make the tables of the code."""

from __future__ import annotations

import gzip
import json
import threading
import time

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import func, select, text

from app import database as database_module
from app.auth.allowance import Allowance, QuotaExceeded
from app.database import Database
from app.leases import LeaseLost, LeaseStore
from app.placement_records import (
    AlreadyFinished,
    KeyInFlight,
    KeyReused,
    NewPlacement,
    NoFreeSlots,
    NotFinished,
    PlacementNotFound,
    StartNotUsable,
)
from app.placements import PlacementStore
from app.schemas import CancelMode, State
from app.tables import Base, DeliveryRow, UsageRow
from tests.app.postgres_server import running_postgres

ERROR = {"type": "urn:x", "title": "x", "status": 500, "detail": "x"}
VERSIONS = "placewright=1"


class Store:
    """Both sides of the rows, and short words for what the tests do over and over."""

    def __init__(self, database, lease_s=30):
        self.database = database
        self.clients = PlacementStore(database, dispatcher_timeout_s=lease_s)
        self.leases = LeaseStore(database, lease_s=lease_s, max_log_bytes=10)

    def queue(self, workers=1, tenant="default", **fields):
        fields = {"digest": "d", "fingerprint": "f", "time_limit_s": 30, "request": b"request"} | fields
        placement_id, is_new = self.clients.create(NewPlacement(tenant=tenant, workers=workers, **fields))
        assert is_new
        return placement_id

    def lease(self, owner="me", free=1, slots=None, versions=VERSIONS):
        return self.leases.lease_next(owner, free, slots or free, versions)

    def read(self, placement_id, tenant="default"):
        return self.clients.read(tenant, placement_id)

    def state(self, placement_id):
        return self.read(placement_id).summary.state

    def events(self, placement_id, after=0, kind=None):
        return self.clients.list_events("default", placement_id, after=after, limit=1000, kind=kind)

    def age_leases(self):
        with self.database.write() as session:
            session.execute(text("UPDATE placements SET lease_until = '2000-01-01 00:00:00.000000'"))


@pytest.fixture(scope="module")
def postgres():
    with running_postgres() as make_database:
        yield make_database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.scale_out)])
def database(request, tmp_path):
    is_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/jobs.sqlite3" if is_file else request.getfixturevalue("postgres")()
    opened = Database(url, busy_timeout_s=5)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def store(database):
    return Store(database)


def best(value, bound=None, **fields):
    return {"objective_value": value, "best_bound": bound, "stop_reason": None, "placement": {"a": "gpu"}} | fields


def step(value, bound=None):
    return {"elapsed_s": 0.5, "objective_value": value, "best_bound": bound, "found_by": "test"}


def test_migrations_make_the_tables_of_the_code(database):
    with database._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        if not database.is_shared:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_migrating_again_changes_nothing(store):
    job = store.queue()
    store.database.migrate()
    assert store.state(job) is State.QUEUED


def change_version(database, change, revision):
    config = Config()
    config.set_main_option("script_location", str(database_module._MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with database._engine.begin() as connection:
        config.attributes["connection"] = connection
        change(config, revision)


def test_a_database_of_the_first_version_keeps_its_jobs(tmp_path):
    old = Database(f"sqlite:///{tmp_path}/old.sqlite3", busy_timeout_s=5)
    change_version(old, command.upgrade, "0001")
    columns = "id, state, created_at, attempt, time_limit_s, workers, request_digest, objective_value"
    result = gzip.compress(json.dumps(best(5.0)).encode())
    with old.write() as session:
        for name, state in (("done", "succeeded"), ("waiting", "queued"), ("left", "running")):
            values = f"'{name}', '{state}', '2026-01-01 00:00:00.000000', 1, 30, 1, 'd', 5.0"
            session.execute(text(f"INSERT INTO placements ({columns}) VALUES ({values})"))
            documents = "INSERT INTO documents (placement_id, kind, content) VALUES (:id, :kind, :content)"
            session.execute(text(documents), {"id": name, "kind": "request", "content": b"request"})
            session.execute(text(documents), {"id": name, "kind": "result", "content": result})
    old.migrate()
    with old._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    store = Store(old)
    assert store.read("done").result == best(5.0)
    assert [job.id for job in store.clients.list_newest("default", state=None, tag=None, limit=9, before=None)[0]] == [
        "left",
        "waiting",
        "done",
    ]
    assert store.leases.recover(3, ERROR, everything=True) == ["left"]
    assert [store.lease().id, store.lease().id] == ["waiting", "left"]
    old.close()


def test_the_oldest_job_comes_first_and_is_not_overtaken(store):
    large, small = store.queue(workers=2), store.queue()
    assert store.lease(free=1, slots=2) is None
    assert store.lease(free=2).id == large
    assert store.lease(free=1, slots=2).id == small
    assert store.lease() is None


def test_the_queue_goes_by_priority_then_by_age(store):
    jobs = [store.queue(priority=priority) for priority in (0, 5, -3, 5, 0)]
    positions = [store.clients.read_summary("default", job).queue_position for job in jobs]
    assert positions == [2, 0, 4, 1, 3]
    order = [store.lease().id for _ in jobs]
    assert order == [jobs[i] for i in (1, 3, 0, 4, 2)]


def test_no_solve_gets_more_than_the_largest_live_dispatcher_has(store):
    assert store.clients.count_most_slots() == 0
    for name, slots in (("small", 2), ("large", 16), ("dead", 64)):
        store.leases.announce(name, "local", slots)
    store.leases.sign_off("dead")
    assert store.clients.count_most_slots() == 16
    assert store.clients.count_slots() == 18


def test_a_job_of_more_workers_than_slots_runs_on_all_slots(store):
    store.queue(workers=8)
    assert store.lease(free=2).workers == 2


def test_an_old_owner_writes_nothing(store):
    job = store.queue()
    old = store.lease("old")
    store.age_leases()
    assert store.leases.recover(3, ERROR) == [job]
    new = store.lease("new")
    assert (new.id, new.attempt) == (job, 2)
    assert new.fence > old.fence
    store.leases.record_progress(new, [step(5.0)], best(5.0))
    for write in (
        lambda: store.leases.record_progress(old, [step(1.0)], best(1.0)),
        lambda: store.leases.append_log(old, b"x"),
        lambda: store.leases.finish(old, State.SUCCEEDED, 1.0, result=best(1.0)),
        lambda: store.leases.finish(old, State.FAILED, 1.0, error=ERROR),
        lambda: store.leases.requeue(old, best(1.0), 1.0, counts=False),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert store.leases.renew({old: 1.0, new: 1.0}) == {old}
    assert store.state(job) is State.RUNNING
    assert store.read(job).result["objective_value"] == 5.0
    store.leases.finish(new, State.SUCCEEDED, 1.0, result=best(4.0))
    with pytest.raises(LeaseLost):
        store.leases.finish(new, State.FAILED, 1.0, error=ERROR)


def test_the_same_owner_on_its_second_lease_cannot_be_confused_with_its_first(store):
    store.queue()
    old = store.lease("me")
    store.leases.requeue(old, None, 0.0, counts=False)
    new = store.lease("me")
    assert (new.owner, new.attempt) == (old.owner, old.attempt)
    with pytest.raises(LeaseLost):
        store.leases.finish(old, State.FAILED, 0.0, error=ERROR)


def test_a_lease_that_is_renewed_is_not_taken_over(store):
    store.queue()
    lease = store.lease()
    store.age_leases()
    assert store.leases.renew({lease: 1.0}) == set()
    assert store.leases.recover(3, ERROR) == []


def test_a_worse_incumbent_does_not_replace_a_better_one(store):
    job = store.queue()
    lease = store.lease()
    for value, bound in ((5.0, 1.0), (6.0, 1.0), (5.0, 2.0), (None, 3.0)):
        store.leases.record_progress(lease, [step(value, bound)], best(value, bound))
    result = store.read(job).result
    assert (result["objective_value"], result["best_bound"], result["relative_gap"]) == (5.0, 3.0, 0.4)
    store.leases.finish(lease, State.FAILED, 1.0, error=ERROR)
    assert store.read(job).result["objective_value"] == 5.0
    assert store.read(job).summary.error == ERROR


def test_events_are_numbered_without_gaps_and_end_with_the_end(store):
    job = store.queue()
    lease = store.lease()
    store.leases.record_progress(lease, [step(5.0), step(4.0)], best(4.0))
    store.leases.requeue(lease, None, 1.0, counts=True)
    store.leases.finish(store.lease(), State.SUCCEEDED, 1.0, result=best(3.0))
    events = store.events(job)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.kind for event in events] == ["state"] * 2 + ["incumbent"] * 2 + ["state"] * 3 + ["end"]
    assert [event.data["objective_value"] for event in store.events(job, kind="incumbent")] == [5.0, 4.0]
    assert events[-1].data["objective_value"] == 3.0
    assert store.events(job, after=len(events) - 1) == events[-1:]
    assert store.clients.count_events([job, "ghost"]) == {job: len(events)}


def test_a_job_given_back_keeps_its_place_and_its_attempts(store):
    first, _second = store.queue(time_limit_s=1), store.queue()
    lease = store.lease()
    store.leases.requeue(lease, best(5.0), 0.25, counts=False)
    again = store.lease()
    assert (again.id, again.attempt) == (first, 1)
    assert store.read(first).result["objective_value"] == 5.0
    assert (again.time_limit_s, again.objective_value) == (1, 5.0)  # the least there is
    assert json.loads(gzip.decompress(again.best)) == best(5.0)


def test_the_next_attempt_gets_what_is_left_of_the_time(store):
    store.queue()
    lease = store.lease()
    assert (lease.time_limit_s, lease.best, lease.objective_value) == (30, None, None)
    store.leases.renew({lease: 12.0})
    store.leases.recover(3, ERROR, everything=True)
    lease = store.lease()
    assert lease.time_limit_s == 18
    store.leases.requeue(lease, None, 17.5, counts=True)
    lease = store.lease()
    assert (lease.time_limit_s, lease.attempt) == (1, 3)


def test_only_the_same_versions_build_on_a_bound(store):
    store.queue()
    lease = store.lease()
    store.leases.record_progress(lease, [step(5.0, 2.0)], best(5.0, 2.0))
    store.leases.requeue(lease, None, 1.0, counts=False)
    lease = store.lease()
    assert lease.best_bound == 2.0
    store.leases.requeue(lease, None, 1.0, counts=False)
    lease = store.lease(versions="placewright=2")
    assert lease.best_bound is None
    assert lease.objective_value == 5.0


def test_too_many_attempts_fail(store):
    job = store.queue()
    for attempt in (1, 2, 3):
        assert store.lease(f"server {attempt}").attempt == attempt
        store.age_leases()
        store.leases.recover(3, ERROR)
    assert store.lease() is None
    assert store.state(job) is State.FAILED
    assert store.read(job).summary.error == ERROR


def test_tenants_do_not_see_each_other(store):
    mine, theirs = store.queue(tenant="mine", tags=("x",)), store.queue(tenant="theirs", tags=("x",))
    for tenant, own, other in (("mine", mine, theirs), ("theirs", theirs, mine)):
        assert store.read(own, tenant).summary.id == own
        listed, _ = store.clients.list_newest(tenant, state=None, tag="x", limit=9, before=None)
        assert [job.id for job in listed] == [own]
        for use in (
            store.clients.read,
            store.clients.read_summary,
            lambda t, p: store.clients.cancel(t, p, CancelMode.DISCARD),
            store.clients.delete,
            lambda t, p: store.clients.list_events(t, p, after=0, limit=9),
            lambda t, p: store.clients.read_log(t, p, from_byte=0, max_bytes=9),
        ):
            with pytest.raises(PlacementNotFound):
                use(tenant, other)
        with pytest.raises(StartNotUsable):
            store.queue(tenant=tenant, warm_start=other)


def test_a_key_leads_to_the_first_job_of_its_tenant(store):
    def create(tenant="default", fingerprint="f", answering_s=0.0):
        new = NewPlacement(
            tenant=tenant,
            request=b"",
            digest="d",
            fingerprint=fingerprint,
            time_limit_s=1,
            workers=1,
            idempotency_key="key",
            answering_s=answering_s,
        )
        return store.clients.create(new)

    first, is_new = create()
    assert is_new
    assert create() == (first, False)
    with pytest.raises(KeyReused):
        create(fingerprint="other")
    other, is_new = create(tenant="other")
    assert is_new
    assert other != first
    create(answering_s=30.0)
    with pytest.raises(KeyInFlight):
        create()
    store.clients.set_answering(first, 0)
    assert create() == (first, False)


def test_many_requests_with_one_key_make_one_job(store):
    ids = []

    def create():
        ids.append(store.clients.create(NewPlacement(**fields))[0])

    fields = {"tenant": "default", "request": b"", "digest": "d", "fingerprint": "f", "time_limit_s": 1, "workers": 1}
    fields["idempotency_key"] = "key"
    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_a_job_that_must_not_wait_needs_a_free_slot(store):
    with pytest.raises(NoFreeSlots):
        store.queue(max_wait_s=0)  # nobody runs jobs
    store.leases.announce("dispatcher", "local", 2)
    store.queue(max_wait_s=0)
    store.queue(max_wait_s=0)
    with pytest.raises(NoFreeSlots):
        store.queue(max_wait_s=0)
    store.queue()
    store.leases.sign_off("dispatcher")
    assert store.clients.count_slots() == 0


def test_a_job_that_has_waited_too_long_expires(store):
    job, patient = store.queue(max_wait_s=0.01), store.queue(max_wait_s=100)
    time.sleep(0.05)
    assert store.leases.expire(ERROR) == [job]
    assert store.state(job) is State.EXPIRED
    assert store.events(job)[-1].kind == "end"
    assert store.state(patient) is State.QUEUED


def test_a_job_given_back_waits_as_long_as_it_takes(store):
    job = store.queue(max_wait_s=0.01)
    store.leases.requeue(store.lease(), best(5.0), 1.0, counts=False)  # as at an orderly stop
    time.sleep(0.05)
    assert store.leases.expire(ERROR) == []
    assert store.state(job) is State.QUEUED


def test_cancelling_a_queued_job_ends_it(store):
    job = store.queue()
    store.clients.cancel("default", job, CancelMode.KEEP_BEST)
    store.clients.cancel("default", job, CancelMode.KEEP_BEST)
    assert store.state(job) is State.CANCELLED
    assert store.lease() is None


@pytest.mark.parametrize("mode", CancelMode)
@pytest.mark.parametrize("ending", ["result", "death", "shutdown", "lost"])
def test_however_a_cancelled_job_ends_it_is_cancelled_as_was_asked(store, mode, ending):
    job = store.queue()
    lease = store.lease("owner")
    store.leases.record_progress(lease, [step(5.0)], best(5.0, 1.0))
    store.clients.cancel("default", job, mode)
    assert store.state(job) is State.CANCELLING  # until its process is gone
    assert store.leases.list_cancelled("owner") == {job: mode}
    if ending == "result":
        store.leases.finish(lease, State.CANCELLED, 1.0, result=best(5.0, 1.0))
    elif ending == "death":
        store.leases.finish(lease, State.FAILED, 1.0, error=ERROR)
    elif ending == "shutdown":
        store.leases.requeue(lease, best(5.0, 1.0), 1.0, counts=False)
    else:
        store.leases.recover(3, ERROR, everything=True)
    record = store.read(job)
    assert record.summary.state is State.CANCELLED
    if mode is CancelMode.DISCARD:
        assert record.result is None
        assert record.summary.objective_value is None
    else:
        assert record.result["objective_value"] == 5.0
        assert record.result["stop_reason"] == "cancelled"


def test_what_has_ended_cannot_be_cancelled(store):
    job = store.queue()
    store.leases.finish(store.lease(), State.SUCCEEDED, 1.0, result=best(4.0))
    with pytest.raises(AlreadyFinished, match="succeeded"):
        store.clients.cancel("default", job, CancelMode.DISCARD)


def test_only_what_has_ended_can_be_deleted_and_then_everything_of_it_goes(store):
    job = store.queue(tags=("x",), webhook_url="https://example.com/")
    with pytest.raises(NotFinished):
        store.clients.delete("default", job)
    lease = store.lease()
    store.leases.append_log(lease, b"x")
    store.leases.finish(lease, State.SUCCEEDED, 1.0, result=best(4.0))
    with store.database.read() as session:
        assert session.scalar(select(DeliveryRow.kind)) == "placement.succeeded"
    store.clients.delete("default", job)
    with pytest.raises(PlacementNotFound):
        store.read(job)
    with store.database.read() as session:
        for table in set(Base.metadata.sorted_tables) - {UsageRow.__table__}:
            assert session.scalar(select(text("count(*)")).select_from(table)) == 0, table


def test_old_jobs_are_forgotten(store):
    old, waiting = store.queue(), store.queue()
    store.leases.finish(store.lease(), State.SUCCEEDED, 1.0, result=best(4.0))
    time.sleep(0.02)
    assert store.leases.forget(3600) == 0
    assert store.leases.forget(0.01) == 1
    with pytest.raises(PlacementNotFound):
        store.read(old)
    assert store.state(waiting) is State.QUEUED


def test_what_a_key_has_used_counts_for_a_day_whatever_becomes_of_its_jobs(store):
    frugal = {"key_id": "frugal", "time_limit_s": 85, "allowance": Allowance(cpu_seconds_per_day=100)}
    deleted, _forgotten = store.queue(**frugal), store.queue(key_id="frugal", time_limit_s=85)
    for _ in range(2):
        store.leases.finish(store.lease(), State.SUCCEEDED, 10.0, result=best(4.0))
    store.clients.delete("default", deleted)
    time.sleep(0.02)
    assert store.leases.forget(0.01) == 1
    with pytest.raises(QuotaExceeded, match="used or reserved 20 CPU-seconds"):
        store.queue(**frugal)
    store.queue(**frugal | {"key_id": "another"})
    store.leases.forget_usage()
    with store.database.write() as session:
        assert session.scalar(select(func.count(UsageRow.placement_id))) == 2
        session.execute(text("UPDATE usages SET finished_at = '2000-01-01 00:00:00.000000'"))
    store.queue(**frugal)
    store.leases.forget_usage()
    with store.database.read() as session:
        assert session.scalar(select(func.count(UsageRow.placement_id))) == 0


def test_what_a_key_used_under_the_version_before_goes_on_counting(store):
    store.queue(key_id="key")
    store.leases.finish(store.lease(), State.SUCCEEDED, 10.0, result=best(4.0))
    with store.database.read() as session:
        [before] = session.execute(select(*UsageRow.__table__.columns)).all()
    change_version(store.database, command.downgrade, "0004")
    store.database.migrate()
    with store.database.read() as session:
        assert session.execute(select(*UsageRow.__table__.columns)).all() == [before]


def test_a_log_is_read_from_any_byte_and_ends_at_its_limit(store):
    job = store.queue()
    lease = store.lease()
    for piece in (b"one ", b"two ", b"three"):
        store.leases.append_log(lease, piece)

    def read(from_byte, max_bytes=100):
        return store.clients.read_log("default", job, from_byte=from_byte, max_bytes=max_bytes)

    assert read(0) == (b"one two th", 10)
    assert read(2, 4) == (b"e tw", 10)
    assert read(10) == (b"", 10)


def test_a_list_goes_on_where_the_last_page_ended(store):
    jobs = [store.queue(tags=("even",) if i % 2 == 0 else ("odd", "x")) for i in range(5)]
    page, cursor = store.clients.list_newest("default", state=State.QUEUED, tag=None, limit=3, before=None)
    rest, end = store.clients.list_newest("default", state=State.QUEUED, tag=None, limit=3, before=cursor)
    assert [job.id for job in page + rest] == jobs[::-1]
    assert end is None
    assert page[1].tags == ("odd", "x")
    odd, _ = store.clients.list_newest("default", state=None, tag="odd", limit=9, before=None)
    assert [job.id for job in odd] == [jobs[3], jobs[1]]


def test_a_job_starts_from_an_earlier_placement(store):
    first = store.queue()
    with pytest.raises(StartNotUsable):
        store.queue(warm_start=first)  # nothing found yet
    store.leases.finish(store.lease(), State.SUCCEEDED, 1.0, result=best(4.0))
    store.queue(warm_start=first)
    lease = store.lease()
    assert json.loads(gzip.decompress(lease.best)) == {"placement": {"a": "gpu"}}
    assert (lease.objective_value, lease.best_bound) == (None, None)
