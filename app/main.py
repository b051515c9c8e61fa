"""The service: puts its parts together and runs them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from types import FrameType

import uvicorn
from anyio import to_thread
from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp

from app.auth.audit import AuditLog
from app.auth.guard import Guard, warn_of_open_door
from app.auth.keys import KeyStore
from app.database import Database
from app.identity import identify
from app.logs import configure_logs
from app.metrics import MeasuredRequests
from app.openapi import install_documentation
from app.problems import BodyLimitProblems, CutOffProblems, install_handlers
from app.request_body import Door
from app.routes import operation_router, placements_router
from app.runtime import Runtime
from app.settings import Settings
from app.tracing import UntracedQueries

_LEAST_GZIP_BYTES = 1024
_log = logging.getLogger(__name__)


class Service(FastAPI):
    """FastAPI with problem documents also for what is answered outside its exception handlers."""

    def build_middleware_stack(self) -> ASGIApp:
        """Put what converts the plain 413 and a cancellation around everything, and the audit log around that."""
        limit: int = self.state.settings.max_body_bytes
        return AuditLog(CutOffProblems(BodyLimitProblems(super().build_middleware_stack(), limit)))


def create_app(settings: Settings | None = None, *, has_placements: bool = True) -> FastAPI:
    """The ASGI application; its runtime starts and stops with it. Without placements it only says how it is."""
    settings = settings or Settings()
    app = Service(
        title="Placewright",
        version=version("placewright"),
        description="Places the operators of a neural network on devices, with a certified optimality gap.",
        docs_url=None,
        redoc_url=None,
        max_body_size=settings.max_body_bytes,
        lifespan=_run_jobs,
        telemetry={"auto_configure": True, "logs": False, "operation_spans": False},
    )
    app.state.settings = settings
    runtime = Runtime(settings)
    app.state.runtime = runtime
    app.state.guard = Guard(settings, KeyStore(runtime.database))
    app.state.door = Door(settings.max_body_bytes)
    app.add_middleware(GZipMiddleware, minimum_size=_LEAST_GZIP_BYTES, compresslevel=3)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["ETag", "Location", "Next-Byte", "Preference-Applied", "Retry-After"],
        )
    app.add_middleware(MeasuredRequests, metrics=runtime.metrics)
    app.add_middleware(UntracedQueries)
    install_handlers(app)
    app.include_router(operation_router)
    if has_placements:
        app.include_router(placements_router, dependencies=[Depends(identify)])  # so that no route is forgotten
    install_documentation(app)
    return app


@asynccontextmanager
async def _run_jobs(app: FastAPI) -> AsyncIterator[None]:
    runtime: Runtime = app.state.runtime
    watch = asyncio.create_task(runtime.waiting.watch())
    try:
        await to_thread.run_sync(runtime.start)
        yield
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        await to_thread.run_sync(runtime.stop)


class _Server(uvicorn.Server):
    """Lets waiting requests go before it waits for them: their solves are interrupted anyway."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            host, port, *_ = listener.getsockname()
            _log.info("serving on http://%s:%d (Ctrl-C to stop)", f"[{host}]" if ":" in host else host, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        runtime: Runtime = self.config.app.state.runtime  # type: ignore[union-attr]
        runtime.begin_stop()
        await super().shutdown(sockets)
        if self.force_exit:  # a second Ctrl-C: requests are waited for no longer, but all ends in good order
            for request in self.server_state.tasks:
                request.cancel()
            await self.lifespan.shutdown()


def _exit(number: int, _frame: FrameType | None) -> None:
    # uvicorn has shut down in good order and now repeats the signal that asked for it.
    sys.exit(128 + number)


def serve(host: str, port: int, *, has_placements: bool = True) -> None:
    """Run the service until Ctrl-C or SIGTERM; the solves then running are interrupted and queued again.

    Without placements it runs the jobs that other servers of the same database take in.

    Raises:
        OSError: the port or the database cannot be had; in a sentence for the operator.
        SystemExit: at the end, with 128 + the signal, or 3 when the service could not start.
    """
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    settings = Settings()
    configure_logs(settings.log_format)
    app = create_app(settings, has_placements=has_placements)
    # Both before uvicorn, which would answer a failure with a traceback.
    with _listen(host, port) as listener:
        runtime: Runtime = app.state.runtime
        runtime.take_database()
        warn_of_open_door(host, settings)
        server = _Server(uvicorn.Config(app, lifespan="on", timeout_graceful_shutdown=10, log_config=None))
        server.run([listener])
    if not server.started:
        sys.exit(3)


def migrate() -> None:
    """Bring the database to the newest schema. Raises :class:`OSError` when it cannot be used."""
    settings = Settings()
    database = Database(settings.database_url, settings.database_busy_timeout_s)
    try:
        database.migrate()
    finally:
        database.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.getaddrinfo(host, port, family)  # says what is wrong with a name; the next call loses it
        listener = socket.create_server((host, port), family=family, backlog=2048)
        # Accepted connections inherit it; asyncio sets it only on sockets that it has made itself. Without it each
        # answer on a kept connection waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except UnicodeError as error:
        raise OSError(f"{host!r} is no host name") from error
    except socket.gaierror:
        raise
    except OSError as error:  # without the address, which Python adds to the reason
        raise OSError(error.errno, os.strerror(error.errno or 0)) from error
    else:
        return listener
