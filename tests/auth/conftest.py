from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from app.auth.allowance import NO_BOUNDS
from app.auth.keys import KeyStore
from app.auth.scopes import Scope
from app.database import Database
from tests.app.live_server import LiveServer
from tests.app.slow_document import make_slow
from tests.patience import PATIENCE_S

EXAMPLES = Path(__file__).parents[2] / "app" / "static" / "examples"


@pytest.fixture(scope="session")
def tiny():
    return json.loads((EXAMPLES / "tiny.json").read_text())


@pytest.fixture(scope="session")
def slow():
    """Keeps a worker busy for longer than any test here."""
    return make_slow(time_limit_s=60)


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'keys.sqlite3'}", 5.0)
    database.migrate()
    yield database
    database.close()


class GuardedServer(LiveServer):
    """A server that wants keys, and a way to make them."""

    def __init__(self, folder, **settings):
        super().__init__(folder, **{"AUTHENTICATION": "on"} | settings)
        self._store = Database(f"sqlite:///{self.database}", 10.0)
        self._store.migrate()
        self.keys = KeyStore(self._store)

    def make_key(self, tenant="default", scopes=("read", "write"), allowance=NO_BOUNDS):
        _, text = self.keys.create(
            tenant=tenant, name="test", scopes=[Scope(scope) for scope in scopes], allowance=allowance
        )
        return text

    def connect(self, *, key=None, **options):
        """A client that shows a key, by default a new one made with these options."""
        key = key or self.make_key(**options)
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=PATIENCE_S)

    def close(self):
        self._store.close()
        return super().close()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory):
    with GuardedServer(tmp_path_factory.mktemp("guarded")) as live:
        yield live


@pytest.fixture
def start_guarded(tmp_path):
    """A server of the test's own."""
    started = []

    def start(**settings):
        live = GuardedServer(tmp_path, **settings)
        started.append(live)
        return live.start()

    yield start
    assert not [pid for live in started for pid in live.close()], "orphans"
