"""Small parts without a server."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.jobs import _JobLog
from app.preferences import Preferences, parse_preferences
from app.problems import ProblemError
from app.request_body import decompress
from app.schemas import State
from app.settings import Settings, count_cores
from app.storage import Claim
from app.supervision import Outcome
from app.worker import _read_best
from solver.solve import report_versions


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


def test_decompress_stops_at_the_limit_across_members():
    member = gzip.compress(b"x" * 600)
    assert decompress(member, 600) == b"x" * 600
    with pytest.raises(ProblemError) as caught:
        decompress(member + member, 1000)
    assert caught.value.problem.status == 413
    assert decompress(member + member, 1200) == b"x" * 1200


def test_cores_keep_to_the_quota_of_the_container(tmp_path):
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")
    assert count_cores(quota) == 1
    unlimited = count_cores(tmp_path / "absent")
    quota.write_text("max 100000\n")
    assert count_cores(quota) == unlimited >= 1


@pytest.mark.parametrize("url", ["", "nonsense", "postgresql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_settings_refuse_other_databases(url):
    with pytest.raises(ValidationError, match="sqlite:////"):
        Settings(database_url=url)


def test_workers_never_exceed_the_slots():
    assert Settings(slots=4).cap_workers(None) == 4
    assert Settings(slots=4, default_workers=2).cap_workers(None) == 2
    assert Settings(slots=4, max_workers=3).cap_workers(8) == 3
    assert Settings(slots=2, max_workers=8).cap_workers(8) == 2


def test_a_solve_does_not_load_the_service():
    code = "import sys, app.worker; sys.exit('fastapi' in sys.modules or 'sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_setting_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
    table = set(re.findall(r"`([A-Z_]+)`", page.partition("## Settings")[2]))
    assert table == {name.upper() for name in Settings.model_fields}


def test_only_the_same_version_trusts_an_old_bound():
    versions = report_versions()
    document = {"placement": {"a": "gpu"}, "best_bound": 2.0, "solver": {"versions": versions}}

    def pack():
        return gzip.compress(json.dumps(document).encode())

    assert _read_best(None) == (None, None)
    assert _read_best(pack()) == ({"a": "gpu"}, 2.0)
    versions["placewright"] = "0.0.1"
    assert _read_best(pack()) == ({"a": "gpu"}, None)


class Recorder:
    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda _claim, *rest, **fields: self.calls.append((name, *rest, fields))


def test_an_end_worse_than_what_was_found_is_a_defect_and_keeps_the_better():
    claim = Claim("id", "me", 2, 1.0, 9.0, 1, b"", None, objective_value=5.0)
    for value, name in ((5.0, State.SUCCEEDED), (5.5, State.FAILED), (None, State.FAILED)):
        storage = Recorder()
        result = {"objective_value": value, "best_bound": 1.0, "stop_reason": "time_limit"}
        _JobLog(storage, claim).conclude(Outcome(result, None, None))
        [(method, state, fields)] = storage.calls
        assert (method, state) == ("finish", name)
        assert ("result" in fields) == (state is State.SUCCEEDED)
