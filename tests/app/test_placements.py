"""Solving over HTTP: waiting, not waiting, and what comes back."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json

import httpx
import pytest

from app.schemas import Placement
from tests.patience import PATIENCE_S, wait_until


def test_solves_while_the_client_waits(client, tiny):
    body = json.dumps(tiny).encode()
    answer = client.post("/placements", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert job["state"] == "succeeded"
    assert job["error"] is None
    assert job["attempt"] == 1
    assert job["request_digest"] == hashlib.sha256(body).hexdigest()
    assert job["created_at"] <= job["started_at"] <= job["heartbeat_at"] <= job["finished_at"]
    result = job["result"]
    assert result["status"] == "optimal"
    assert result["stop_reason"] == "proved"
    # a on one GPU and b on the other: 2 + 0.5 and 3 + 0.5, against 5 on one
    assert result["objective_value"] == pytest.approx(3.5)
    assert result["relative_gap"] <= 1e-6
    assert set(result["placement"]) == {"a", "b"}
    assert client.get(f"/placements/{job['id']}").json() == job
    # what the API documents is what it says, field by field
    Placement.model_validate(job)
    assert set(result) == set(client.get("/openapi.json").json()["components"]["schemas"]["Answer"]["properties"])


def test_answers_at_once_when_asked_to(server, client, slow):
    answer = client.post("/placements", json=slow, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Location"] == f"/placements/{answer.json()['id']}"
    assert answer.json()["state"] in ("queued", "running")
    assert client.get(answer.headers["Location"]).json()["id"] == answer.json()["id"]
    server.discard(answer.json()["id"])


def test_a_wait_that_runs_out_loses_nothing(server, client, slow):
    slow["solver"]["time_limit_s"] = 8
    answer = client.post("/placements", json=slow, headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert answer.headers["Location"]
    job = server.wait_for_end(answer.json()["id"])
    assert job["state"] == "succeeded"
    assert job["result"]["status"] == "feasible"
    assert job["result"]["stop_reason"] == "time_limit"
    assert set(job["result"]["placement"]) == {operator["id"] for operator in slow["graph"]["operators"]}


def test_the_default_wait_is_the_operators_choice(start_server, slow):
    live = start_server(DEFAULT_WAIT_S=0.5)
    answer = live.http.post("/placements", json=slow)
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers


def test_a_placement_that_cannot_exist_is_a_success(client, tiny):
    for operator in tiny["graph"]["operators"]:
        operator["memory_bytes"] = 2 * 17185374208
    tiny["cluster"]["devices"] = tiny["cluster"]["devices"][:1]
    answer = client.post("/placements", json=tiny)
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert job["state"] == "succeeded"
    assert job["result"]["status"] == "infeasible"
    assert job["result"]["placement"] is None
    assert job["result"]["infeasibility"]
    assert job["error"] is None


def test_a_running_job_shows_its_best_so_far(server, slow):
    job = server.wait_for_incumbent(server.submit(slow))
    assert job["finished_at"] is None
    assert job["result"]["status"] == "feasible"
    assert job["result"]["stop_reason"] is None
    assert job["result"]["objective_value"] > 0
    assert set(job["result"]["placement"]) == {operator["id"] for operator in slow["graph"]["operators"]}
    server.wait_for(job["id"], lambda later: later["heartbeat_at"] > job["heartbeat_at"])
    server.discard(job["id"])


def test_a_client_that_hangs_up_does_not_stop_its_solve(server, client, query, slow):
    slow["graph"]["name"] = "hung up"
    slow["solver"]["time_limit_s"] = 5
    body = json.dumps(slow)
    soon = httpx.Timeout(PATIENCE_S, read=1)
    with pytest.raises(httpx.ReadTimeout):
        client.post("/placements", content=body, headers={"Content-Type": "application/json"}, timeout=soon)
    digest = hashlib.sha256(body.encode()).hexdigest()
    sql = f"SELECT id FROM placements WHERE request_digest = '{digest}'"
    [(placement_id,)] = wait_until(lambda: query(server, sql))
    job = server.wait_for_end(placement_id)
    assert job["state"] == "succeeded"
    assert job["result"]["placement"]


def test_the_service_caps_time_and_workers(start_server, slow):
    live = start_server(MAX_TIME_LIMIT_S=1, MAX_WORKERS=1)
    slow["solver"] |= {"time_limit_s": 1000, "workers": 64}
    job = live.wait_for_end(live.submit(slow))
    assert job["state"] == "succeeded"
    assert job["result"]["stop_reason"] == "time_limit"
    assert job["result"]["solver"]["workers"] == 1


def test_gzip_is_accepted(client, tiny):
    body = gzip.compress(json.dumps(tiny).encode())
    headers = {"Content-Type": "application/json; charset=utf-8", "Content-Encoding": "gzip"}
    answer = client.post("/placements", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"]["status"] == "optimal"
    assert answer.json()["request_digest"] == hashlib.sha256(json.dumps(tiny).encode()).hexdigest()


def test_names_of_any_script_come_back_as_they_were(client, tiny):
    renamed = copy.deepcopy(tiny)
    names = {"a": "слой/注意 <b>", "b": "b"}
    for operator in renamed["graph"]["operators"]:
        operator["id"] = names[operator["id"]]
    renamed["graph"]["edges"][0]["source"] = names["a"]
    answer = client.post("/placements", json=renamed)
    assert set(answer.json()["result"]["placement"]) == set(names.values())
