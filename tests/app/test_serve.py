"""What keeps ``placewright serve`` from starting is said in one line."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys

import pytest

from app.main import _listen


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def refuse(tmp_path):
    """The one line of a server that cannot start."""

    def run(*arguments, database="jobs.sqlite3"):
        environment = os.environ | {"PLACEWRIGHT_DATABASE_URL": f"sqlite:///{tmp_path / database}"}
        command = [sys.executable, "-m", "app", "serve", *map(str, arguments)]
        process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
        assert (process.returncode, process.stdout) == (2, "")
        [line] = process.stderr.splitlines()
        return line

    return run


def test_a_port_in_use(refuse, port):
    assert refuse("--port", port) == f"error: cannot serve on 127.0.0.1:{port}: Address already in use"


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid", "a..b"])
def test_a_host_that_is_not_here(refuse, host):
    told = refuse("--host", host, "--port", 0)
    assert told.startswith(f"error: cannot serve on {host}:0: ")
    assert "Unknown error" not in told


def test_a_database_that_is_none(refuse, tmp_path):
    (tmp_path / "jobs.sqlite3").write_text("This is a letter, not a database.\n" * 100)
    assert refuse("--port", 0).endswith("jobs.sqlite3: file is not a database")
    assert "cannot write the database" in refuse("--port", 0, database="no/such/folder/jobs.sqlite3")


def test_a_database_of_a_newer_version(refuse, tmp_path):
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    assert "Can't locate revision" in refuse("--port", 0)


def test_answers_do_not_wait_for_acknowledgements():
    with _listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
