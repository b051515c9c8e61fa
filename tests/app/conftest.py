from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.app.live_server import LiveServer
from tests.app.slow_document import make_slow

EXAMPLES = Path(__file__).parents[2] / "app" / "static" / "examples"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server for every test that leaves it as it was."""
    with LiveServer(tmp_path_factory.mktemp("server"), MAX_BODY_BYTES=1024 * 1024) as live:
        yield live
        assert live.stop() == 143


@pytest.fixture
def start_server(tmp_path):
    """Servers of a test's own, all on the same database unless another folder is given."""
    started = []

    def start(folder=tmp_path, **settings):
        live = LiveServer(folder, **settings)
        started.append(live)
        return live.start()

    yield start
    assert not [pid for live in started for pid in live.close()], "orphans"


@pytest.fixture
def tiny():
    return json.loads((EXAMPLES / "tiny.json").read_text())


@pytest.fixture
def slow():
    """Finds a placement at once, and has no proof of optimality within the time of a test."""
    return make_slow()


@pytest.fixture
def query():
    """Looks into a server's database from outside."""

    def run(live, sql):
        with sqlite3.connect(live.database, timeout=10) as connection:
            return connection.execute(sql).fetchall()

    return run


@pytest.fixture
def client(server):
    return server.http
