"""What whoever runs the service sees: logs and traces."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.patience import wait_until

proto = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")


@pytest.fixture
def collector():
    """Receives spans as a collector does (OTLP over HTTP)."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                request = proto.ExportTraceServiceRequest.FromString(body)
                spans.extend(s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    server.server_close()


def test_a_trace_leads_from_the_request_into_the_process_of_the_solve(start_server, collector, monkeypatch, tiny):
    address, spans = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    live = start_server()
    parent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    job = live.http.post("/placements", json=tiny, headers={"traceparent": parent}).json()
    wait_until(lambda: {"placewright.job", "placewright.solve"} <= {span.name for span in spans})
    live.stop()
    ours = {span.name: span for span in spans if span.trace_id.hex() == parent.split("-")[1]}
    [request] = [span for name, span in ours.items() if "POST" in name]
    assert request.parent_span_id.hex() == parent.split("-")[2]
    assert ours["placewright.job"].parent_span_id == request.span_id
    assert ours["placewright.solve"].parent_span_id == ours["placewright.job"].span_id
    attributes = {a.key: a.value.string_value for a in ours["placewright.solve"].attributes}
    assert attributes["placement"] == job["id"]
    assert attributes["status"] == "optimal"


@pytest.mark.parametrize("kind", ["text", "json"])
def test_the_address_of_a_webhook_is_in_no_log_and_no_trace(start_server, collector, monkeypatch, tiny, kind):
    address, spans = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    live = start_server(LOG_FORMAT=kind)
    live.http.post("/placements?webhook_url=https%3A%2F%2Fexample.com%2F%3Ftoken%3DCONFIDENTIAL", json=tiny)
    live.stop()
    [request] = [span for span in spans if span.name == "POST /placements"]
    assert "url.query" in {attribute.key for attribute in request.attributes}
    assert "CONFIDENTIAL" not in str(spans)
    log = live.log.read_text()
    assert "POST /placements HTTP/1.1" in log
    assert "CONFIDENTIAL" not in log


def test_machines_get_a_json_object_a_line_that_names_the_placement(start_server, tiny):
    live = start_server(LOG_FORMAT="json")
    job = live.http.post("/placements", json=tiny).json()
    live.http.get(f"/placements/{job['id']}/status")
    live.stop()
    lines = [json.loads(line) for line in live.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    about = [line for line in lines if line.get("placement") == job["id"]]
    assert "solve starts" in [line["message"] for line in about]
    [access] = [line for line in about if line["logger"] == "uvicorn.access"]
    assert (access["method"], access["status"]) == ("GET", 200)


def test_people_get_the_placement_at_the_end_of_the_line(start_server, tiny):
    live = start_server()
    job = live.http.post("/placements", json=tiny).json()
    live.stop()
    assert f"solve starts [placement={job['id']} attempt=1]" in live.log.read_text()
