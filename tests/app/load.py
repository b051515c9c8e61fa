"""The service under load on this machine: ``make test-load``. Prints what docs/measurements-service.md shows."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

from tests.app.live_server import LiveServer
from tests.app.slow_document import make_slow

EXAMPLES = Path(__file__).parents[2] / "app" / "static" / "examples"
ASYNC = {"Prefer": "respond-async", "Content-Type": "application/json"}
PATIENCE_S = 900


def tiny():
    return json.loads((EXAMPLES / "tiny.json").read_text()) | {"solver": {"workers": 1, "time_limit_s": 5}}


class Client:
    """One kept connection; as cheap as Python has it, so that the client does not measure itself."""

    def __init__(self, live):
        self._connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)

    def ask(self, method, path, document=None):
        body = None if document is None else json.dumps(document)
        self._connection.request(method, path, body, ASYNC if body else {})
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status < 300, (path, answer.status, content[:500])
        return json.loads(content) if content else None


def run_threads(count, work):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure_status(live, seconds=20, clients=16):
    """GET status by so many clients, each over and over, while one solve uses all the cores."""
    slow = make_slow(time_limit_s=seconds + 20)
    slow["solver"]["workers"] = os.cpu_count()
    job = live.wait_for_incumbent(live.submit(slow))["id"]
    times = [[] for _ in range(clients)]
    until = time.monotonic() + seconds

    def work(number):
        client = Client(live)
        while time.monotonic() < until:
            began = time.perf_counter()
            status = client.ask("GET", f"/placements/{job}/status")
            times[number].append(time.perf_counter() - began)
            assert status["state"] == "running"

    run_threads(clients, work)
    every = sorted(1000 * taken for row in times for taken in row)
    p99 = every[int(len(every) * 0.99)]
    print(
        f"GET status, {clients} clients, a solve on all {os.cpu_count()} cores: {len(every) / seconds:.0f}/s, "
        f"median {statistics.median(every):.1f} ms, p99 {p99:.1f} ms, largest {every[-1]:.1f} ms"
    )
    cancel(live, job, "discard")


def cancel(live, job, mode):
    """Seconds from the order to the finished answer."""
    began = time.perf_counter()
    live.http.post(f"/placements/{job}/cancel", json={"mode": mode}).raise_for_status()
    ended = live.wait_for_end(job)
    assert ended["state"] == "cancelled"
    assert (ended["result"] is None) == (mode == "discard")
    return time.perf_counter() - began


def measure_cancel(live, times=20):
    slow = make_slow(time_limit_s=100)
    slow["solver"]["workers"] = os.cpu_count()
    for mode in ("keep_best", "discard"):
        taken = sorted(cancel(live, live.wait_for_incumbent(live.submit(slow))["id"], mode) for _ in range(times))
        print(f"cancel, {mode}, {times} times: median {statistics.median(taken):.2f} s, largest {taken[-1]:.2f} s")
    taken = []
    for _ in range(5):
        job = live.wait_for_incumbent(live.submit(slow))["id"]
        for pid in live.list_solves():
            os.kill(pid, signal.SIGSTOP)  # as deaf as a presolve that never comes back
        taken.append(cancel(live, job, "keep_best"))
    print(f"cancel of a solve that hears nothing, grace 3 s, 5 times: largest {max(taken):.2f} s, best placement kept")


def measure_queue(live, count=1000):
    """Queue many, of several priorities, behind a solve on all cores; list them; see in which order they start."""
    blocker = make_slow(time_limit_s=600)
    blocker["solver"]["workers"] = os.cpu_count()
    blocking = live.wait_for_incumbent(live.submit(blocker))["id"]
    began = time.perf_counter()

    def send(number):
        client = Client(live)
        for place in range(number, count, 8):
            client.ask("POST", f"/placements?tag=queue&priority={place % 5}", tiny())

    run_threads(8, send)
    queued_s = time.perf_counter() - began
    began = time.perf_counter()
    listed, cursor = [], ""
    client = Client(live)
    while cursor is not None:
        page = client.ask("GET", f"/placements?tag=queue&limit=200{cursor and f'&cursor={cursor}'}")
        listed += page["placements"]
        cursor = page["next_cursor"]
    print(
        f"{count} jobs queued in {queued_s:.1f} s, listed in {time.perf_counter() - began:.2f} s ({len(listed)} found)"
    )
    cancel(live, blocking, "discard")
    began = time.perf_counter()
    wait_for_empty_queue(live)
    drained_s = time.perf_counter() - began
    jobs = live.http.get("/placements", params={"tag": "queue", "limit": 1000}).json()["placements"]
    in_order = sorted(jobs, key=lambda job: (-job["priority"], job["created_at"]))
    starts = [job["started_at"] for job in in_order]
    states = Counter(job["state"] for job in jobs)
    is_ordered = starts == sorted(starts)
    print(
        f"drained in {drained_s:.0f} s ({count / drained_s:.0f}/s), {dict(states)}, in order of priority: {is_ordered}"
    )
    return is_ordered and len(listed) == count and states == {"succeeded": count}


def wait_for_empty_queue(live):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        waiting = [
            live.http.get("/placements", params={"state": state, "limit": 1}).json()["placements"]
            for state in ("queued", "running")
        ]
        if not any(waiting):
            return
        time.sleep(0.2)
    raise TimeoutError


def measure_streams(live, count=200):
    """Event streams open at once on a running solve; each gets everything up to the end."""
    job = live.wait_for_incumbent(live.submit(make_slow(time_limit_s=100)))["id"]
    opened, kinds = threading.Semaphore(0), [[] for _ in range(count)]

    def follow(number):
        with live.http.stream("GET", f"/placements/{job}/events") as answer:
            opened.release()
            kinds[number] = [line[7:] for line in answer.iter_lines() if line.startswith("event: ")]

    began = time.perf_counter()
    threads = [threading.Thread(target=follow, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert opened.acquire(timeout=60)
    opened_s = time.perf_counter() - began
    began = time.perf_counter()
    cancel(live, job, "keep_best")
    for thread in threads:
        thread.join()
    complete = sum(row == kinds[0] and row[-1:] == ["end"] for row in kinds)
    print(
        f"{count} event streams opened in {opened_s:.1f} s; {complete} got the same events up to the end, "
        f"{time.perf_counter() - began:.1f} s after the order to cancel"
    )
    return complete == count


def measure_soak(live, count):
    """Many tiny jobs: memory and open files of the server must stay as they are."""
    server = psutil.Process(live.process.pid)
    figures = []
    client = Client(live)
    began = time.monotonic()
    for number in range(1, count + 1):
        client.ask("POST", "/placements", tiny())
        if number % 20 == 0:
            wait_for_empty_queue(live)
            client = Client(live)  # the server may have closed the idle connection
        if number % 500 == 0:
            memory, files, processes = server.memory_info().rss, server.num_fds(), len(live.list_processes())
            figures.append((number, memory, files))
            print(
                f"  after {number} jobs: {memory / 1e6:.1f} MB, {files} open files, {processes} processes", flush=True
            )
    growth = figures[-1][1] / figures[0][1] - 1
    print(f"soak of {count} jobs in {time.monotonic() - began:.0f} s: memory {100 * growth:+.1f} % after the first 500")
    return growth < 0.05 and figures[-1][2] <= figures[0][2] + 5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak", type=int, default=5000)
    arguments = parser.parse_args()
    sound = True
    with tempfile.TemporaryDirectory(prefix="placewright-load-") as folder:
        with LiveServer(folder, SLOTS=os.cpu_count(), HEARTBEAT_INTERVAL_S=5, STOP_GRACE_S=3) as live:
            measure_status(live)
            measure_cancel(live)
            sound &= measure_streams(live)
            sound &= measure_queue(live)
        with suppress(FileNotFoundError):
            (Path(folder) / "jobs.sqlite3").unlink()
        if arguments.soak:
            with LiveServer(folder, SLOTS=os.cpu_count()) as live:
                sound &= measure_soak(live, arguments.soak)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
