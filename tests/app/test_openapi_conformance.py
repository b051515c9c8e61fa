"""The service answers as its OpenAPI document says, whatever is sent: no 5xx, no undocumented status or body."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "allow_header_conformance",
    "unsupported_method",
)


def test_the_committed_document_is_what_the_service_says(client):
    committed = json.loads((Path(__file__).parents[2] / "openapi.json").read_text())
    assert client.get("/openapi.json").json() == committed


@pytest.mark.timeout(600)
def test_generated_requests_get_documented_answers(start_server, tmp_path):
    """Schemathesis; every error is documented as problem+json only, so any other body or status is found."""
    live = start_server(MAX_TIME_LIMIT_S=0.05, DEFAULT_WAIT_S=0.1, MAX_WAIT_S=0.1)
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
    options = [
        f"--checks={','.join(CHECKS)}",
        "--phases=examples,coverage,fuzzing",
        "--max-examples=5",
        "--seed=1",
        "--request-timeout=60",
    ]
    process = subprocess.run(
        [*command, f"{live.url}/openapi.json", *options, "--continue-on-failure", "--no-color"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=500,
    )
    assert process.returncode == 0, process.stdout[-5000:] + process.stderr[-2000:]
    selected, tested = (re.search(f"{word}: *(\\d+)", process.stdout)[1] for word in ("Selected", "Tested"))
    assert int(selected) == int(tested) > 15
