"""What every engine promises, shown on each of them."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import threading

import pytest

from app import supervision
from app.engines import StopCause, Task
from app.engines.local import LocalEngine
from tests.app.ray_cluster import RayCluster
from tests.app.slow_document import make_slow


class Witness:
    """Remembers what an engine reports, and gives the order to stop when it is time."""

    def __init__(self, order=None, when=lambda witness: witness.results):
        self.starts, self.steps, self.results, self.log = 0, [], [], b""
        self._order, self._when = order, when

    def note_start(self):
        self.starts += 1

    def note_progress(self, steps, result):
        assert self.starts == 1
        self.steps += steps
        if result is not None:
            self.results.append(result)

    def note_log(self, content):
        self.log += content

    def stop_order(self):
        return self._order if self._order and self._when(self) else None


@pytest.fixture(scope="module")
def local():
    made = LocalEngine(slots=2)
    made.start()
    made.warm_up(threading.Event())
    yield made
    made.stop()


@pytest.fixture(scope="module", params=["local", pytest.param("ray", marks=pytest.mark.scale_out)])
def engine(request):
    if request.param == "local":
        return request.getfixturevalue("local")
    return request.getfixturevalue("ray_engine")


@pytest.fixture(scope="module")
def ray_engine():
    from app.engines.ray import RayEngine

    cluster = RayCluster(nodes=2)
    made = RayEngine(cluster.address, memory_bytes=None)
    made.start()
    yield made
    made.stop()
    cluster.stop()


def pack(document):
    return gzip.compress(json.dumps(document).encode())


def make_task(document, **fields):
    limits = {"time_limit_s": 600.0, "workers": 1, "stop_grace_s": 60.0}
    return Task("id", pack(document), **limits | fields)


def test_a_result_comes_with_its_steps_and_its_log(engine, tiny):
    witness = Witness()
    outcome = engine.run(make_task(tiny), witness)
    assert (outcome.error, outcome.stop_cause) == (None, None)
    assert outcome.result["status"] == "optimal"
    assert witness.starts == 1
    assert [step["objective_value"] for step in witness.steps][-1] == outcome.result["objective_value"]
    assert witness.results[-1]["placement"]
    assert b"objective 3.5" in witness.log
    assert engine.count_slots() >= 1


@pytest.mark.parametrize("cause", [StopCause.CANCEL, StopCause.SHUTDOWN])
def test_a_stopped_solve_answers_with_its_best(engine, cause):
    witness = Witness(cause)
    outcome = engine.run(make_task(make_slow()), witness)
    assert outcome.stop_cause is cause
    assert outcome.result["stop_reason"] == "cancelled"
    assert outcome.result["objective_value"] <= witness.results[0]["objective_value"]
    assert outcome.elapsed_s > 0


@pytest.mark.parametrize("cause", [StopCause.DISCARD, StopCause.LEASE_LOST])
def test_a_solve_that_nobody_wants_is_killed(engine, cause):
    outcome = engine.run(make_task(make_slow()), Witness(cause))
    assert outcome.stop_cause is cause
    assert outcome.result is None
    assert outcome.error is not None


def test_a_solve_starts_from_what_is_known(engine):
    document = make_slow()
    first = engine.run(make_task(document, time_limit_s=3.0), Witness())
    witness = Witness()
    best = pack(first.result)
    again = engine.run(make_task(document, time_limit_s=3.0, best=best, best_bound=first.result["best_bound"]), witness)
    value = first.result["objective_value"]
    assert value in [step["objective_value"] for step in witness.steps if step["found_by"] == "hint"]
    assert again.result["objective_value"] <= value
    assert again.result["best_bound"] >= first.result["best_bound"]


def test_a_document_that_this_version_cannot_solve_is_an_error_not_a_crash(engine, tiny):
    tiny["objective"]["kind"] = "cost"
    outcome = engine.run(make_task(tiny), Witness())
    if outcome.result is None:  # until there is a method for it
        assert outcome.error.type.endswith(":unsupported-instance")


class TestLocal:
    """What only the processes of this machine can show."""

    def test_too_much_memory_ends_a_solve_with_its_best(self, local, monkeypatch):
        witness = Witness()
        monkeypatch.setattr(supervision, "_measure_memory", lambda _pid: 11 if witness.results else 9)
        outcome = local.run(make_task(make_slow(), memory_limit_bytes=10), witness)
        assert outcome.stop_cause is StopCause.MEMORY
        assert outcome.result["placement"]

    def test_far_too_much_memory_is_not_waited_for(self, local, monkeypatch):
        monkeypatch.setattr(supervision, "_measure_memory", lambda _pid: 1000)
        outcome = local.run(make_task(make_slow(), memory_limit_bytes=10), Witness())
        assert outcome.result is None
        assert outcome.error.type.endswith(":out-of-memory")

    def test_a_request_may_not_ask_for_more_memory_than_the_service_gives(self, local, monkeypatch):
        monkeypatch.setattr(supervision, "_measure_memory", lambda _pid: 0)  # only the solver itself looks
        document = make_slow()
        document["solver"]["memory_limit_bytes"] = 10**15
        outcome = local.run(make_task(document, memory_limit_bytes=1), Witness())
        assert outcome.result["stop_reason"] == "memory_limit"

    def test_memory_is_measured(self):
        assert supervision._measure_memory(os.getpid()) > 10_000_000
        assert supervision._measure_memory(2**30) == 0

    def test_a_solve_that_hears_nothing_is_killed_after_the_grace(self, local):
        witness = Witness(StopCause.CANCEL, when=_freeze)
        outcome = local.run(make_task(make_slow(), stop_grace_s=0.5), witness)
        assert outcome.result is None
        assert outcome.error.type.endswith(":solver-killed")
        assert not supervision.multiprocessing.active_children()

    def test_a_solve_that_dies_says_of_what(self, local):
        witness = Witness(StopCause.CANCEL, when=lambda witness: _signal(witness, signal.SIGSEGV) and False)
        outcome = local.run(make_task(make_slow()), witness)
        assert outcome.error.type.endswith(":solver-died")
        assert "signal 11" in outcome.error.detail

    def test_a_solve_that_is_reaped_while_it_is_told_to_stop(self, local, monkeypatch):
        kill = os.kill

        def no_such_group(_pgid, _number):
            raise ProcessLookupError

        def kill_too_late(pid, _number):
            kill(pid, signal.SIGKILL)
            raise ProcessLookupError

        monkeypatch.setattr(supervision.os, "killpg", no_such_group)
        monkeypatch.setattr(supervision.os, "kill", kill_too_late)
        outcome = local.run(make_task(make_slow()), Witness(StopCause.CANCEL))
        assert outcome.stop_cause is StopCause.CANCEL
        assert outcome.error.type.endswith(":solver-died")


def _signal(witness, number):
    """Send the solve a signal once it has found something; whether that was done."""
    if witness.results:
        for child in supervision.multiprocessing.active_children():
            with contextlib.suppress(ProcessLookupError):  # gone, and the forkserver has not yet said so
                os.kill(child.pid, number)
    return bool(witness.results)


def _freeze(witness):
    return _signal(witness, signal.SIGSTOP)
