"""Everything that can be wrong with a request, and the problem document that says so."""

from __future__ import annotations

import gzip
import json
import socket
import sqlite3

import pytest

from tests.app.problem_checks import check
from tests.patience import wait_until

JSON = {"Content-Type": "application/json"}


def post(client, body, **headers):
    return client.post("/placements", content=body, headers=JSON | headers)


def test_unknown_addresses(client):
    check(client.get("/nowhere"), 404, "not-found")
    check(client.get("/static/nowhere"), 404, "not-found")
    check(client.get("/placements/nowhere"), 404, "placement-not-found")
    check(client.get("/placements/%00%F0%9F%92%A9"), 404, "placement-not-found")


def test_wrong_method(client):
    answer = client.put("/placements")
    check(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET, POST"
    answer = client.put("/placements/x")
    check(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "DELETE, GET"


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", ""]
)
def test_only_json(client, tiny, content_type):
    answer = client.post("/placements", content=json.dumps(tiny), headers={"Content-Type": content_type})
    check(answer, 415, "unsupported-media-type")


def test_only_gzip(client, tiny):
    answer = post(client, json.dumps(tiny), **{"Content-Encoding": "br"})
    check(answer, 415, "unsupported-media-type")
    assert "gzip" in answer.headers["Accept-Encoding"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe{}",
        b'{"a": 1} {"a": 2}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schema_version": ' + b"9" * 100_000 + b"}",
    ],
    ids=["empty", "cut", "words", "utf-16", "two", "deep array", "deep object", "huge integer"],
)
def test_unreadable_documents(client, body):
    check(post(client, body), 400, "unreadable-document")


@pytest.mark.parametrize("body", [b"null", b"7", b"[]", b'"text"', b"true"])
def test_documents_of_another_shape(client, body):
    problem = check(post(client, body), 422, "invalid-document")
    assert problem["num_issues"] == len(problem["issues"]) == 1
    assert problem["issues"][0]["pointer"] == ""


def test_all_faults_come_at_once(client, tiny):
    tiny["graph"]["operators"][0]["memory_bytes"] = -1
    tiny["graph"]["edges"][0]["target"] = "ghost"
    tiny["cluster"]["devices"][1]["flavour"] = "fast"
    tiny["objective"]["kind"] = "happiness"
    problem = check(client.post("/placements", json=tiny), 422, "invalid-document")
    assert {issue["pointer"] for issue in problem["issues"]} == {
        "/graph/operators/0/memory_bytes",
        "/graph/edges/0/target",
        "/cluster/devices/1/flavour",
        "/objective/kind",
    }
    assert problem["num_issues"] == 4
    assert all(issue["code"] and issue["message"] and issue["hint"] for issue in problem["issues"])


def test_a_thousand_faults(client, tiny):
    tiny["graph"]["edges"] = [{"source": f"ghost{i}", "target": "b"} for i in range(1000)]
    problem = check(client.post("/placements", json=tiny), 422, "invalid-document")
    assert problem["num_issues"] == len(problem["issues"]) == 1000
    assert [issue["pointer"] for issue in problem["issues"]] == [f"/graph/edges/{i}/source" for i in range(1000)]


def test_more_faults_than_are_listed(client, tiny):
    tiny["graph"]["edges"] = [{"source": f"ghost{i}", "target": "b"} for i in range(1500)]
    problem = check(client.post("/placements", json=tiny), 422, "invalid-document")
    assert len(problem["issues"]) == 1000
    assert problem["num_issues"] == 1500


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(client, tiny, number):
    body = json.dumps(tiny).replace('"gpu": 2.0', f'"gpu": {number}')
    assert number in body
    answer = post(client, body)
    assert answer.status_code in (400, 422), answer.text
    json.loads(answer.content, parse_constant=pytest.fail)


def test_lone_surrogates(client, tiny):
    tiny["graph"]["operators"][0]["id"] = "\ud800"
    tiny["graph"]["edges"] = []
    check(client.post("/placements", content=json.dumps(tiny), headers=JSON), 422, "invalid-document")


def test_integers_beyond_any_machine(client, tiny):
    tiny["graph"]["operators"][0]["memory_bytes"] = 10**4000
    problem = check(client.post("/placements", content=json.dumps(tiny), headers=JSON), 422, "invalid-document")
    assert problem["issues"][0]["pointer"] == "/graph/operators/0/memory_bytes"


