"""The HTTP contract beside solving: lists, status, progress, cancelling, keys, and what can be asked beforehand."""

from __future__ import annotations

import gzip
import json
import threading
import uuid

import httpx
import pytest

from app.schemas import (
    IncumbentList,
    Limits,
    PlacementList,
    PlacementStatus,
    Solvers,
)
from app.settings import Settings
from tests.app.live_server import LiveServer
from tests.app.problem_checks import check
from tests.app.slow_document import make_slow
from tests.patience import PATIENCE_S, wait_until

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A server of two cores for the tests that keep one of them busy."""
    with LiveServer(tmp_path_factory.mktemp("contract")) as started:
        yield started


@pytest.fixture
def http(live):
    return live.http


@pytest.fixture
def running(live):
    """A running placement that has found something; cancelled at the end."""
    job = live.wait_for_incumbent(live.submit(make_slow()))
    yield job["id"]
    live.discard(job["id"])


def read_stream(http, placement_id, **options):
    """The events of a stream that ends by itself, as (id, kind, data)."""
    events = []
    with http.stream("GET", f"/placements/{placement_id}/events", **options) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        fields = {}
        for line in answer.iter_lines():
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
                fields = {}
    return events


# --- lists and status


def test_lists_by_state_and_tag_page_by_page(client, tiny):
    tag = f"t-{uuid.uuid4()}"
    made = [client.post("/placements", params={"tag": [tag, "all"]}, json=tiny).json()["id"] for _ in range(3)]
    first = client.get("/placements", params={"tag": tag, "limit": 2}).json()
    PlacementList.model_validate(first)
    second = client.get("/placements", params={"tag": tag, "limit": 2, "cursor": first["next_cursor"]}).json()
    assert [job["id"] for job in first["placements"] + second["placements"]] == made[::-1]
    assert second["next_cursor"] is None
    assert first["placements"][0]["tags"] == ["all", tag]
    assert client.get("/placements", params={"tag": tag, "state": "failed"}).json()["placements"] == []
    assert len(client.get("/placements", params={"tag": tag, "state": "succeeded"}).json()["placements"]) == 3


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": "many"}, {"state": "asleep"}, {"cursor": "é"}, {"cursor": "//"}, {"tag": "a b"}]
)
def test_lists_refuse_what_they_do_not_know(client, query):
    check(client.get("/placements", params=query), 422, "invalid-parameter")


def test_status_is_small_and_tells_the_place_in_the_queue(live, http, running):
    status = http.get(f"/placements/{running}/status")
    PlacementStatus.model_validate(status.json())
    assert status.headers["Retry-After"]
    assert status.json()["state"] == "running"
    assert status.json()["objective_value"] > 0
    assert status.json()["relative_gap"] >= 0
    assert status.json()["elapsed_s"] > 0
    assert len(status.content) < 2000
    big = make_slow()
    big["solver"]["workers"] = 2  # has to wait
    waiting = [live.submit(big) for _ in range(2)]
    positions = [http.get(f"/placements/{job}/status").json()["queue_position"] for job in waiting]
    assert positions == [0, 1]
    urgent = http.post("/placements", params={"priority": 9}, json=big, headers=ASYNC).json()["id"]
    assert http.get(f"/placements/{urgent}/status").json()["queue_position"] == 0
    for job in (*waiting, urgent):
        answer = http.post(f"/placements/{job}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")


# --- entity tags and long polls


def test_an_unchanged_placement_is_not_sent_again(client, tiny):
    answer = client.post("/placements", json=tiny)
    address = f"/placements/{answer.json()['id']}"
    again = client.get(address, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == answer.headers["ETag"]
    assert client.get(address, headers={"If-None-Match": '"0", W/"nothing"'}).status_code == 200
    assert client.get(address, headers={"If-None-Match": "*"}).status_code == 304


def test_a_long_poll_with_a_tag_ends_with_the_next_change(http, running):
    address = f"/placements/{running}"
    tag = http.get(address).headers["ETag"]
    canceller = threading.Timer(0.5, http.post, [f"{address}/cancel"])
    canceller.start()
    answer = http.get(address, headers={"If-None-Match": tag, "Prefer": "wait=100"})
    assert answer.status_code == 200
    assert answer.headers["ETag"] != tag
    canceller.join()


def test_answers_are_packed_on_request(client, tiny):
    job = client.post("/placements", json=tiny).json()
    packed = client.get(f"/placements/{job['id']}", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in client.get("/livez", headers={"Accept-Encoding": "gzip"}).headers


# --- progress


def test_incumbents_are_numbered_and_stay(http, running):
    first = http.get(f"/placements/{running}/incumbents").json()
    IncumbentList.model_validate(first)

    def list_some():
        listed = http.get(f"/placements/{running}/incumbents").json()["incumbents"]
        return len(listed) > 1 and listed

    steps = wait_until(list_some)
    numbers = [step["sequence"] for step in steps]
    assert numbers == sorted(set(numbers)) != []
    again = http.get(f"/placements/{running}/incumbents", params={"limit": len(steps)}).json()["incumbents"]
    assert again == steps
    rest = http.get(f"/placements/{running}/incumbents", params={"after": numbers[0], "limit": len(steps) - 1}).json()
    assert rest["incumbents"] == steps[1:]
    values = [step["objective_value"] for step in steps if step["objective_value"] is not None]
    assert values == sorted(values, reverse=True)


def test_events_are_replayed_from_where_the_client_was_and_end_with_the_end(client, tiny):
    job = client.post("/placements", json=tiny).json()
    events = read_stream(client, job["id"])
    assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
    kinds = [kind for _, kind, _ in events]
    assert kinds[:2] == ["state", "state"]
    assert kinds[-1] == "end"
    assert "incumbent" in kinds
    states = [data["state"] for _, kind, data in events if kind == "state"]
    assert states == ["queued", "running", "succeeded"]
    assert events[-1][2]["objective_value"] == job["result"]["objective_value"]
    assert read_stream(client, job["id"], headers={"Last-Event-ID": "2"}) == events[2:]
    assert read_stream(client, job["id"], params={"after": len(events) - 1}) == events[-1:]
    assert read_stream(client, job["id"], headers={"Last-Event-ID": str(len(events))}) == []
    assert read_stream(client, job["id"], headers={"Last-Event-ID": "nonsense"}) == events


def test_events_come_while_the_solve_runs(http, running):
    seen = []
    with http.stream("GET", f"/placements/{running}/events") as answer:
        for line in answer.iter_lines():
            if line.startswith("event: "):
                seen.append(line.removeprefix("event: "))
            if seen.count("incumbent") == 1 and len(seen) == 3:
                assert http.post(f"/placements/{running}/cancel").status_code == 202
    assert seen[-1] == "end"


def test_a_log_is_read_in_pieces(http, running):
    def read_log():
        answer = http.get(f"/placements/{running}/log")
        return "objective" in answer.text and answer

    whole = wait_until(read_log)
    assert whole, "nothing of the search is in the log"
    assert whole.headers["Content-Type"] == "text/plain; charset=utf-8"
    end = int(whole.headers["Next-Byte"])
    assert end == len(whole.content)
    assert http.get(f"/placements/{running}/log", params={"from_byte": 5}).content.startswith(whole.content[5:])
    check(http.get(f"/placements/{running}/log", params={"from_byte": 10**9}), 416, "log-out-of-range")
    check(http.get(f"/placements/{running}/log", params={"from_byte": -1}), 422, "invalid-parameter")


# --- cancelling and deleting


def test_cancelling_keeps_the_best(live, http):
    job = live.wait_for_incumbent(live.submit(make_slow()))
    address = f"/placements/{job['id']}"
    answer = http.post(f"{address}/cancel", json={"mode": "keep_best"})
    assert answer.status_code == 202
    PlacementStatus.model_validate(answer.json())
    assert answer.json()["state"] in ("cancelling", "cancelled")
    assert answer.headers["Location"] == address
    ended = live.wait_for_end(job["id"])
    assert ended["state"] == "cancelled"
    assert not live.list_solves()
    assert ended["result"]["stop_reason"] == "cancelled"
    assert ended["result"]["objective_value"] <= job["result"]["objective_value"]
    assert http.post(f"{address}/cancel").status_code == 202  # again: nothing changes
    assert http.delete(address).status_code == 204
    check(http.get(address), 404, "placement-not-found")


def test_cancelling_may_discard_everything(live):
    job = live.wait_for_incumbent(live.submit(make_slow()))
    ended = live.discard(job["id"])
    assert (ended["state"], ended["result"]) == ("cancelled", None)


def test_a_running_placement_is_not_deleted(http, running):
    check(http.delete(f"/placements/{running}"), 409, "not-finished")


def test_what_has_ended_is_not_cancelled(client, tiny):
    job = client.post("/placements", json=tiny).json()
    check(client.post(f"/placements/{job['id']}/cancel"), 409, "already-finished")


@pytest.mark.parametrize(
    ("body", "content_type", "status", "kind"),
    [
        (b'{"mode": "perhaps"}', "application/json", 422, "invalid-document"),
        (b'{"mood": "discard"}', "application/json", 422, "invalid-document"),
        (b"[]", "application/json", 422, "invalid-document"),
        (b"{", "application/json", 400, "unreadable-document"),
        (b"{}", "text/plain", 415, "unsupported-media-type"),
    ],
)
def test_cancelling_wants_to_be_understood(client, body, content_type, status, kind):
    address = f"/placements/{uuid.uuid4()}/cancel"
    check(client.post(address, content=body, headers={"Content-Type": content_type}), status, kind)


def test_every_address_of_an_unknown_placement_is_not_found(client):
    for placement_id in (str(uuid.uuid4()), "validate", "%00", "x" * 1000):
        address = f"/placements/{placement_id}"
        for part in ("", "/status", "/incumbents", "/events", "/log"):
            check(client.get(address + part), 404, "placement-not-found")
        check(client.delete(address), 404, "placement-not-found")
        check(client.post(f"{address}/cancel"), 404, "placement-not-found")


# --- what comes with a request


def test_a_repeated_key_leads_to_the_first_placement(client, tiny):
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    first = client.post("/placements", json=tiny, headers=headers)
    again = client.post("/placements", json=tiny, headers=headers)
    assert again.status_code == 200
    assert again.json() == first.json()
    other = tiny | {"solver": {"seed": 1}}
    check(client.post("/placements", json=other, headers=headers), 422, "idempotency-key-reused")
    check(client.post("/placements", params={"priority": 1}, json=tiny, headers=headers), 422, "idempotency-key-reused")


def test_a_key_in_flight_is_a_conflict_until_its_client_is_gone(live, http):
    slow = make_slow()
    headers = {"Idempotency-Key": str(uuid.uuid4())}

    def send_again():
        answer = http.post("/placements", json=slow, headers=headers | ASYNC)
        if answer.status_code == 409:
            check(answer, 409, "request-in-flight")
        return answer

    def send_once_more(status):
        answer = send_again()
        return answer.status_code == status and answer

    with pytest.raises(httpx.ReadTimeout):
        http.post("/placements", json=slow, headers=headers, timeout=httpx.Timeout(PATIENCE_S, read=1))
    first = wait_until(lambda: send_once_more(202))
    again = send_again()
    assert again.json()["id"] == first.json()["id"]

    def wait_for_the_end():  # which may itself come while another is being answered
        answer = http.post("/placements", json=slow, headers=headers | {"Prefer": "wait=100"})
        return answer.status_code != 409

    waiting = threading.Thread(target=wait_until, args=[wait_for_the_end])
    waiting.start()
    assert wait_until(lambda: send_once_more(409))
    live.discard(again.json()["id"])
    waiting.join(PATIENCE_S)


@pytest.mark.usefixtures("running")
def test_a_request_that_must_not_wait_fails_at_once(http, tiny):
    big = make_slow()
    big["solver"]["workers"] = 2
    answer = http.post("/placements", params={"max_wait_s": 0}, json=big)
    check(answer, 429, "no-free-slots")
    assert answer.headers["Retry-After"]
    tiny["solver"] = {"workers": 1}
    assert http.post("/placements", params={"max_wait_s": 0}, json=tiny).status_code == 200
    expired = http.post("/placements", params={"max_wait_s": 0.2}, json=big)
    assert expired.status_code == 200
    assert expired.json()["state"] == "expired"
    assert expired.json()["error"]["type"] == "urn:placewright:problem:waited-too-long"


def test_a_placement_starts_from_an_earlier_one(http):
    slow = make_slow(time_limit_s=3)
    first = http.post("/placements", json=slow).json()
    again = http.post("/placements", params={"warm_start": first["id"]}, json=slow).json()
    values = {step["found_by"]: step["objective_value"] for step in again["result"]["incumbents"]}
    assert values["hint"] == first["result"]["objective_value"]
    assert again["result"]["objective_value"] <= first["result"]["objective_value"]
    problem = check(
        http.post("/placements", params={"warm_start": str(uuid.uuid4())}, json=slow), 422, "invalid-parameter"
    )
    assert problem["issues"][0]["pointer"] == "/query/warm_start"


@pytest.mark.parametrize(
    "query",
    [
        {"priority": 101},
        {"priority": "high"},
        {"max_wait_s": -1},
        {"max_wait_s": "nan"},
        {"warm_start": "latest"},
        {"tag": "a b"},
        {"tag": [f"t{i}" for i in range(21)]},
        {"colour": "red"},
    ],
)
def test_wishes_that_make_no_sense(client, tiny, query):
    check(client.post("/placements", params=query, json=tiny), 422, "invalid-parameter")


def test_a_full_queue_takes_no_more(start_server):
    live = start_server(MAX_QUEUED=1, SLOTS=1)
    live.wait_for_incumbent(live.submit(make_slow()))
    live.submit(make_slow())
    check(live.http.post("/placements", json=make_slow(), headers=ASYNC), 429, "queue-full")


# --- what can be asked beforehand, and for whoever runs it


def test_the_service_says_beforehand_what_it_can_and_what_it_allows(client, tiny):
    limits = client.get("/limits").json()
    Limits.model_validate(limits)
    assert limits["max_body_bytes"] == 1024 * 1024
    assert limits["slots"] == limits["max_workers"] == 2
    assert limits["memory_limit_bytes"] == Settings().memory_limit_bytes
    solvers = client.get("/solvers").json()
    Solvers.model_validate(solvers)
    assert solvers["versions"]["placewright"]
    questions = {(q["objective"], q["partition"], q["interconnect"]): q["constraints"] for q in solvers["questions"]}
    for objective in ("throughput", "latency", "cost"):
        document = tiny | {"objective": {"kind": objective}}
        is_supported = client.post("/placements/validate", json=document).json()["supported"]
        assert is_supported == ((objective, "acyclic", "host") in questions)
    assert {"pinned", "forbidden"} <= set(questions["throughput", "acyclic", "host"])
    example = client.get("/examples/tiny").json()
    assert client.post("/placements", json=example).json()["state"] == "succeeded"
    check(client.get("/examples/none"), 404, "example-not-found")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_monitors_may_leave_out_the_body(client, path):
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_figures_for_prometheus(client, tiny):
    job = client.post("/placements", json=tiny).json()
    client.get(f"/placements/{job['id']}/status")
    client.request("INVENTED", "/livez")
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    figures = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert float(figures['placewright_placements{state="succeeded"}']) >= 1
    assert float(figures["placewright_slots"]) == 2
    assert float(figures["placewright_database_up"]) == 1
    assert float(figures['placewright_solve_seconds_count{outcome="succeeded"}']) >= 1
    route = 'method="GET",route="/placements/{placement_id}/status",status="200"'
    assert float(figures[f"placewright_request_seconds_count{{{route}}}"]) >= 1
    assert 'method="other",route="/livez",status="405"' in answer.text
    assert "INVENTED" not in answer.text
    assert job["id"] not in answer.text


def test_pages_of_elsewhere_may_not_use_it_unless_told(client, start_server):
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    assert "Access-Control-Allow-Origin" not in client.options("/placements", headers=asked).headers
    live = start_server(CORS_ORIGINS='["https://app.example"]')
    allowed = live.http.options("/placements", headers=asked)
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example"
    other = live.http.options("/placements", headers=asked | {"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_gzip_in_for_every_document(client, tiny):
    body = gzip.compress(json.dumps({"request": tiny, "placement": {"a": "gpu:0", "b": "gpu:0"}}).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert client.post("/placements/evaluate", content=body, headers=headers).json()["valid"]
