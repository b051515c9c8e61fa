"""A real server in a process of its own, on a free port of the loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

_PATIENCE_S = 30


class LiveServer:
    def __init__(self, folder, command="serve", **settings):
        self.command = command
        self.database = Path(folder) / "jobs.sqlite3"
        self.port = _find_free_port()
        self.log = Path(folder) / ("server.log" if command == "serve" else f"{command}-{self.port}.log")
        self.url = f"http://127.0.0.1:{self.port}"
        # One name that the server, its forkserver and every solve inherit: how the tests find orphans.
        self._mark = f"PLACEWRIGHT_TEST_MARK={self.port}-{os.getpid()}"
        settings = {
            "DATABASE_URL": f"sqlite:///{self.database}",
            "SLOTS": 2,
            "STOP_GRACE_S": 3,
            "OVERRUN_GRACE_S": 3,
            "HEARTBEAT_INTERVAL_S": 0.2,
        } | settings
        name, _, value = self._mark.partition("=")
        self._environment = os.environ | {f"PLACEWRIGHT_{key}": str(value) for key, value in settings.items()}
        self._environment[name] = value
        self.process = None

    def spawn(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", self.command, "--port", str(self.port)],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def start(self):
        self.spawn()
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return self
            time.sleep(0.05)
        self.kill()
        raise AssertionError(f"the server did not start:\n{self.log.read_text()}")

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(_PATIENCE_S)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(_PATIENCE_S)

    def list_processes(self):
        """Ids of all processes of this server, zombies aside."""
        return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if self._owns(folder)]

    def list_solves(self):
        """Ids of the solves: the processes that head a session, other than the server."""
        return [pid for pid in self.list_processes() if pid != self.process.pid and _get_session(pid) == pid]

    def wait_for_no_processes(self):
        """What is still there when the patience ends: nothing, it is hoped."""
        deadline = time.monotonic() + 5
        while (left := self.list_processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    def _owns(self, folder):
        try:
            return self._mark.encode() in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            return False

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()
        self.wait_for_no_processes()

    def submit(self, document, **headers):
        answer = httpx.post(f"{self.url}/placements", json=document, headers={"Prefer": "respond-async"} | headers)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def read(self, placement_id, wait_s=0):
        headers = {"Prefer": f"wait={wait_s}"} if wait_s else {}
        answer = httpx.get(f"{self.url}/placements/{placement_id}", headers=headers, timeout=wait_s + 10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_for(self, placement_id, is_reached):
        """The job once it is as it should be, which must be before it ends."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            job = self.read(placement_id)
            assert not job["finished_at"], job
            if is_reached(job):
                return job
            time.sleep(0.05)
        raise AssertionError(f"not in time: {job}")

    def wait_for_incumbent(self, placement_id):
        """The running job once it has a placement."""
        return self.wait_for(placement_id, lambda job: job["result"])


def _get_session(pid):
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _find_free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
