"""``placewright keys``: JSON on standard output, reasons on standard error, and keys that open a server."""

from __future__ import annotations

import json

import pytest

from app.auth.keys import make_text
from app.cli import main


@pytest.fixture
def run(capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("PLACEWRIGHT_DATABASE_URL", f"sqlite:///{tmp_path / 'jobs.sqlite3'}")

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:  # a usage error
            code = exit_.code
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, json.loads(out) if out else None, err

    return run


def test_makes_lists_and_revokes(run):
    assert run("migrate")[0] == 0
    code, made, _ = run(
        *("keys", "create", "--name", "ci", "--tenant", "acme", "--scope", "read", "--scope", "metrics"),
        *("--expires-in-days", 30, "--requests-per-minute", 60, "--max-jobs", 5, "--cpu-seconds-per-day", 3600),
    )
    assert code == 0
    key = made.pop("key")
    assert key.startswith(f"pw_{made['id']}_")
    assert made["scopes"] == ["metrics", "read"]
    assert (made["tenant"], made["name"]) == ("acme", "ci")
    assert (made["requests_per_minute"], made["max_jobs"], made["cpu_seconds_per_day"]) == (60, 5, 3600.0)
    assert made["created_at"] < made["expires_at"]
    code, listed, _ = run("keys", "list")
    assert listed == {"keys": [made]}
    assert run("keys", "list", "--tenant", "nobody")[1] == {"keys": []}
    code, revoked, _ = run("keys", "revoke", made["id"])
    assert code == 0
    assert revoked["revoked_at"]
    assert run("keys", "revoke", made["id"])[1] == revoked


def test_a_key_of_ones_own_is_taken_once_and_never_shown(run, tmp_path):
    run("migrate")
    text = make_text()
    (tmp_path / "key").write_text(text + "\n")
    arguments = ("keys", "create", "--name", "first", "--scope", "admin", "--key-file", tmp_path / "key")
    code, made, _ = run(*arguments)
    assert code == 0
    assert "key" not in made
    assert run(*arguments)[1] == made
    assert len(run("keys", "list")[1]["keys"]) == 1
    (tmp_path / "key").write_text(text[:-5] + "other")
    assert "another key has the id" in run(*arguments)[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create",), "--name"),
        (("create", "--name", ""), "--name: 1 to 64 printable characters"),
        (("create", "--name", "a\nb"), "printable"),
        (("create", "--name", "x", "--tenant", "../x"), "--tenant: up to 64 letters"),
        (("create", "--name", "x", "--scope", "root"), "invalid choice: 'root'"),
        (("create", "--name", "x", "--max-jobs", "0"), "0 is not above 0"),
        (("create", "--name", "x", "--expires-in-days", "nan"), "nan is not above 0"),
        (("create", "--name", "x", "--expires-in-days", "1e300"), "error: "),
        (("create", "--name", "x", "--key-file", "nowhere"), "cannot read nowhere: No such file"),
        (("revoke", "unknown"), "there is no key 'unknown'"),
        ((), "ACTION"),
    ],
)
def test_mistakes_are_said_in_a_line(run, arguments, words):
    run("migrate")
    code, out, err = run("keys", *arguments)
    assert (code, out) == (2, None)
    assert words in err


def test_a_file_without_a_key_is_not_repeated(run, tmp_path):
    run("migrate")
    (tmp_path / "key").write_text("hunter2")
    code, _, err = run("keys", "create", "--name", "x", "--key-file", tmp_path / "key")
    assert code == 2
    assert "this is no API key" in err
    assert "hunter2" not in err


def test_without_tables_it_says_how_to_make_them(run):
    code, _, err = run("keys", "list")
    assert code == 2
    assert "`placewright migrate` makes its tables" in err


def test_a_key_opens_a_running_server(run, start_guarded, monkeypatch):
    live = start_guarded()
    monkeypatch.setenv("PLACEWRIGHT_DATABASE_URL", f"sqlite:///{live.database}")
    made = run("keys", "create", "--name", "me")[1]
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert live.http.get("/limits", headers=headers).status_code == 200
