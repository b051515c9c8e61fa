"""``placewright keys``: make, list and revoke API keys, in the database of the service."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.auth.keys import Key, KeyStore

SCOPES = ("read", "write", "metrics", "admin")  # not imported: --help must not wait for the database's libraries
_MAX_NAME = 64


class KeysError(Exception):
    """In words for the person who typed the command."""


def add_keys_command(keys: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    """Describe the options; ``run`` gets them, with the function to call as ``act``."""
    actions = keys.add_subparsers(metavar="ACTION", required=True)

    create = actions.add_parser("create", help="make a key; it is shown once", allow_abbrev=False)
    create.add_argument("--name", required=True, help="whose or what it is, for people")
    create.add_argument("--tenant", default="default", help="whose placements it sees (default: default)")
    create.add_argument(
        "--scope", action="append", choices=SCOPES, dest="scopes", help="may be repeated (default: read and write)"
    )
    create.add_argument("--expires-in-days", type=_positive(float), metavar="DAYS")
    create.add_argument("--requests-per-minute", type=_positive(int), metavar="N")
    create.add_argument("--max-jobs", type=_positive(int), metavar="N", help="queued and running at once")
    create.add_argument("--cpu-seconds-per-day", type=_positive(float), metavar="N", help="seconds times workers")
    create.add_argument("--key-file", metavar="FILE", help="take the key in this file; once it is known, do nothing")
    create.set_defaults(run=run, act=_create)

    listing = actions.add_parser("list", help="all keys, without their secrets", allow_abbrev=False)
    listing.add_argument("--tenant", help="only those of this tenant")
    listing.set_defaults(run=run, act=_list)

    revoke = actions.add_parser("revoke", help="make a key useless, everywhere within seconds", allow_abbrev=False)
    revoke.add_argument("id", metavar="ID", help="as listed; the part of the key between the underscores")
    revoke.set_defaults(run=run, act=_revoke)


def run_keys_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Do what was asked; the document to print.

    Raises:
        KeysError: it cannot be done.
    """
    with _open_keys() as keys:
        document: dict[str, Any] = arguments.act(arguments, keys)
    return document


def _create(arguments: argparse.Namespace, keys: KeyStore) -> dict[str, Any]:
    from app.auth.allowance import Allowance
    from app.auth.keys import TENANT, KeyTaken
    from app.auth.scopes import Scope

    if not TENANT.fullmatch(arguments.tenant):
        raise KeysError("--tenant: up to 64 letters, digits, dots, dashes and underscores; the first a letter or digit")
    if not arguments.name.isprintable() or not 0 < len(arguments.name) <= _MAX_NAME:
        raise KeysError(f"--name: 1 to {_MAX_NAME} printable characters")
    days = arguments.expires_in_days
    try:
        key, text = keys.create(
            tenant=arguments.tenant,
            name=arguments.name,
            scopes=[Scope(scope) for scope in arguments.scopes or ("read", "write")],
            allowance=Allowance(arguments.requests_per_minute, arguments.max_jobs, arguments.cpu_seconds_per_day),
            lifetime=None if days is None else timedelta(days=days),
            text=None if arguments.key_file is None else _read_key(arguments.key_file),
        )
    except KeyTaken as error:
        raise KeysError(f"--key-file: another key has the id {error}") from error
    except (ValueError, OverflowError) as error:
        raise KeysError(str(error)) from error
    return _describe(key) if arguments.key_file is not None else {"key": text} | _describe(key)


def _list(arguments: argparse.Namespace, keys: KeyStore) -> dict[str, Any]:
    return {"keys": [_describe(key) for key in keys.list_keys(arguments.tenant)]}


def _revoke(arguments: argparse.Namespace, keys: KeyStore) -> dict[str, Any]:
    key = keys.revoke(arguments.id)
    if key is None:
        raise KeysError(f"there is no key {arguments.id!r}; `placewright keys list` shows them")
    return _describe(key)


@contextmanager
def _open_keys() -> Iterator[KeyStore]:
    from sqlalchemy.exc import DBAPIError

    from app.auth.keys import KeyStore
    from app.database import Database
    from app.settings import Settings

    settings = Settings()
    database = Database(settings.database_url, settings.database_busy_timeout_s)
    try:
        yield KeyStore(database)
    except DBAPIError as error:
        message = f"cannot use the database {database.name}: {error.orig}; `placewright migrate` makes its tables"
        raise KeysError(message) from error
    finally:
        database.close()


def _read_key(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise KeysError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it holds no key'}") from error


def _describe(key: Key) -> dict[str, Any]:
    described = asdict(key) | asdict(key.allowance)
    del described["allowance"]
    return {
        name: value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value
        for name, value in (described | {"scopes": sorted(key.scopes)}).items()
    }


def _positive(kind: type[int | float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return read
