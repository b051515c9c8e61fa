"""Solves that die, hang or overrun, and servers that go while one is running."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from solver.formats import native
from solver.verification import verify
from tests.app.live_server import LiveServer
from tests.app.slow_document import make_slow
from tests.patience import PATIENCE_S, wait_until


@pytest.fixture
def live(start_server):
    return start_server()


def test_a_killed_solve_is_tried_again_from_its_best_and_fails_in_the_end(start_server, slow, tiny):
    live = start_server(MAX_ATTEMPTS=2)
    job = live.wait_for_incumbent(live.submit(slow))
    first = job["result"]["objective_value"]
    kill_solve(live)
    job = live.wait_for(job["id"], lambda job: job["attempt"] == 2 and live.list_solves())
    assert job["result"]["objective_value"] <= first
    kill_solve(live)
    job = live.wait_for_end(job["id"])
    assert job["state"] == "failed"
    assert job["error"]["type"] == "urn:placewright:problem:solver-died"
    assert "9" in job["error"]["detail"]
    assert job["finished_at"]
    assert job["result"]["status"] == "feasible"
    assert job["result"]["objective_value"] <= first
    assert set(job["result"]["placement"]) == {operator["id"] for operator in slow["graph"]["operators"]}
    verification = verify(native.from_document(slow).instance, job["result"]["placement"])
    stages = [asdict(stage) | {"operators": list(stage.operators)} for stage in verification.stages]
    assert job["result"]["stages"] == stages != []
    # and the service goes on
    assert live.http.get("/readyz").status_code == 200
    assert live.http.post("/placements", json=tiny).json()["state"] == "succeeded"


def kill_solve(live):
    [pid] = live.list_solves()
    os.kill(pid, signal.SIGKILL)


def test_the_forkserver_may_die_too(live, tiny):
    job = live.wait_for_incumbent(live.submit(make_slow()))
    for pid in live.list_processes():
        if pid != live.process.pid:
            with contextlib.suppress(ProcessLookupError):  # the one before has taken it along
                os.kill(pid, signal.SIGKILL)
    live.discard(job["id"])
    answers = [live.http.post("/placements", json=tiny).json() for _ in range(2)]
    assert answers[-1]["state"] == "succeeded"


def test_a_solve_that_hangs_is_killed_after_its_time(start_server):
    live = start_server(OVERRUN_GRACE_S=1, STOP_GRACE_S=1)
    job = live.wait_for_incumbent(live.submit(make_slow(time_limit_s=8)))
    [pid] = live.list_solves()
    os.kill(pid, signal.SIGSTOP)
    job = live.wait_for_end(job["id"])
    assert job["state"] == "succeeded"
    assert (job["result"]["status"], job["result"]["stop_reason"]) == ("feasible", "time_limit")
    assert job["result"]["placement"]
    assert not live.list_solves()
    assert f"killing solve {pid} (overrun) [placement={job['id']}]" in live.log.read_text()


def test_no_thread_of_a_solve_takes_the_interrupt_from_the_one_that_waits_for_it(live, slow):
    live.wait_for_incumbent(live.submit(slow))
    [pid] = live.list_solves()
    masks = list_blocked_signals(pid)
    assert len(masks) > 3
    is_open = [not mask >> (signal.SIGINT - 1) & 1 for mask in masks]
    assert sum(is_open) == 1  # the kernel opens it for the thread that waits


def list_blocked_signals(pid):
    """The masks of all threads of the process."""
    masks = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            masks.append(int(re.search(r"SigBlk:\s*(\w+)", (task / "status").read_text())[1], 16))
    return masks


def test_a_solve_leaves_the_cores_to_the_server(live, slow):
    live.wait_for_incumbent(live.submit(slow))
    [pid] = live.list_solves()
    least_niceness = min(19, os.getpriority(os.PRIO_PROCESS, live.process.pid) + 10)  # there is no more than 19
    assert os.getpriority(os.PRIO_PROCESS, pid) >= least_niceness
    switch = Path("/proc/sys/kernel/sched_autogroup_enabled")
    if switch.exists() and switch.read_text().strip() == "1":
        assert Path(f"/proc/{pid}/autogroup").read_text().endswith(" nice 10\n")


def test_a_solve_that_overruns_is_asked_to_stop_first(start_server):
    # The server's clock starts after the child's, so a grace of almost nothing interrupts a solve in good order.
    live = start_server(OVERRUN_GRACE_S=0.001, MAX_TIME_LIMIT_S=3)
    job = live.wait_for_end(live.submit(make_slow(time_limit_s=3)))
    assert job["state"] == "succeeded"
    assert job["result"]["stop_reason"] == "time_limit"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_finishes_its_jobs_when_it_is_back(start_server, query, number):
    first = start_server()
    job = first.wait_for_incumbent(first.submit(make_slow(time_limit_s=8)))
    assert first.stop(number) == 128 + number
    assert not first.wait_for_no_processes()
    assert query(first, "SELECT state, attempt, owner FROM placements") == [("queued", 0, None)]
    [(spent_s,)] = query(first, "SELECT spent_s FROM placements")
    assert spent_s > 0
    second = start_server()
    known = second.read(job["id"])
    assert known["result"]["objective_value"] <= job["result"]["objective_value"]
    job = second.wait_for_end(job["id"])
    assert job["state"] == "succeeded"
    assert job["attempt"] == 1
    assert job["result"]["stop_reason"] == "time_limit"
    start = next(step for step in job["result"]["incumbents"] if step["objective_value"] is not None)
    assert (start["found_by"], start["objective_value"]) == ("hint", known["result"]["objective_value"])
    assert job["result"]["objective_value"] <= known["result"]["objective_value"]
    assert job["result"]["best_bound"] >= known["result"]["best_bound"]


def test_a_waiting_client_is_let_go_when_the_server_stops(live, slow):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(live.http.post("/placements", json=slow)))
    thread.start()
    assert wait_until(live.list_solves)
    live.stop()
    thread.join(PATIENCE_S)
    assert answers[0].status_code == 202
    assert answers[0].headers["Location"]


def test_a_request_that_is_cut_off_is_told_to_come_again(live, slow, query):
    live.wait_for_incumbent(live.submit(slow))
    with socket.create_connection(("127.0.0.1", live.port)) as half:
        half.sendall(b"POST /placements HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        half.sendall(b"Content-Length: 9\r\n\r\n{")
        for _ in range(3):  # then it has surely begun
            live.http.get("/livez")
        live.process.send_signal(signal.SIGINT)
        assert wait_until(lambda: "Shutting down" in live.log.read_text())
        assert live.stop(signal.SIGINT) == 130  # the second one ends the wait for the request
        answer = half.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"urn:placewright:problem:not-ready" in answer
    assert b"retry-after: 5" in answer.lower()
    assert "Traceback" not in live.log.read_text()
    assert query(live, "SELECT state, attempt FROM placements") == [("queued", 0)]


def test_a_killed_server_leaves_no_orphans_and_its_jobs_are_taken_up(start_server, query):
    first = start_server()
    job = first.wait_for_incumbent(first.submit(make_slow(time_limit_s=8)))
    waiting = first.submit(make_slow(time_limit_s=1))
    first.kill()
    assert not first.wait_for_no_processes()
    assert query(first, "SELECT state FROM placements WHERE owner IS NOT NULL")
    second = start_server()
    assert f"recovered from a dead dispatcher [placement={job['id']}]" in second.log.read_text()
    job = second.wait_for_end(job["id"])
    assert (job["state"], job["attempt"]) == ("succeeded", 2)
    assert "hint" in [step["found_by"] for step in job["result"]["incumbents"]]
    assert second.wait_for_end(waiting)["state"] == "succeeded"


def test_a_job_that_kills_its_server_is_given_up(start_server):
    first = start_server(MAX_ATTEMPTS=1)
    job = first.wait_for_incumbent(first.submit(make_slow()))
    first.kill()
    second = start_server(MAX_ATTEMPTS=1)
    job = second.read(job["id"])
    assert job["state"] == "failed"
    assert job["error"]["type"] == "urn:placewright:problem:too-many-attempts"
    assert job["result"]["placement"]


def test_a_second_server_keeps_its_hands_off_the_jobs(live, tmp_path, tiny):
    second = LiveServer(tmp_path).spawn()
    assert second.process.wait(PATIENCE_S) == 2
    assert second.log.read_text().splitlines()[-1].startswith("error: cannot serve on 127.0.0.1:")
    assert "another server is running the jobs of" in second.log.read_text()
    assert "Traceback" not in second.log.read_text()
    assert not second.close()
    assert live.http.post("/placements", json=tiny).json()["state"] == "succeeded"


def test_solves_never_take_more_cores_than_there_are(start_server, tiny):
    live = start_server(SLOTS=2)
    big, small = make_slow(time_limit_s=1.5), make_slow(time_limit_s=1.5)
    big["solver"]["workers"] = 2
    ids = [live.submit(document) for document in (small, big, small, small, tiny)]
    needs = dict(zip(ids, (1, 2, 1, 1, 2), strict=True))
    while not all((jobs := {i: live.read(i) for i in ids})[i]["finished_at"] for i in ids):
        assert len(live.list_solves()) <= 2
        time.sleep(0.05)
    starts = [jobs[i]["started_at"] for i in ids]
    assert starts == sorted(starts), "the queue is served in the order of creation"
    events = sorted(
        [(jobs[i]["started_at"], needs[i]) for i in ids] + [(jobs[i]["finished_at"], -needs[i]) for i in ids]
    )
    in_use = [sum(need for _, need in events[: k + 1]) for k in range(len(events))]
    assert max(in_use) == 2
    assert all(job["state"] == "succeeded" for job in jobs.values())
