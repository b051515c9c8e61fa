"""Both clients, and the command line, against a real server over the loopback."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.client import AsyncClient, Client, Conflict, InvalidRequest, NotFound, Options, Retry, TooManyRequests
from tests.app.live_server import LiveServer
from tests.app.slow_document import make_slow
from tests.patience import PATIENCE_S

TINY = json.loads((Path(__file__).parents[2] / "examples" / "tiny.json").read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("server")) as live:
        yield live


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


def cancel_at_the_first_placement(client, placement_id):
    """All events of the placement."""
    events, is_cancelled = [], False
    for event in client.events(placement_id):
        is_placed = event.kind == "incumbent" and event.data["objective_value"] is not None
        if is_placed and not is_cancelled:
            client.cancel(placement_id)
            is_cancelled = True
        events.append(event)
    return events


def test_solves_and_waits(client):
    placement = client.solve_and_wait(TINY, Options(tags=["live"], priority=3))
    assert placement["state"] == "succeeded"
    assert placement["result"]["objective_value"] == pytest.approx(3.5)
    assert client.read(placement["id"]) == placement
    assert client.status(placement["id"])["objective_value"] == pytest.approx(3.5)
    assert [listed["id"] for listed in client.list_placements(tag="live")] == [placement["id"]]
    incumbents = client.incumbents(placement["id"])
    assert incumbents[-1]["objective_value"] == pytest.approx(3.5)
    assert not client.incumbents(placement["id"], after=incumbents[-1]["sequence"])
    piece, following = client.log(placement["id"])
    assert following == len(piece)


def test_follows_cancels_and_deletes(client):
    placement = client.submit(make_slow())
    with pytest.raises(Conflict):
        client.delete(placement["id"])
    events = cancel_at_the_first_placement(client, placement["id"])
    assert [int(event.id) for event in events] == list(range(1, len(events) + 1))
    assert events[-1].kind == "end"
    finished = client.wait(placement["id"])
    assert finished["state"] == "cancelled"
    assert finished["result"]["stop_reason"] == "cancelled"
    assert finished["result"]["placement"]
    with pytest.raises(Conflict):
        client.cancel(client.solve_and_wait(TINY)["id"])
    client.delete(placement["id"])
    with pytest.raises(NotFound):
        client.read(placement["id"])


def test_starts_from_an_earlier_placement(client):
    first = client.solve_and_wait(TINY)
    again = client.solve_and_wait(TINY, Options(warm_start=first["id"]))
    assert again["result"]["objective_value"] == first["result"]["objective_value"]


def test_one_key_makes_one_placement(client):
    options = Options(idempotency_key="only-once")
    assert client.solve_and_wait(TINY, options)["id"] == client.submit(TINY, options)["id"]
    with pytest.raises(InvalidRequest) as caught:
        client.submit(TINY | {"solver": {"seed": 9}}, options)
    assert caught.value.code == "idempotency-key-reused"


def test_does_not_queue_what_must_not_wait(server, client):
    running = client.submit(make_slow() | {"solver": {"time_limit_s": 300, "workers": 2}})
    server.wait_for_incumbent(running["id"])
    try:
        with pytest.raises(TooManyRequests) as caught:
            client.submit(TINY | {"solver": {"workers": 2}}, Options(max_wait_s=0))
        assert caught.value.code == "no-free-slots"
    finally:
        client.cancel(running["id"], "discard")
    assert client.wait(running["id"])["result"] is None


def test_looks_at_documents(client):
    assert client.validate(TINY)["valid"] is True
    assert client.validate(TINY | {"graph": {}})["num_issues"] >= 1
    assert client.evaluate(TINY, {"a": "gpu:0", "b": "gpu:0"})["objective_value"] == pytest.approx(5.0)
    with pytest.raises(InvalidRequest) as caught:
        client.submit(TINY | {"colour": "red"})
    assert caught.value.issues[0]["pointer"] == "/colour"
    assert client.limits()["max_body_bytes"] > 0
    assert client.solvers()
    assert client.solve_and_wait(client.example("tiny"))["state"] == "succeeded"


def test_the_asynchronous_client_does_it_side_by_side(server):
    async def run():
        async with AsyncClient(server.url) as client:
            solved = await asyncio.gather(*(client.solve_and_wait(TINY, Options(tags=["together"])) for _ in range(5)))
            slow = await client.submit(make_slow())
            async for event in client.events(slow["id"]):
                if event.kind == "incumbent":
                    await client.cancel(slow["id"])
            listed = [placement async for placement in client.list_placements(tag="together")]
            return solved, listed, await client.wait(slow["id"])

    solved, listed, slow = asyncio.run(run())
    assert {placement["state"] for placement in solved} == {"succeeded"}
    assert {placement["id"] for placement in listed} == {placement["id"] for placement in solved}
    assert slow["state"] == "cancelled"


def test_many_streams_do_not_keep_a_request_waiting(server):
    async def run():
        async with AsyncClient(server.url, timeout_s=60) as client:
            slow = await client.submit(make_slow())
            opened = asyncio.Semaphore(0)

            async def follow():
                kinds = []
                async for event in client.events(slow["id"]):
                    if not kinds:
                        opened.release()
                    kinds.append(event.kind)
                return kinds[-1]

            streams = [asyncio.create_task(follow()) for _ in range(120)]  # more than httpx opens by itself
            for _ in streams:
                await opened.acquire()
            await client.cancel(slow["id"])
            return await asyncio.gather(*streams)

    assert set(asyncio.run(run())) == {"end"}


def test_nothing_is_lost_when_the_server_is_killed_meanwhile(tmp_path):
    """A reader of events and a waiter, both through a kill and a restart."""
    document, key = make_slow(time_limit_s=20), Options(idempotency_key="k")
    patient = Retry(attempts=120, most_s=1.0)  # for as long as a busy machine takes to start a server
    with LiveServer(tmp_path) as live, Client(live.url, retry=patient) as client, ThreadPoolExecutor() as pool:
        placement = client.submit(document, key)
        reader = pool.submit(lambda: [int(event.id) for event in client.events(placement["id"])])
        waiter = pool.submit(client.wait, placement["id"])
        live.wait_for_incumbent(placement["id"])
        live.kill()
        assert not live.wait_for_no_processes()
        live.start()
        assert client.submit(document, key)["id"] == placement["id"]
        waited, seen = waiter.result(PATIENCE_S), reader.result(PATIENCE_S)
        assert waited["state"] == "succeeded"
        assert waited["attempt"] == 2
        assert seen == list(range(1, len(seen) + 1))  # none lost, none twice


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_prints_the_best_of_the_service(server, client, tmp_path, number):
    path = tmp_path / "slow.json"
    path.write_text(json.dumps(make_slow()))
    command = [sys.executable, "-m", "app", "solve", str(path), "--json", "--server", server.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if " ms  bound" in line:  # a first placement is shown
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "stopping with the best placement so far" in err
    answer = json.loads(out)
    assert answer["stop_reason"] == "cancelled"
    assert answer["placement"]
    newest = next(client.list_placements())
    assert newest["state"] == "cancelled"


def test_an_interrupt_while_the_placement_is_queued_leaves_nothing_behind(server, client):
    running = client.submit(make_slow() | {"solver": {"time_limit_s": 300, "workers": 2}})
    command = [sys.executable, "-m", "app", "solve", "-", "--json", "--server", server.url]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        process.stdin.write(json.dumps(TINY))
        process.stdin.close()
        for line in process.stderr:
            if line.startswith("placement "):
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        assert process.stdout.read() == ""
        assert process.stderr.read().endswith("interrupted\n")
        assert next(client.list_placements())["state"] == "cancelled"
    finally:
        process.kill()
        client.cancel(running["id"], "discard")
        client.wait(running["id"])
