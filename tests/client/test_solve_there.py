"""``placewright solve --server``: a real service where it answers, a scripted one for its failures."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from app import remote
from app.cli import main
from app.client import Client
from app.remote import search_there
from solver.formats import native
from solver.solve import solve
from tests.app.live_server import LiveServer
from tests.patience import PATIENCE_S

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = EXAMPLES / "tiny.json"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("server")) as live:
        yield live


@pytest.fixture
def run(capfd):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def answer_with(monkeypatch):
    """Let ``handle(request)`` be the service."""

    def install(handle):
        def connect(url, **options):
            return Client(url, transport=httpx.MockTransport(handle), **options)

        monkeypatch.setattr(remote, "Client", connect)

    return install


def finished(result, state="succeeded", error=None):
    """A service whose every placement is finished at once."""

    def handle(request):
        if request.url.path.endswith("/events"):
            return httpx.Response(200, content=b"id: 1\nevent: end\ndata: {}\n\n")
        return httpx.Response(200, json={"id": "p-1", "state": state, "result": result, "error": error})

    return handle


@pytest.fixture
def tiny_result():
    request = native.read(TINY.read_bytes())
    return json.loads(json.dumps(native.result_document(solve(request.instance, request.options))))


def test_answers_like_a_solve_in_this_process(run, server, tmp_path):
    code, here, _ = run("solve", TINY, "--json", "--workers", 1)
    assert code == 0
    code, there, err = run("solve", TINY, "--json", "--workers", 1, "--server", server.url, "--output", tmp_path / "o")
    assert code == 0
    assert "OPTIMAL" in err
    assert "placement " in err
    here, there = json.loads(here), json.loads(there)
    changing = {"timings_s", "incumbents"}
    assert {k: v for k, v in here.items() if k not in changing} == {k: v for k, v in there.items() if k not in changing}
    assert json.loads((tmp_path / "o").read_text()) == there


def test_options_travel_with_the_document(run, server):
    code, out, _ = run("solve", TINY, "--json", "--partition", "free", "--seed", 7, "--server", server.url)
    assert code == 0
    assert json.loads(out)["solver"]["seed"] == 7


def test_a_proof_of_infeasibility_ends_with_1(run, server, tmp_path):
    document = json.loads(TINY.read_text())
    document["cluster"]["devices"] = [{"id": "gpu", "kind": "gpu", "memory_bytes": 10}]
    (tmp_path / "full.json").write_text(json.dumps(document))
    code, out, err = run("solve", tmp_path / "full.json", "--json", "--server", server.url)
    assert code == 1
    assert json.loads(out)["status"] == "infeasible"
    assert "INFEASIBLE" in err


def test_what_the_service_finds_wrong_is_listed(run, answer_with):
    issues = [{"code": "too_large", "pointer": "/graph/a~1b/~0", "message": "not here", "hint": "make it smaller"}]
    answer_with(lambda _: httpx.Response(422, json={"title": "No", "issues": issues}))
    code, out, err = run("solve", TINY, "--server", "http://service")
    assert (code, out) == (2, "")
    assert "tiny.json: 1 fault\n  /graph/a~1b/~0: not here [too_large] (make it smaller)" in err


def test_the_key_comes_from_the_environment(run, answer_with, monkeypatch):
    seen = []

    def handle(request):
        seen.append(request.headers.get("Authorization"))
        return httpx.Response(401, json={"title": "A key is needed", "detail": "Send one."})

    monkeypatch.setenv("PLACEWRIGHT_API_KEY", "pw_secret")
    answer_with(handle)
    code, _, err = run("solve", TINY, "--server", "http://service")
    assert (code, seen) == (2, ["Bearer pw_secret"])
    assert "error: http://service: A key is needed: Send one." in err
    assert "pw_secret" not in err


@pytest.mark.parametrize(
    ("url", "words"), [("http://127.0.0.1:9", "cannot be reached"), ("nowhere", "is no address of a service")]
)
def test_a_service_that_is_not_there_is_said_in_a_line(run, url, words):
    code, out, err = run("solve", TINY, "--json", "--server", url)
    assert (code, out) == (69 if "reached" in words else 2, "")
    assert words in err
    assert err.startswith("error: ")


def test_a_failed_solve_ends_with_its_best_and_its_reason(run, answer_with, tiny_result):
    best = tiny_result | {"stop_reason": None, "status": "feasible"}
    answer_with(finished(best, "failed", {"title": "The solving process died", "detail": "Killed by the kernel."}))
    code, out, err = run("solve", TINY, "--json", "--server", "http://service")
    assert (code, json.loads(out)) == (0, best)
    assert "p-1 ended as failed: Killed by the kernel." in err


def test_a_failed_solve_without_an_answer_is_no_answer(run, answer_with):
    answer_with(finished(None, "failed", {"title": "The solving process died", "detail": "Killed by the kernel."}))
    code, out, err = run("solve", TINY, "--json", "--server", "http://service")
    assert (code, out) == (69, "")
    assert "p-1 ended as failed: Killed by the kernel." in err


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"objective_value": 3.0}, "is worth 3.5, not 3.0"),
        ({"placement": {"a": "gpu:0", "b": "nowhere"}}, "breaks a rule"),
        ({"placement": {"a": "gpu:0"}}, "breaks a rule"),
    ],
)
def test_an_answer_that_does_not_hold_is_no_answer(run, answer_with, tiny_result, lie, words):
    answer_with(finished(tiny_result | lie))
    code, out, err = run("solve", TINY, "--json", "--server", "http://service")
    assert (code, out) == (70, "")
    assert "the answer does not hold" in err
    assert words in err


@pytest.mark.parametrize("result", [{}, {"status": "optimal"}, {"stop_reason": "proved", "infeasibility": None}])
def test_an_answer_in_another_form_is_said_in_a_line(run, answer_with, result):
    answer_with(finished(result))
    code, _, err = run("solve", TINY, "--server", "http://service")
    assert code == 2
    assert "a form this version cannot read" in err


def test_without_a_stream_of_events_the_answer_comes_all_the_same(run, answer_with, tiny_result):
    def handle(request):
        if request.url.path.endswith("/events"):
            return httpx.Response(404, json={"title": "No such thing"})
        return finished(tiny_result)(request)

    answer_with(handle)
    code, out, _ = run("solve", TINY, "--json", "--server", "http://service")
    assert (code, json.loads(out)) == (0, tiny_result)


def test_an_interrupt_cancels_once_and_keeps_the_best(answer_with, tiny_result):
    cancelled, asked = threading.Event(), []
    best = tiny_result | {"stop_reason": "cancelled", "status": "feasible"}

    def handle(request):
        if request.url.path.endswith("/cancel"):
            asked.append(json.loads(request.content))
            cancelled.set()
            return httpx.Response(202, json={})
        if request.url.path.endswith("/events"):
            step = {"elapsed_s": 0.1, "objective_value": 5.0, "best_bound": 1.0, "found_by": "heuristic"}
            return httpx.Response(200, stream=Events(step))
        state = "cancelled" if cancelled.is_set() else "running"
        return httpx.Response(200, json={"id": "p-1", "state": state, "result": best, "error": None})

    class Events(httpx.SyncByteStream):
        def __init__(self, step):
            self._step = step

        def __iter__(self):
            yield f"id: 1\nevent: incumbent\ndata: {json.dumps(self._step)}\n\n".encode()
            assert cancelled.wait(PATIENCE_S)
            yield b"id: 2\nevent: end\ndata: {}\n\n"

    answer_with(handle)
    steps, stop = [], threading.Event()

    def report(progress):
        steps.append(progress.incumbent)
        stop.set()

    request = native.read(TINY.read_bytes())
    answer = search_there("http://service", request, Console(quiet=True))(report, stop)
    assert asked == [{"mode": "keep_best"}]
    assert answer.document == best
    assert answer.result.stop_reason == "cancelled"
    assert [(step.objective_value, step.found_by) for step in steps] == [(5.0, "heuristic")]
