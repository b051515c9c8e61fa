"""The dependency audit: a known weakness stops the build, and what could not be looked at is never called clean."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

_FILE = Path(__file__).parents[2] / ".ci" / "audit.py"
_SPEC = importlib.util.spec_from_file_location("audit", _FILE)
audit = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(audit)

CLEAN = {"name": "numpy", "version": "2.3.0", "vulns": []}
SKIPPED = {"name": "scipy", "skip_reason": "Dependency not found on PyPI and could not be audited: scipy (1.0)"}
WEAKNESS = {"id": "PYSEC-2026-1", "fix_versions": ["46.0.1"], "aliases": ["CVE-2026-1"], "description": "Bad."}
WEAK = {"name": "cryptography", "version": "46.0.0", "vulns": [WEAKNESS]}


@pytest.mark.parametrize(
    ("entries", "is_required", "may_go_on", "words"),
    [
        ([CLEAN], False, True, "1 packages have no known weakness"),
        ([CLEAN], True, True, "1 packages have no known weakness"),
        ([CLEAN, WEAK], False, False, "cryptography 46.0.0 has PYSEC-2026-1; fixed in 46.0.1"),
        ([SKIPPED, WEAK], False, False, "cryptography 46.0.0 has PYSEC-2026-1; fixed in 46.0.1"),
        ([CLEAN, SKIPPED], False, True, "NOT AUDITED: scipy"),
        ([CLEAN, SKIPPED], True, False, "NOT AUDITED: scipy"),
        ([SKIPPED], False, True, "NOT AUDITED: the advisories"),
        ([SKIPPED], True, False, "NOT AUDITED: the advisories"),
        ([], False, True, "NOT AUDITED: the advisories"),
        (None, True, False, "NOT AUDITED: the advisories"),
    ],
)
def test_says_what_is_known(entries, is_required, may_go_on, words):
    report = None if entries is None else {"dependencies": entries}
    verdict, lines = audit.judge("a.lock", report, is_required=is_required)
    assert verdict is may_go_on
    assert words in "\n".join(lines)
    assert all(line.startswith("a.lock: ") for line in lines)
    if not entries or CLEAN not in entries:
        assert "no known weakness" not in "\n".join(lines)


def test_a_weakness_can_be_accepted_by_any_of_its_names(monkeypatch):
    monkeypatch.setitem(audit.ACCEPTED, "CVE-2026-1", "not reachable")
    assert audit.judge("a.lock", {"dependencies": [WEAK]}, is_required=True)[0]


def test_asks_no_further_when_nothing_can_be_had(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(audit, "read_report", asked.append)
    monkeypatch.delenv("AUDIT", raising=False)
    assert audit.main() == 0
    assert len(asked) == 1
    assert "The other locks: NOT AUDITED either" in capsys.readouterr().out
    monkeypatch.setenv("AUDIT", "required")
    assert audit.main() == 1


def test_goes_through_all_of_them_else(monkeypatch, capsys):
    monkeypatch.setattr(audit, "read_report", lambda _: {"dependencies": [CLEAN]})
    assert audit.main() == 0
    assert capsys.readouterr().out.count("have no known weakness") == len(audit.LOCKS)


def test_silence_is_no_report(monkeypatch):
    def hang(*_, **__):
        raise subprocess.TimeoutExpired("pip-audit", 1)

    monkeypatch.setattr(audit.subprocess, "run", hang)
    assert audit.read_report("a.lock") is None


def test_every_lock_is_audited():
    assert set(audit.LOCKS) == {path.name for path in _FILE.parents[1].glob("*.lock")}
    assert {"requirements.lock", "requirements-service.lock", "requirements-build.lock"} <= set(audit.LOCKS)
