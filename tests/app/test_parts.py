"""Small parts without a server."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from anyio import to_thread
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError, ProgrammingError

from app import running_job
from app.bell import Bell
from app.engines import Outcome, StopCause
from app.leases import Lease
from app.preferences import Preferences, parse_preferences
from app.problems import describe
from app.running_job import RunningJob
from app.schemas import State
from app.settings import Settings, count_cores, find_misspelt, measure_memory
from app.waiting import ANSWERING_S, Waiting
from tests.patience import PATIENCE_S, wait_until


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Preferences()),
        (["respond-async"], Preferences(respond_async=True)),
        (["Respond-Async, wait=10"], Preferences(True, 10)),
        (["wait=5", "respond-async", "wait=7"], Preferences(True, 5)),
        (['wait = "3"; foo, return=minimal'], Preferences(wait_s=3)),
        (["wait=-1", "wait=soon", "wait", ",,", "wait=1e9"], Preferences()),
    ],
)
def test_preferences(headers, expected):
    assert parse_preferences(headers) == expected


@pytest.mark.parametrize(
    ("preferences", "wait_s", "applied"),
    [
        (Preferences(), 60, {}),
        (Preferences(respond_async=True), 0, {"Preference-Applied": "respond-async"}),
        (Preferences(True, 10), 10, {"Preference-Applied": "respond-async, wait=10"}),
        (Preferences(wait_s=10_000), 600, {}),
    ],
)
def test_waits(preferences, wait_s, applied):
    assert preferences.choose_wait(60, 600) == wait_s
    assert preferences.describe_applied(wait_s, is_async=True) == applied


def test_cores_keep_to_the_quota_of_the_container(tmp_path):
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")
    assert count_cores(quota) == 1
    unlimited = count_cores(tmp_path / "absent")
    quota.write_text("max 100000\n")
    assert count_cores(quota) == unlimited >= 1


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://x/y", "postgresql://x", "sqlite://", "sqlite:///:memory:"])
def test_settings_refuse_other_databases(url):
    with pytest.raises(ValidationError, match="sqlite:////"):
        Settings(database_url=url)


def test_a_server_of_a_file_runs_its_jobs():
    with pytest.raises(ValidationError, match="PostgreSQL"):
        Settings(run_dispatcher=False)
    assert Settings(run_dispatcher=False, database_url="postgresql://x/y").database_path is None


def test_a_memory_limit_beyond_the_memory_is_refused_where_solves_run():
    too_much = measure_memory() + 1
    with pytest.raises(ValidationError, match=f"memory_limit_bytes must be at most {too_much - 1}"):
        Settings(memory_limit_bytes=too_much)
    elsewhere = Settings(memory_limit_bytes=too_much, run_dispatcher=False, database_url="postgresql://x/y")
    assert elsewhere.memory_limit_bytes == too_much


def test_a_lease_outlives_a_late_heartbeat():
    with pytest.raises(ValidationError, match="lease_s must be at least 15, three times heartbeat_interval_s"):
        Settings(lease_s=4)
    assert Settings(lease_s=4, heartbeat_interval_s=1).lease_s == 4


def test_settings_of_the_environment(monkeypatch):
    monkeypatch.setenv("PLACEWRIGHT_RETENTION_DAYS", "null")
    monkeypatch.setenv("PLACEWRIGHT_CORS_ORIGINS", '["https://app.example.org"]')
    settings = Settings()
    assert settings.retention_days is None
    assert settings.cors_origins == ["https://app.example.org"]


def test_every_setting_may_be_misspelt_but_not_every_variable_is_ours():
    names = [f"PLACEWRIGHT_{name.upper()}" for name in Settings.model_fields]
    assert find_misspelt(names) == {}
    assert find_misspelt([f"{name}X" for name in names]) == {f"{name}X": name for name in names}
    others = ("API_KEY", "DATABASE_PASSWORD", "PORT_8000_TCP_ADDR", "SERVICE_HOST", "TEST_DEPTH", "WORKLOADS")
    assert find_misspelt([f"PLACEWRIGHT_{name}" for name in others] + ["MAX_WORKER", "PATH"]) == {}


def test_memory_keeps_to_the_limit_of_the_container(tmp_path):
    limit = tmp_path / "memory.max"
    limit.write_text("1000000\n")
    assert measure_memory(limit) == 1_000_000
    limit.write_text("max\n")
    assert measure_memory(limit) == measure_memory(tmp_path / "absent") > 1_000_000


def test_workers_never_exceed_the_slots():
    assert Settings().cap_workers(None, 4) == 4
    assert Settings(default_workers=2).cap_workers(None, 4) == 2
    assert Settings(max_workers=3).cap_workers(8, 4) == 3
    assert Settings(max_workers=8).cap_workers(8, 2) == 2


def test_a_solve_does_not_load_the_service():
    code = "import sys, app.worker; sys.exit('fastapi' in sys.modules or 'sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_setting_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
    table = set(re.findall(r"`([A-Z_]+)`", page.partition("## Settings")[2]))
    assert table == {name.upper() for name in Settings.model_fields}


class Recorder:
    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda _lease, *rest, **fields: self.calls.append((name, *rest, fields))


DIED = describe("solver-died", "It died.")
OVERRUN = describe("time-limit-overrun", "It went on.")
DEFECT = describe("solver-defect", "It is wrong.")


def result(value, stop_reason="time_limit"):
    return {"objective_value": value, "best_bound": 1.0, "stop_reason": stop_reason}


@pytest.mark.parametrize(
    ("found", "attempt", "outcome", "method", "state"),
    [
        (5.0, 1, Outcome(result(5.0), None), "finish", State.SUCCEEDED),
        (5.0, 1, Outcome(result(5.5), None), "finish", State.FAILED),  # worse than what was found: a defect
        (5.0, 1, Outcome(result(None), None), "finish", State.FAILED),
        (5.0, 1, Outcome(None, DIED), "requeue", True),
        (5.0, 3, Outcome(None, DIED), "finish", State.FAILED),
        (None, 1, Outcome(None, DEFECT), "finish", State.FAILED),
        (5.0, 1, Outcome(None, OVERRUN, StopCause.OVERRUN), "finish", State.SUCCEEDED),
        (None, 1, Outcome(None, OVERRUN, StopCause.OVERRUN), "finish", State.FAILED),
        (None, 1, Outcome(None, DIED, StopCause.CANCEL), "finish", State.CANCELLED),
        (5.0, 1, Outcome(result(4.0), None, StopCause.CANCEL), "finish", State.CANCELLED),
        (5.0, 1, Outcome(result(4.0, "cancelled"), None, StopCause.SHUTDOWN), "requeue", False),
        (5.0, 1, Outcome(result(4.0, "proved"), None, StopCause.SHUTDOWN), "finish", State.SUCCEEDED),
        (5.0, 1, Outcome(None, DIED, StopCause.SHUTDOWN), "requeue", False),
    ],
)
def test_how_a_job_ends(found, attempt, outcome, method, state):
    storage = Recorder()
    lease = Lease("id", "me", 1, attempt, 1.0, 9.0, 1, b"", None, objective_value=found, best_bound=None)
    RunningJob(storage, lease, lease_s=30, max_attempts=3).conclude(outcome)
    [(called, *arguments, fields)] = storage.calls
    assert called == method
    assert (fields["counts"] if method == "requeue" else arguments[0]) == state
    if method == "finish" and state is State.FAILED:
        assert fields["result"] is None
        assert fields["error"]


@pytest.mark.parametrize(
    ("cause", "reason"), [(StopCause.MEMORY, "memory_limit"), (StopCause.OVERRUN, "time_limit"), (None, "cancelled")]
)
def test_an_interrupted_search_says_why_it_ended(cause, reason):
    storage = Recorder()
    lease = Lease("id", "me", 1, 1, 1.0, 9.0, 1, b"", None, objective_value=None, best_bound=None)
    RunningJob(storage, lease, lease_s=30, max_attempts=3).conclude(Outcome(result(5.0, "cancelled"), None, cause))
    [(_, _, _, fields)] = storage.calls
    assert fields["result"]["stop_reason"] == reason


class Away(Recorder):
    """A storage that fails so many times with this error, and then works."""

    def __init__(self, times, error):
        super().__init__()
        self.failures = iter([error] * times)

    def finish(self, *_, **__):
        for error in self.failures:
            raise error
        self.calls.append("finish")


AWAY = OperationalError("UPDATE", {}, Exception("the database is away"))


@pytest.fixture
def unhurried(monkeypatch):
    """A job that is about to end."""
    monkeypatch.setattr(running_job, "_WRITE_DELAYS_S", (0.001, 0.001))
    lease = Lease("id", "me", 1, 1, 1.0, 9.0, 1, b"", None, objective_value=None, best_bound=None)
    return lambda storage: RunningJob(storage, lease, lease_s=30, max_attempts=3)


def test_the_end_of_a_solve_is_kept_until_it_can_be_written(unhurried):
    storage = Away(50, AWAY)
    unhurried(storage).conclude(Outcome(result(5.0), None))
    assert storage.calls == ["finish"]


def test_a_shutdown_does_not_wait_for_the_database_for_ever(unhurried):
    storage = Away(50, AWAY)
    job = unhurried(storage)
    job.order_stop(StopCause.CANCEL)
    job.order_stop(StopCause.SHUTDOWN)
    with pytest.raises(OperationalError):
        job.conclude(Outcome(result(5.0), None))
    assert len(list(storage.failures)) == 47


def test_what_no_waiting_mends_is_not_tried_again(unhurried):
    storage = Away(50, ProgrammingError("UPDATE", {}, Exception("no such column")))
    with pytest.raises(ProgrammingError):
        unhurried(storage).conclude(Outcome(result(5.0), None))
    assert len(list(storage.failures)) == 49


class Answering:
    """Notes whether a request waits for its answer, once it may."""

    def __init__(self, error=None):
        self.has_begun, self.may_end, self.noted, self.error = threading.Event(), threading.Event(), [], error

    def set_answering(self, _, seconds):
        if seconds:
            self.has_begun.set()
            self.may_end.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.noted.append(seconds)


async def answer(placements):
    async with Waiting(placements, Bell(), is_shared=False).answering("id", has_key=True):
        await to_thread.run_sync(placements.has_begun.wait)
        threading.Timer(0.2, placements.may_end.set).start()  # the answer is there first
    return "answer"


def test_a_repeated_request_has_the_answer_as_soon_as_the_first_one():
    placements = Answering()
    asyncio.run(answer(placements))
    assert wait_until(lambda: len(placements.noted) == 2)
    assert placements.noted == [ANSWERING_S, 0.0]


def test_an_outage_while_a_request_waits_does_not_spoil_its_answer():
    assert asyncio.run(answer(Answering(AWAY))) == "answer"


def test_a_lease_that_cannot_be_renewed_ends_its_solve_in_time():
    lease = Lease("id", "me", 1, 1, 1.0, 9.0, 1, b"", None, objective_value=None, best_bound=None)
    assert RunningJob(Recorder(), lease, lease_s=30, max_attempts=3).stop_order() is None
    job = RunningJob(Recorder(), lease, lease_s=0, max_attempts=3)
    job.order_stop(StopCause.CANCEL)
    assert job.stop_order() is StopCause.LEASE_LOST
