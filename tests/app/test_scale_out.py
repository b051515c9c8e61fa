"""Several servers and dispatchers over PostgreSQL, solves on the nodes of a Ray cluster, and all of them get killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from app.auth.allowance import NO_BOUNDS
from app.auth.keys import KeyStore
from app.auth.scopes import Scope
from app.database import Database
from solver.formats import native
from solver.verification import verify
from tests.app.live_server import LiveServer
from tests.app.postgres_server import running_postgres
from tests.app.ray_cluster import RayCluster
from tests.app.slow_document import make_slow
from tests.patience import PATIENCE_S, wait_until

pytestmark = [pytest.mark.scale_out, pytest.mark.timeout(400)]
MARK = f"ray-{os.getpid()}"
LEASE_S = 4


@pytest.fixture(scope="module")
def postgres():
    with running_postgres() as make_database:
        yield make_database


@pytest.fixture(scope="module")
def cluster():
    os.environ["PLACEWRIGHT_TEST_MARK"] = MARK  # every process of the cluster inherits it
    made = RayCluster(nodes=3)
    yield made
    made.stop()
    del os.environ["PLACEWRIGHT_TEST_MARK"]


@pytest.fixture
def start(postgres, tmp_path):
    """Processes of a service, all on one new database."""
    url, started = postgres(), []

    def run(command="serve", **settings):
        (folder := tmp_path / str(len(started))).mkdir()
        shared = {"DATABASE_URL": url, "LEASE_S": LEASE_S, "HEARTBEAT_INTERVAL_S": 1, "MAX_ATTEMPTS": 10}
        live = LiveServer(folder, command, **shared | settings)
        started.append(live)
        return live.start()

    yield run
    assert not [pid for live in started for pid in live.close()], "orphans"


def test_a_database_without_an_encoding_of_its_own(postgres):
    database = Database(postgres("ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"), 10.0)
    database.migrate()
    keys = KeyStore(database)
    made, _ = keys.create(tenant="t", name="clé ☃", scopes=[Scope.READ], allowance=NO_BOUNDS)
    assert keys.list_keys() == [made]
    database.close()


def list_solves_on_nodes():
    """Solving processes of the whole cluster."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = f"PLACEWRIGHT_TEST_MARK={MARK}".encode() in (folder / "environ").read_bytes()
            if is_ours and b"multiprocessing.forkserver" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_nodes_dispatchers_and_servers_die_and_every_job_ends_once(start, cluster):
    on_ray = {"ENGINE": "ray", "RAY_ADDRESS": cluster.address}
    dispatchers = [start("dispatch", **on_ray) for _ in range(2)]
    servers = [start(RUN_DISPATCHER=False) for _ in range(2)]
    document = make_slow(time_limit_s=6, num_operators=60, num_devices=5)
    ids = [servers[number % 2].submit(document) for number in range(8)]
    seen = [servers[1].wait_for_incumbent(placement_id) for placement_id in ids[:2]]
    streamed = []
    follower = threading.Thread(target=_follow, args=(servers[1], ids[0], streamed))
    follower.start()

    cluster.kill_node()
    cluster.add_node()
    time.sleep(1)
    dispatchers[0].kill()
    servers[0].kill()
    start("dispatch", **on_ray)

    jobs = [servers[1].wait_for_end(placement_id) for placement_id in ids]
    follower.join(PATIENCE_S)
    assert [job["state"] for job in jobs] == ["succeeded"] * len(ids)
    assert max(job["attempt"] for job in jobs) > 1, "nothing was interrupted"
    for before, job in zip(seen, jobs, strict=False):
        assert job["result"]["objective_value"] <= before["result"]["objective_value"]
    instance = native.from_document(document).instance
    for job in jobs:
        verification = verify(instance, job["result"]["placement"])
        assert verification.violations == ()
        assert verification.objective_value == job["result"]["objective_value"]
    assert streamed.count("end") == 1
    assert streamed[-1] == "end"
    other = start(RUN_DISPATCHER=False)
    assert [other.wait_for_end(placement_id) for placement_id in ids] == jobs
    _wait_for_no_solves()


def test_cancelling_reaches_the_node(start, cluster):
    start("dispatch", ENGINE="ray", RAY_ADDRESS=cluster.address)
    server = start(RUN_DISPATCHER=False)
    job = server.wait_for_incumbent(server.submit(make_slow(time_limit_s=100)))
    solves = list_solves_on_nodes()
    niceness = {os.getpriority(os.PRIO_PROCESS, pid) for pid in solves}  # the forkserver's, which is Ray's, and its own
    assert max(niceness) > min(niceness), "it leaves the cores to the node"
    server.http.post(f"/placements/{job['id']}/cancel")
    ended = server.wait_for_end(job["id"])
    assert ended["state"] == "cancelled"
    assert ended["result"]["objective_value"] <= job["result"]["objective_value"]
    _wait_for_no_solves()


def test_a_paused_dispatcher_does_not_overwrite_its_successor(start):
    paused = start("dispatch", SLOTS=1)
    server = start(RUN_DISPATCHER=False)
    job = server.wait_for_incumbent(server.submit(make_slow(time_limit_s=8)))
    paused.process.send_signal(signal.SIGSTOP)
    start("dispatch", SLOTS=1)
    ended = server.wait_for_end(job["id"])
    assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
    paused.process.send_signal(signal.SIGCONT)
    assert wait_until(lambda: "taken over" in paused.log.read_text())
    assert not paused.list_solves()
    assert server.wait_for_end(job["id"]) == ended


def test_a_key_is_one_key_on_all_servers(start):
    start("dispatch")
    servers = [start(RUN_DISPATCHER=False) for _ in range(2)]
    answers = []

    def send(server):
        headers = {"Idempotency-Key": "one", "Prefer": "respond-async"}
        answers.append(server.http.post("/placements", json=make_slow(time_limit_s=1), headers=headers))

    threads = [threading.Thread(target=send, args=(servers[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code != 409}) == 1
    assert len(servers[0].http.get("/placements").json()["placements"]) == 1


def _follow(server, placement_id, kinds):
    with server.http.stream("GET", f"/placements/{placement_id}/events") as answer:
        kinds.extend(line.removeprefix("event: ") for line in answer.iter_lines() if line.startswith("event: "))


def _wait_for_no_solves():
    assert wait_until(lambda: not list_solves_on_nodes()), "orphans on the nodes"
