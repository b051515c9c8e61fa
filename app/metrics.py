"""Figures for Prometheus. A registry per service, so that several in one process do not mix."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.database import log_failure
from app.placement_records import QueueFigures

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SOLVE_BUCKETS_S = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600)
_REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 60, 600)
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_log = logging.getLogger(__name__)


class Metrics:
    """What is counted."""

    def __init__(self, read_queue: Callable[[], QueueFigures]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Queue(read_queue))
        self.requests = Histogram(
            "placewright_request_seconds",
            "Time to the end of an HTTP answer.",
            ("method", "route", "status"),
            buckets=_REQUEST_BUCKETS_S,
            registry=self._registry,
        )
        self.requests_open = Gauge(
            "placewright_requests_open", "HTTP requests being answered.", registry=self._registry
        )
        self.solves = Histogram(
            "placewright_solve_seconds",
            "Time of a solve here, by how the attempt ended.",
            ("outcome",),
            buckets=_SOLVE_BUCKETS_S,
            registry=self._registry,
        )
        self.solves_running = Gauge("placewright_solves_running", "Solves running here.", registry=self._registry)
        self.incumbents = Counter(
            "placewright_incumbents", "Steps of searches stored from here.", registry=self._registry
        )
        self.leases_lost = Counter(
            "placewright_leases_lost", "Jobs that another dispatcher took over.", registry=self._registry
        )

    def expose(self) -> bytes:
        """Everything, in the text format."""
        return generate_latest(self._registry)


class _Queue(Collector):
    """Read from the database when somebody asks."""

    def __init__(self, read: Callable[[], QueueFigures]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        """Nothing beforehand: registering must not ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            figures = self._read()
        except SQLAlchemyError as error:
            log_failure(_log, "no figures of the queue", error)
            figures = None
        yield GaugeMetricFamily("placewright_database_up", "Whether the database answers.", value=figures is not None)
        if figures is None:
            return
        jobs = GaugeMetricFamily("placewright_placements", "Placements in the database.", labels=["state"])
        for state, count in figures.states.items():
            jobs.add_metric([state], count)
        yield jobs
        yield GaugeMetricFamily("placewright_slots", "Cores of all live dispatchers.", value=figures.slots)
        yield GaugeMetricFamily(
            "placewright_queue_age_seconds", "How long the oldest queued placement has waited.", value=figures.oldest_s
        )


class MeasuredRequests:
    """Counts and times requests by their route, never by their address: a client cannot make up labels."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        began = time.perf_counter()

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.requests_open.inc()
        try:
            await self._app(scope, receive, note_status)
        finally:
            self._metrics.requests_open.dec()
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, status).observe(time.perf_counter() - began)
