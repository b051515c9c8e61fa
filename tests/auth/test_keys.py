"""Keys: shown once, kept as digests, good until they are revoked or expire."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import OperationalError

from app.auth import keys as module
from app.auth.allowance import NO_BOUNDS, Allowance
from app.auth.keys import KeyStore, KeyTaken, make_text
from app.auth.scopes import Scope
from app.tables import KeyRow


@pytest.fixture
def keys(database):
    return KeyStore(database)


@pytest.fixture
def make(keys):
    def make(**options):
        given = {"tenant": "acme", "name": "ci", "scopes": [Scope.READ], "allowance": NO_BOUNDS} | options
        return keys.create(**given)

    return make


def test_finds_the_key_that_is_shown(keys, make):
    made, text = make(scopes=[Scope.WRITE, Scope.READ], allowance=Allowance(60, 5, 3600.0))
    found = keys.find(text)
    assert found == made
    assert (found.tenant, found.scopes) == ("acme", {"read", "write"})
    assert found.allowance == Allowance(60, 5, 3600.0)
    assert text.startswith(f"pw_{made.id}_")


def test_two_keys_are_never_alike():
    assert len({make_text() for _ in range(1000)}) == 1000
    assert all(len(make_text().split("_", 2)[2]) == 43 for _ in range(100))  # 256 bits


def test_nothing_in_the_database_opens_the_door(database, make, tmp_path):
    _, text = make()
    database.close()
    secret = text.split("_", 2)[2].encode()
    contents = [path.read_bytes() for path in tmp_path.iterdir()]
    assert any(text.split("_")[1].encode() in content for content in contents)
    assert not any(secret in content for content in contents)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text[:-1],
        lambda text: text + "x",
        lambda text: "pw_0123456789abcdef_" + text.split("_", 2)[2],
        str.upper,
        lambda text: text.replace("_", "-", 1),
        lambda _: "",
        lambda _: "pw_é_" + "a" * 43,
        lambda text: text + "\n",
    ],
)
def test_anything_else_is_no_key(keys, make, change):
    _, text = make()
    assert keys.find(change(text)) is None
    assert keys.find(text) is not None


def test_an_unknown_id_is_compared_like_a_wrong_secret(keys, make, monkeypatch):
    _, text = make()
    compared, really_compare = [], hmac.compare_digest

    def compare(first, second):
        compared.append((len(first), len(second)))
        return really_compare(first, second)

    monkeypatch.setattr(module.hmac, "compare_digest", compare)
    wrong_secret = text[:-1] + ("A" if text[-1] != "A" else "B")
    assert keys.find(wrong_secret) is None
    assert keys.find("pw_0123456789abcdef_" + "a" * 43) is None
    assert compared == [(32, 32), (32, 32)]


def test_a_revoked_key_is_useless_within_seconds(keys, make, monkeypatch):
    made, text = make()
    assert keys.find(text)
    assert keys.revoke(made.id).revoked_at is not None
    now = module.time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 5.1)
    assert keys.find(text) is None
    assert keys.revoke(made.id) == keys.list_keys()[0]  # the first time counts
    assert keys.revoke("0" * 16) is None


def test_another_process_knows_at_once_of_a_new_key(database, keys, make):
    _, text = make()
    assert KeyStore(database).find(text) is not None
    assert keys.find(text) is not None


def test_a_key_may_expire(keys, make):
    _, text = make(lifetime=timedelta(seconds=-1))
    assert keys.find(text) is None
    _, text = make(lifetime=timedelta(days=1))
    assert keys.find(text) is not None


def test_use_is_noted(keys, make):
    made, text = make()
    assert keys.list_keys()[0].last_used_at is None
    keys.find(text)
    assert keys.list_keys()[0].last_used_at >= made.created_at


def test_a_database_that_cannot_be_written_locks_nobody_out(database, keys, make, monkeypatch):
    _, text = make()

    def fail():
        raise OperationalError("BEGIN IMMEDIATE", {}, Exception("database is locked"))

    monkeypatch.setattr(database, "write", fail)
    assert keys.find(text) is not None


def test_guesses_are_not_remembered(keys):
    for _ in range(100):
        keys.find(make_text())
    assert not keys._known


def test_a_key_made_elsewhere_can_be_brought_more_than_once(keys, make):
    text = make_text()
    first, same = make(text=text)
    assert same == text
    assert make(text=text, scopes=[Scope.ADMIN])[0] == first  # and is not changed by that
    assert len(keys.list_keys()) == 1
    with pytest.raises(KeyTaken):
        make(text=f"pw_{first.id}_" + "b" * 43)
    with pytest.raises(ValueError, match="no API key"):
        make(text="hunter2")


def test_lists_by_tenant(keys, make):
    for tenant in ("a", "b", "a"):
        make(tenant=tenant)
    assert [key.tenant for key in keys.list_keys()] == ["a", "b", "a"]
    assert len(keys.list_keys("a")) == 2


def test_a_key_stays_good_while_the_database_is_away(database, keys, make, monkeypatch):
    monkeypatch.setattr(module, "_CACHE_S", 0)
    _, used = make()
    _, unused = make()
    assert keys.find(used)
    with database.write() as session:
        KeyRow.__table__.drop(session.connection())
    assert keys.find(used)
    with pytest.raises(OperationalError):
        keys.find(unused)
    monkeypatch.setattr(module, "_OUTAGE_S", 0)
    with pytest.raises(OperationalError):
        keys.find(used)


def test_a_key_expires_also_while_the_database_is_away(database, keys, make, monkeypatch):
    monkeypatch.setattr(module, "_CACHE_S", 0)
    _, text = make(lifetime=timedelta(days=1))
    assert keys.find(text)
    monkeypatch.setattr(database, "now", lambda _: datetime.now(UTC).replace(tzinfo=None) - timedelta(days=2))
    _, expired = make(lifetime=timedelta(days=1))
    assert keys.find(expired)
    with database.write() as session:
        KeyRow.__table__.drop(session.connection())
    assert keys.find(text)
    assert keys.find(expired) is None