def test_long_texts_are_not_repeated_in_full(client, tiny):
    tiny["graph"]["edges"][0]["target"] = "x" * 500_000
    tiny["constraints"]["pinned"] = {"y" * 100_000: "gpu:0"}
    answer = client.post("/placements", json=tiny)
    check(answer, 422, "invalid-document")
    assert len(answer.content) < 20_000


@pytest.mark.parametrize("is_chunked", [False, True])
def test_large_bodies(client, is_chunked):
    body = b" " * (1024 * 1024 + 1)
    content = iter([body[:1000], body[1000:]]) if is_chunked else body
    problem = check(post(client, content), 413, "body-too-large")
    assert "1048576" in problem["detail"]


def test_bodies_that_are_large_only_once_unpacked(client):
    body = gzip.compress(b" " * (200 * 1024 * 1024))
    assert len(body) < 1024 * 1024
    check(post(client, body, **{"Content-Encoding": "gzip"}), 413, "body-too-large")


@pytest.mark.parametrize("is_packed", [False, True])
def test_the_body_of_a_cancellation_is_small(client, is_packed):
    """It is read in the event loop, which must not stand still."""
    body = b'{"mode": "discard"' + b" " * 4096 + b"}"
    headers = JSON | ({"Content-Encoding": "gzip"} if is_packed else {})
    address = "/placements/00000000-0000-4000-8000-000000000000/cancel"
    answer = client.post(address, content=gzip.compress(body) if is_packed else body, headers=headers)
    assert "4096" in check(answer, 413, "body-too-large")["detail"]
    answer = client.post(address, content=gzip.compress(b"{}") if is_packed else b"{}", headers=headers)
    check(answer, 404, "placement-not-found")


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda _: b"{}", lambda b: b[:20] + b"\0" + b[21:]])
def test_broken_gzip(client, tiny, damage):
    body = damage(gzip.compress(json.dumps(tiny).encode()))
    check(post(client, body, **{"Content-Encoding": "gzip"}), 400, "unreadable-document")


def test_what_nothing_here_can_solve_is_refused_at_the_door(client, tiny):
    tiny["objective"] = {"kind": "latency"}
    answer = client.post("/placements", json=tiny)
    if answer.status_code != 200:  # until there is a method for it
        problem = check(answer, 422, "unsupported-instance")
        assert problem["issues"][0]["pointer"] == "/objective/kind"


def test_refused_documents_leave_no_job(server, client, query, tiny):
    [(before,)] = query(server, "SELECT count(*) FROM placements")
    tiny["graph"]["edges"][0]["target"] = "ghost"
    client.post("/placements", json=tiny)
    assert query(server, "SELECT count(*) FROM placements") == [(before,)]


def test_a_defect_shows_no_traceback(server, client, tiny):
    job = client.post("/placements", json=tiny).json()
    with sqlite3.connect(server.database, timeout=10) as connection:
        connection.execute(
            "UPDATE documents SET content = 'broken' WHERE kind = 'result' AND placement_id = ?", [job["id"]]
        )
    check(client.get(f"/placements/{job['id']}"), 500, "internal-error")
    assert client.get("/livez").status_code == 200


def test_a_client_that_goes_in_the_middle_of_its_body_is_no_defect(start_server):
    live = start_server()
    head = "POST /placements HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", live.port)) as connection:
        connection.sendall(f"{head}{{".encode())
    assert wait_until(lambda: 'route="/placements",status="400"' in live.http.get("/metrics").text)
    assert "Traceback" not in live.log.read_text()


def test_a_lost_database_is_unavailable_not_a_defect(start_server, tiny):
    live = start_server()
    with sqlite3.connect(live.database, timeout=10) as connection:
        connection.execute("ALTER TABLE placements RENAME TO lost")
    check(live.http.get("/readyz"), 503, "database-unavailable")
    answer = live.http.post("/placements", json=tiny)
    check(answer, 503, "database-unavailable")
    assert answer.headers["Retry-After"]
    assert live.http.get("/livez").status_code == 200
    figures = live.http.get("/metrics")
    assert figures.status_code == 200
    assert "\nplacewright_database_up 0.0\n" in figures.text
    assert 'route="/placements",status="503"' in figures.text
    with sqlite3.connect(live.database, timeout=10) as connection:
        connection.execute("ALTER TABLE lost RENAME TO placements")
    assert live.http.post("/placements", json=tiny).status_code == 200
    assert live.http.get("/readyz").status_code == 200
