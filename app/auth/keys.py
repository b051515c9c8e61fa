"""API keys. A key is shown once, when it is made; what is kept of it cannot be turned back into the key."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.auth.allowance import Allowance
from app.auth.scopes import Scope
from app.database import Database
from app.tables import KeyRow

PREFIX = "pw_"
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TEXT = re.compile(r"pw_([0-9a-f]{16})_([A-Za-z0-9_-]{43,128})")
_CACHE_S = 5.0
"""How long a revoked key may still open the door."""
_OUTAGE_S = 3600.0
"""And how long while the database, which would know, does not answer."""
_USE_INTERVAL = timedelta(hours=1)
_NOTHING = bytes(32)
_log = logging.getLogger(__name__)


class KeyTaken(Exception):
    """Another key has this id."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key, without its secret."""

    id: str
    tenant: str
    name: str
    scopes: frozenset[Scope]
    allowance: Allowance
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To the hour."""

    def is_good(self, now: datetime) -> bool:
        """Whether it opens the door."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class KeyStore:
    """The keys in the database. Safe to use from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[Key, float]] = {}
        self._changing = threading.Lock()

    def create(
        self,
        *,
        tenant: str,
        name: str,
        scopes: Iterable[Scope],
        allowance: Allowance,
        lifetime: timedelta | None = None,
        text: str | None = None,
    ) -> tuple[Key, str]:
        """A new key and its text. A ``text`` made elsewhere may be given, also once more: that changes nothing.

        Raises:
            ValueError: ``text`` does not look like a key.
            KeyTaken: it has the id of another key.
        """
        text = text or make_text()
        key_id, secret = _split(text)
        with self._database.write() as session:
            row = session.get(KeyRow, key_id)
            if row is not None:
                if not hmac.compare_digest(row.secret_digest, _digest(secret)):
                    raise KeyTaken(key_id)
                return _read(row), text
            now = self._database.now(session)
            row = KeyRow(
                id=key_id,
                secret_digest=_digest(secret),
                tenant=tenant,
                name=name,
                scopes=sorted(scopes),
                requests_per_minute=allowance.requests_per_minute,
                max_jobs=allowance.max_jobs,
                cpu_seconds_per_day=allowance.cpu_seconds_per_day,
                created_at=now,
                expires_at=None if lifetime is None else now + lifetime,
            )
            session.add(row)
            return _read(row), text

    def find(self, text: str) -> Key | None:
        """The key with this text, if it is good."""
        try:
            key_id, secret = _split(text)
        except ValueError:
            return None
        digest = _digest(secret)
        # Only whoever has shown the whole key is remembered, so the memory cannot be filled with guesses.
        remembered = self._known.get(digest.hex())
        if remembered is not None and time.monotonic() < remembered[1]:
            return remembered[0]
        try:
            with self._database.read() as session:
                row = session.get(KeyRow, key_id)
                now = self._database.now(session)
        except SQLAlchemyError:
            # Without a database a key opens little; but an outage must not keep the figures that tell of it.
            if remembered is None or time.monotonic() > remembered[1] + _OUTAGE_S:
                raise
            return remembered[0] if remembered[0].is_good(datetime.now(UTC).replace(tzinfo=None)) else None
        # In the same time for an unknown id as for a wrong secret.
        is_right = hmac.compare_digest(_NOTHING if row is None else row.secret_digest, digest)
        key = _read(row) if row is not None and is_right else None
        with self._changing:
            if key is None or not key.is_good(now):
                self._known.pop(digest.hex(), None)
                return None
            self._known[digest.hex()] = key, time.monotonic() + _CACHE_S
        if key.last_used_at is None or now - key.last_used_at > _USE_INTERVAL:
            self._note_use(key.id)
        return key

    def list_keys(self, tenant: str | None = None) -> list[Key]:
        """All keys, or those of a tenant, the oldest first."""
        wanted = select(KeyRow).order_by(KeyRow.created_at, KeyRow.id)
        if tenant is not None:
            wanted = wanted.where(KeyRow.tenant == tenant)
        with self._database.read() as session:
            return [_read(row) for row in session.scalars(wanted)]

    def revoke(self, key_id: str) -> Key | None:
        """Make the key useless, everywhere within seconds; None when there is no such key."""
        with self._database.write() as session:
            row = session.get(KeyRow, key_id)
            if row is None:
                return None
            row.revoked_at = row.revoked_at or self._database.now(session)
            return _read(row)

    def _note_use(self, key_id: str) -> None:
        try:
            with self._database.write() as session:
                row = session.get_one(KeyRow, key_id)
                row.last_used_at = self._database.now(session)
        except SQLAlchemyError:  # the key is good all the same
            _log.exception("the use of a key is not noted", extra={"key": key_id})


def make_text() -> str:
    """The text of a new key: a public part that names it, and a secret of 256 bits."""
    return f"{PREFIX}{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"


def _split(text: str) -> tuple[str, str]:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError("this is no API key: it must look like pw_<16 hexadecimal digits>_<43 or more characters>")
    return match[1], match[2]


def _digest(secret: str) -> bytes:
    # A secret of 256 random bits cannot be guessed however fast the hash is, so a slow one would only cost time.
    return hashlib.sha256(secret.encode("ascii")).digest()


def _read(row: KeyRow) -> Key:
    return Key(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        scopes=frozenset(Scope(scope) for scope in row.scopes),
        allowance=Allowance(row.requests_per_minute, row.max_jobs, row.cpu_seconds_per_day),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
