"""A soak of the service: thousands of tiny placements through the client, and what they leave behind.

``python -m benchmarks.soak --jobs 5000`` starts a server on 127.0.0.1 with a SQLite file of its own, sends the jobs,
and reports memory and open files after the first tenth and at the end. With ``--database postgresql://…`` it starts an
API and a dispatcher that share that database. It ends by itself, and exits with 1 when a placement was lost, memory
grew by more than 5 %, or files or processes were left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil

from app.client import AsyncClient, Options, Retry

_EXAMPLE = Path(__file__).parents[1] / "app" / "static" / "examples" / "tiny.json"
_START_S = 60.0
_SETTLE_S = 3.0
_MAX_GROWTH = 0.05
_STATUS_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds."""

    memory_bytes: int
    """Resident, of this process alone."""
    num_files: int
    num_threads: int
    num_children: int


def measure(process: psutil.Process) -> Footprint:
    """What the process holds now."""
    with process.oneshot():
        children = process.children(recursive=True)
        return Footprint(process.memory_info().rss, process.num_fds(), process.num_threads(), len(children))


Processes = dict[str, psutil.Process]
"""By what they do."""


def measure_all(processes: Processes) -> dict[str, Footprint]:
    """What each of them holds now."""
    return {name: measure(process) for name, process in processes.items()}


async def soak(url: str, processes: Processes, num_jobs: int, num_clients: int, deadline: float) -> dict[str, Any]:
    """Send the jobs and wait for each."""
    idle = measure_all(processes)
    document = json.loads(_EXAMPLE.read_bytes()) | {"solver": {"time_limit_s": 30, "workers": 1, "seed": 0}}
    queue = iter(range(num_jobs))
    states: dict[str, int] = {}
    ids: set[str] = set()
    latencies_s: list[float] = []
    warm: dict[str, Footprint] | None = None
    run = uuid4()

    async with AsyncClient(url, retry=Retry(attempts=3)) as client:

        async def work() -> None:
            for number in queue:
                if time.monotonic() > deadline:
                    return
                placement = await client.solve_and_wait(document, Options(idempotency_key=f"{run}-{number}"))
                states[placement["state"]] = states.get(placement["state"], 0) + 1
                ids.add(placement["id"])

        async def watch() -> None:
            nonlocal warm
            while True:
                await asyncio.sleep(_STATUS_INTERVAL_S)
                if ids:
                    began = time.perf_counter()
                    await client.status(next(iter(ids)))
                    latencies_s.append(time.perf_counter() - began)
                if warm is None and sum(states.values()) >= num_jobs // 10:
                    warm = measure_all(processes)

        began = time.monotonic()
        watcher = asyncio.create_task(watch())
        try:
            await asyncio.gather(*(work() for _ in range(num_clients)))
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
        elapsed_s = time.monotonic() - began
    await asyncio.sleep(_SETTLE_S)
    at_end = measure_all(processes)
    warm = warm or at_end
    quantiles = statistics.quantiles(latencies_s, n=100) if len(latencies_s) > 1 else [0.0] * 99
    return {
        "jobs": num_jobs,
        "clients": num_clients,
        "states": states,
        "distinct_ids": len(ids),
        "elapsed_s": round(elapsed_s, 1),
        "jobs_per_s": round(sum(states.values()) / elapsed_s, 1),
        "status_p50_ms": round(1000 * quantiles[49], 1),
        "status_p99_ms": round(1000 * quantiles[98], 1),
        "processes": {
            name: {
                "memory_mb_after_a_tenth": round(warm[name].memory_bytes / 1e6, 1),
                "memory_mb_at_end": round(at_end[name].memory_bytes / 1e6, 1),
                "files": [idle[name].num_files, warm[name].num_files, at_end[name].num_files],
                "threads": [idle[name].num_threads, warm[name].num_threads, at_end[name].num_threads],
                "children": [idle[name].num_children, warm[name].num_children, at_end[name].num_children],
            }
            for name in processes
        },
    }


def find_faults(report: dict[str, Any]) -> list[str]:
    """What is wrong with that."""
    faults = []
    if report["states"] != {"succeeded": report["jobs"]} or report["distinct_ids"] != report["jobs"]:
        faults.append(f"not every job succeeded once: {report['states']}, {report['distinct_ids']} ids")
    for name, process in report["processes"].items():
        growth = process["memory_mb_at_end"] / process["memory_mb_after_a_tenth"] - 1
        if growth > _MAX_GROWTH:
            faults.append(f"memory of the {name} grew by {100 * growth:.1f} %")
        idle, warm, at_end = process["files"]
        if at_end > max(idle, warm) + 2:
            faults.append(f"open files of the {name} grew from {idle} to {at_end}")
        idle, _, at_end = process["children"]
        if at_end > idle:
            faults.append(f"{at_end - idle} processes of the {name} are left")
    return faults


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=30.0, help="end after that, whatever is left")
    parser.add_argument("--database", metavar="URL", help="a PostgreSQL database, for an API and a dispatcher apart")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        port = _find_free_port()
        url = f"http://127.0.0.1:{port}"
        database = arguments.database or f"sqlite:///{folder}/jobs.sqlite3"
        commands = {"server": ["serve", "--port", str(port)]}
        if arguments.database:
            commands = {"API": commands["server"], "dispatcher": ["dispatch", "--port", str(_find_free_port())]}
        processes = {}
        for name, command in commands.items():
            environment = os.environ | {"PLACEWRIGHT_DATABASE_URL": database}
            environment |= {"PLACEWRIGHT_RUN_DISPATCHER": "false"} if name == "API" else {}
            processes[name] = psutil.Process(stack.enter_context(_start(command, environment, folder)).pid)
        _wait_until_ready(url)
        deadline = time.monotonic() + 60 * arguments.minutes
        report = asyncio.run(soak(url, processes, arguments.jobs, arguments.clients, deadline))
    faults = find_faults(report)
    print(json.dumps(report | {"faults": faults}, indent=2))
    return 1 if faults else 0


@contextlib.contextmanager
def _start(command: list[str], environment: dict[str, str], folder: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the service, which ends with the block."""
    with (
        Path(folder, f"{command[0]}.log").open("wb") as log,
        subprocess.Popen([sys.executable, "-m", "app", *command], env=environment, stdout=log, stderr=log) as process,  # noqa: S603
    ):
        try:
            yield process
        finally:
            process.terminate()


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        time.sleep(0.1)
    raise TimeoutError("the server does not become ready")


if __name__ == "__main__":
    sys.exit(main())
