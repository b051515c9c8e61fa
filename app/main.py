"""The service: puts its parts together and runs them."""

from __future__ import annotations

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
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI
from starlette.types import ASGIApp

from app.jobs import Runner
from app.openapi import install_documentation
from app.problems import BodyLimitProblems, install_handlers
from app.routes import router
from app.settings import Settings
from app.storage import Storage

_PARSERS = 2
"""Documents read at once; each may take a core for seconds."""
_log = logging.getLogger(__name__)


class Service(FastAPI):
    """FastAPI with problem documents also for what is answered outside its exception handlers."""

    def build_middleware_stack(self) -> ASGIApp:
        """Put the conversion of the plain 413 around everything."""
        limit: int = self.state.settings.max_body_bytes
        return BodyLimitProblems(super().build_middleware_stack(), limit)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application; its runner starts and stops with it."""
    settings = settings or Settings()
    app = Service(
        title="Placewright",
        version=version("placewright"),
        description="Places the operators of a neural network on devices, with a certified optimality gap.",
        docs_url=None,
        redoc_url=None,
        max_body_size=settings.max_body_bytes,
        lifespan=_run_jobs,
    )
    app.state.settings = settings
    app.state.storage = Storage(settings.database_url, settings.database_busy_timeout_s)
    app.state.runner = Runner(app.state.storage, settings)
    app.state.door = CapacityLimiter(_PARSERS)
    install_handlers(app)
    app.include_router(router)
    install_documentation(app)
    return app


@asynccontextmanager
async def _run_jobs(app: FastAPI) -> AsyncIterator[None]:
    storage: Storage = app.state.storage
    runner: Runner = app.state.runner
    try:
        await to_thread.run_sync(runner.start)
        yield
    finally:
        await to_thread.run_sync(runner.stop)
        storage.close()


class _Server(uvicorn.Server):
    """Lets waiting requests go before it waits for them: their solves are interrupted anyway."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            host, port, *_ = listener.getsockname()
            _log.info("serving on http://%s:%d (Ctrl-C to stop)", f"[{host}]" if ":" in host else host, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        runner: Runner = self.config.app.state.runner  # type: ignore[union-attr]
        runner.begin_stop()
        await super().shutdown(sockets)


def _exit(number: int, _frame: FrameType | None) -> None:
    # uvicorn has shut down in good order and now repeats the signal that asked for it.
    sys.exit(128 + number)


def serve(host: str, port: int) -> None:
    """Run the service until Ctrl-C or SIGTERM; the solves then running are interrupted and queued again.

    Raises:
        OSError: the port or the database cannot be had; in a sentence for the operator.
        SystemExit: at the end, with 128 + the signal, or 3 when the service could not start.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    app = create_app()
    # Both before uvicorn, which would answer a failure with a traceback.
    with _listen(host, port) as listener:
        runner: Runner = app.state.runner
        runner.take_database()
        server = _Server(uvicorn.Config(app, lifespan="on", timeout_graceful_shutdown=10))
        server.run([listener])
    if not server.started:
        sys.exit(3)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except UnicodeError as error:
        raise OSError(f"{host!r} is no host name") from error
    except socket.gaierror:
        raise
    except OSError as error:  # without the address, which Python adds to the reason
        raise OSError(error.errno, os.strerror(error.errno or 0)) from error
