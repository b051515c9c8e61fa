"""The commands that run the service and look after it."""

from __future__ import annotations

import argparse
import os
from typing import Protocol

from app.display import printable
from app.document_output import encode
from app.exits import EXIT_FOUND, CommandError, reason_of
from app.keys_command import KeysError, add_keys_command, run_keys_command
from app.standard_streams import check_standard_output, write_standard_output

SERVICE_PACKAGES = frozenset(
    {
        "alembic",
        "fastapi",
        "limits",
        "prometheus_client",
        "psycopg",
        "pydantic_settings",
        "sqlalchemy",
        "starlette",
        "uvicorn",
    }
)


class AddCommand(Protocol):
    """How a command is made known to the command line."""

    def __call__(self, name: str, run: object, help: str) -> argparse.ArgumentParser:  # noqa: A002  argparse's word
        """The command's parser; ``run`` gets its arguments."""


def add_service_commands(add_command: AddCommand) -> None:
    """Make the commands known."""
    serve = add_command("serve", _serve, "run the HTTP service")
    _add_address(serve, port=8000)
    dispatch = add_command("dispatch", _dispatch, "run the jobs of a PostgreSQL database that other servers take in")
    _add_address(dispatch, port=8001)
    secret = add_command("webhook-secret", _webhook_secret, "print the secret that a tenant verifies its webhooks with")
    secret.add_argument("--tenant", default="default", help="whose webhooks (default: default)")
    add_keys_command(add_command("keys", _keys, "make, list and revoke the keys of the service"), _keys)
    add_command("migrate", _migrate, "bring the database of the service to the newest schema")


def _add_address(command: argparse.ArgumentParser, port: int) -> None:
    command.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    command.add_argument("--port", default=port, type=_port, help=f"the port to listen on (default: {port})")


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{port} is no port: give a number from 0 to 65535")
    return port


def _serve(arguments: argparse.Namespace) -> int:
    return _run_service(arguments, has_placements=True)


def _dispatch(arguments: argparse.Namespace) -> int:
    return _run_service(arguments, has_placements=False)


def _run_service(arguments: argparse.Namespace, *, has_placements: bool) -> int:
    _check_service()

    from app.main import serve

    try:
        serve(arguments.host, arguments.port, has_placements=has_placements)
    except OSError as error:
        raise CommandError(f"cannot serve on {arguments.host}:{arguments.port}: {reason_of(error)}") from error
    return EXIT_FOUND


def _migrate(_arguments: argparse.Namespace) -> int:
    _check_service()

    from app.main import migrate

    try:
        migrate()
    except OSError as error:
        raise CommandError(reason_of(error)) from error
    return EXIT_FOUND


def _webhook_secret(arguments: argparse.Namespace) -> int:
    _check_service()

    from app.settings import Settings
    from app.webhooks import secret_of

    secret = Settings().webhook_secret
    if secret is None:
        hint = "set it to whsec_ and at least 24 random bytes in base64"
        raise CommandError(f"PLACEWRIGHT_WEBHOOK_SECRET is not set: {hint}")
    write_standard_output(f"{secret_of(arguments.tenant, secret)}\n".encode())
    return EXIT_FOUND


def _keys(arguments: argparse.Namespace) -> int:
    _check_service()
    check_standard_output()  # a key that is made is shown once
    try:
        document = run_keys_command(arguments)
    except KeysError as error:
        raise CommandError(printable(str(error))) from error
    write_standard_output(encode(document))
    return EXIT_FOUND


def _check_service() -> None:
    """Whether the service is installed, and its settings are sound."""
    try:
        from pydantic import ValidationError

        import app.main  # noqa: F401
        from app.settings import Settings, find_misspelt
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in SERVICE_PACKAGES:
            raise
        message = f"the HTTP service needs the package {error.name}: pip install 'placewright[service]'"
        raise CommandError(message) from error
    faults = [
        f"{name}: there is no such setting; is {meant} meant?" for name, meant in find_misspelt(os.environ).items()
    ]
    try:
        Settings()  # reads the environment, where a mistake is the operator's, not a defect
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False):
            message = fault["msg"].removeprefix("Value error, ")
            faults.append(f"PLACEWRIGHT_{str(fault['loc'][0]).upper()}: {message}" if fault["loc"] else message)
    if faults:
        raise CommandError("\n  ".join(faults))
