"""Kills whatever runs the jobs, at random moments, and looks what becomes of them: ``make test-faults``.

A round sends jobs, each with a key and until it is taken in, while the server, a solve or everything at once gets
SIGKILL; then it lets the jobs end and checks that none is lost or ends twice, nothing gets worse, nothing is left.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from os import kill

import httpx

from solver.formats import native
from solver.verification import verify
from tests.app.live_server import LiveServer
from tests.app.slow_document import make_slow

PATIENCE_S = 120
VICTIMS = ("server", "solve", "everything")


@dataclass
class Report:
    """What a round, or all of them, has shown."""

    rounds: int = 0
    jobs: int = 0
    kills: Counter = field(default_factory=Counter)
    attempts: Counter = field(default_factory=Counter)
    faults: list = field(default_factory=list)

    def add(self, other):
        self.rounds += other.rounds
        self.jobs += other.jobs
        self.kills += other.kills
        self.attempts += other.attempts
        self.faults += other.faults


class Round:
    def __init__(self, folder, seed, num_jobs, num_kills):
        self.draw = random.Random(seed)
        self.live = LiveServer(folder, SLOTS=2, MAX_ATTEMPTS=50, STOP_GRACE_S=2)
        self.num_jobs, self.num_kills = num_jobs, num_kills
        self.report = Report(rounds=1, jobs=num_jobs)
        self.documents, self.best, self.ended = {}, {}, {}
        self.is_over = threading.Event()

    def run(self):
        self.live.start()
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        killer = threading.Thread(target=self._kill)
        killer.start()
        try:
            self._submit()
            killer.join()
            self._wait()
        finally:
            self.is_over.set()
            killer.join()
            watcher.join()
            self._check()
            self.live.stop()
            left = self.live.close()
        if left:
            self._blame(f"{len(left)} orphans")
        return self.report

    def _submit(self):
        for number in range(self.num_jobs):
            document = make_slow(time_limit_s=self.draw.choice((0.3, 0.6, 1.2)), num_operators=40, num_devices=4)
            document["graph"]["name"] = f"job {number}"
            answer = self._insist(
                "POST",
                "/placements",
                json=document,
                headers={"Prefer": "respond-async", "Idempotency-Key": f"{number}"},
            )
            self.documents[answer["id"]] = document

    def _insist(self, method, path, **options):
        """The answer, however often it takes."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                answer = self.live.http.request(method, path, timeout=10, **options)
                if answer.status_code < 300:
                    return answer.json()
                if answer.status_code not in (409, 503):
                    self._blame(f"{method} {path}: {answer.status_code} {answer.text}")
                    break
            time.sleep(0.1)
        raise TimeoutError(path)

    def _kill(self):
        for _ in range(self.num_kills):
            if self.is_over.wait(self.draw.uniform(0.3, 2.0)):
                return
            victim = self.draw.choice(VICTIMS)
            self.report.kills[victim] += 1
            if victim == "solve":
                for pid in self.live.list_solves()[:1]:
                    with suppress(ProcessLookupError):
                        kill(pid, signal.SIGKILL)
                continue
            if victim == "everything":
                for pid in self.live.list_processes():
                    with suppress(ProcessLookupError):
                        kill(pid, signal.SIGKILL)
            self.live.kill()
            if self.draw.random() < 0.3 and (left := self.live.wait_for_no_processes()):
                self._blame(f"{len(left)} orphans of a killed server")
            self.live.start()

    def _watch(self):
        """What a client sees may get better, never worse; what has ended stays as it is."""
        while not self.is_over.wait(0.1):
            with suppress(httpx.TransportError):
                answer = self.live.http.get("/placements", params={"limit": 1000}, timeout=10)
                for job in answer.json()["placements"] if answer.status_code == 200 else ():
                    self._look(job)

    def _look(self, job):
        value, bound = job["objective_value"], job["best_bound"]
        best_value, best_bound = self.best.get(job["id"], (None, None))
        if best_value is not None and (value is None or value > best_value):
            self._blame(f"{job['id']}: value {best_value} became {value}")
        if best_bound is not None and (bound is None or bound < best_bound):
            self._blame(f"{job['id']}: bound {best_bound} became {bound}")
        self.best[job["id"]] = value, bound
        if job["finished_at"]:
            end = job["state"], value, bound, job["finished_at"], job["attempt"]
            if self.ended.setdefault(job["id"], end) != end:
                self._blame(f"{job['id']} ended as {self.ended[job['id']]} and as {end}")

    def _wait(self):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            jobs = self._insist("GET", "/placements?limit=1000")["placements"]
            if all(job["finished_at"] for job in jobs):
                return
            time.sleep(0.2)
        self._blame("jobs did not end")

    def _check(self):
        jobs = {job["id"]: job for job in self._insist("GET", "/placements?limit=1000")["placements"]}
        if set(jobs) != set(self.documents):
            self._blame(f"{len(set(self.documents) - set(jobs))} lost, {len(set(jobs) - set(self.documents))} too many")
        for placement_id, document in self.documents.items():
            job = self._insist("GET", f"/placements/{placement_id}")
            self.report.attempts[job["attempt"]] += 1
            self._look(jobs[placement_id])
            if job["state"] != "succeeded":
                self._blame(f"{placement_id} is {job['state']}: {job['error']}")
                continue
            verification = verify(native.from_document(document).instance, job["result"]["placement"])
            if verification.violations or verification.objective_value != job["result"]["objective_value"]:
                self._blame(f"{placement_id}: the verifier disagrees")
            with self.live.http.stream("GET", f"/placements/{placement_id}/events") as stream:
                kinds = [line.partition(": ")[2] for line in stream.iter_lines() if line.startswith("event")]
            if kinds.count("end") != 1 or kinds[-1] != "end":
                self._blame(f"{placement_id}: its events are {kinds}")

    def _blame(self, what):
        self.report.faults.append(what)


def run_rounds(rounds, num_jobs, num_kills, seed=0):
    total = Report()
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="placewright-faults-") as folder:
            total.add(Round(folder, f"{seed}/{number}", num_jobs, num_kills).run())
        print(f"round {number + 1}: {sum(total.kills.values())} kills, {len(total.faults)} faults", flush=True)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.monotonic()
    report = run_rounds(arguments.rounds, arguments.jobs, arguments.kills, arguments.seed)
    print(f"{report.rounds} rounds, {report.jobs} jobs, {time.monotonic() - began:.0f} s")
    print(f"SIGKILL: {', '.join(f'{victim} {count}' for victim, count in sorted(report.kills.items()))}")
    print(f"starts a job needed: {', '.join(f'{n}: {c} jobs' for n, c in sorted(report.attempts.items()))}")
    print(f"lost, doubled, worse, orphaned: {len(report.faults)}")
    for fault in report.faults:
        print(f"  {fault}")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
