"""OpenTelemetry: from the request over the dispatcher into the process of the solve. Off unless it is configured.

The spans of requests are FastAPI's own, and so is the reading of the ``OTEL_…`` variables there. Without the SDK, or
without an address to export to, every span here is the API's empty one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:  # a solve does without
    from starlette.types import ASGIApp, Receive, Scope, Send

_tracer = trace.get_tracer("placewright")
_format = TraceContextTextMapPropagator()
_FLUSH_MS = 2000


class UntracedQueries:
    """Takes the query out of the spans of requests: there may be a secret in the address of a webhook."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through."""
        if scope.get("query_string"):
            trace.get_current_span().set_attribute("url.query", "REDACTED")
        await self._app(scope, receive, send)


def current_parent() -> str | None:
    """The present span as a W3C ``traceparent``, to be continued elsewhere."""
    carrier: dict[str, str] = {}
    _format.inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def span(name: str, parent: str | None, **attributes: str | float) -> Iterator[trace.Span]:
    """A span that continues ``parent``; the block runs inside it."""
    context = _format.extract({"traceparent": parent} if parent else {})
    with _tracer.start_as_current_span(name, context, attributes=attributes) as opened:
        yield opened


@contextmanager
def exported() -> Iterator[None]:
    """For a process that FastAPI does not set up: spans of the block are exported, if that is configured."""
    endpoint = os.getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint or os.getenv("OTEL_SDK_DISABLED", "").lower() == "true":
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:  # the extra "telemetry" is not installed
        yield
        return
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.force_flush(_FLUSH_MS)
        provider.shutdown()
