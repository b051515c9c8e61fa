"""A real server in a process of its own, on a port of the loopback that nobody else gets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from tests.patience import PATIENCE_S, wait_until

_START_PATIENCE_S = 180
"""Without a cache the kernels of the solver are compiled first."""


class LiveServer:
    def __init__(self, folder, command="serve", **settings):
        self.command = command
        self.database = Path(folder) / "jobs.sqlite3"
        self._reservation = _reserve_port()
        self.port = self._reservation.getsockname()[1]
        self.log = Path(folder) / ("server.log" if command == "serve" else f"{command}-{self.port}.log")
        self.url = f"http://127.0.0.1:{self.port}"
        # No kept connections: the server closes an idle one after a while, maybe just when it is used again.
        self.http = httpx.Client(
            base_url=self.url, timeout=PATIENCE_S, limits=httpx.Limits(max_keepalive_connections=0)
        )
        # One name that the server, its forkserver and every solve inherit: how the tests find orphans.
        self._mark = f"PLACEWRIGHT_TEST_MARK={self.port}-{os.getpid()}"
        # The graces are long: they are for what hangs, and a solve on a busy machine only looks like that.
        settings = {
            "DATABASE_URL": f"sqlite:///{self.database}",
            "SLOTS": 2,
            "STOP_GRACE_S": 30,
            "OVERRUN_GRACE_S": 30,
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
        wait_until(lambda: self._is_ready() or self.process.poll() is not None, _START_PATIENCE_S)
        if self._is_ready():
            return self
        self.kill()
        raise AssertionError(f"the server did not start:\n{self.log.read_text()}")

    def _is_ready(self):
        with contextlib.suppress(httpx.TransportError):
            return self.http.get("/readyz").status_code == 200
        return False

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)

    def close(self):
        """Ids of the processes that have outlived the server; now they are gone too."""
        self.kill()
        left = self.wait_for_no_processes()
        self.http.close()
        self._reservation.close()
        return left

    def list_processes(self):
        """Ids of all processes of this server, zombies aside."""
        return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if self._owns(folder)]

    def list_solves(self):
        """Ids of the solves: the processes that head a session, other than the server."""
        return [pid for pid in self.list_processes() if pid != self.process.pid and _get_session(pid) == pid]

    def wait_for_no_processes(self):
        """What is still there when the patience ends: nothing, it is hoped."""
        wait_until(lambda: not self.list_processes(), 30)
        left = self.list_processes()
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

    def __exit__(self, kind, *_):
        left = self.close()
        assert kind or not left, "orphans"

    def submit(self, document, **headers):
        answer = self.http.post("/placements", json=document, headers={"Prefer": "respond-async"} | headers)
        assert answer.status_code in (200, 202), answer.text
        return answer.json()["id"]

    def read(self, placement_id, wait_s=0):
        headers = {"Prefer": f"wait={wait_s}"} if wait_s else {}
        answer = self.http.get(f"/placements/{placement_id}", headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_for(self, placement_id, is_reached):
        """The job once it is as it should be, which must be before it ends."""

        def look():
            job = self.read(placement_id)
            assert not job["finished_at"], job
            return is_reached(job) and job

        job = wait_until(look)
        assert job, f"not in time: {self.read(placement_id)}"
        return job

    def wait_for_incumbent(self, placement_id):
        """The running job once it has a placement."""
        return self.wait_for(placement_id, lambda job: job["result"])

    def wait_for_end(self, placement_id):
        """The finished job."""

        def look():
            job = self.read(placement_id, wait_s=10)
            return job["finished_at"] and job

        job = wait_until(look)
        assert job, f"not in time: {self.read(placement_id)}"
        return job

    def discard(self, placement_id):
        """Cancel the job; once this returns, its cores are free."""
        self.http.post(f"/placements/{placement_id}/cancel", json={"mode": "discard"}).raise_for_status()
        return self.wait_for_end(placement_id)


def _get_session(pid):
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _reserve_port():
    """A socket that keeps its port, without listening on it, for a server that comes and goes.

    The kernel hands the port to nobody who asks for any free one; who asks for it by number, and lets addresses be used
    again as servers do, may have it.
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    return reservation
