"""Threads of their own: what is left behind, and what is not."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from solver.beside import Call
from solver.formulations.throughput_bottleneck_highs import NAME as HIGHS
from solver.instance import Objective, Partition
from tests.properties.graphs import mirrored, shaped

LATE = """
import time
from solver.beside import Call

Call(lambda: (time.sleep(0.3), print("ended")), "late")
"""
DEAF = """
import solver.beside, time

solver.beside.EXIT_WAIT_S = 0.1
solver.beside.Call(lambda: (time.sleep(60), print("ended")), "deaf")
"""
FORKED = """
import os, time
from solver import beside

beside.Call(lambda: time.sleep(0.3), "late")
if os.fork() == 0:
    beside.EXIT_WAIT_S = 3600
else:
    os.wait()
    print("ended")
"""


@pytest.mark.parametrize(("script", "said"), [(LATE, "ended\n"), (DEAF, ""), (FORKED, "ended\n")])
def test_python_ends_after_what_was_left_behind(script, said):
    """Native code that comes back while the interpreter ends would bring down the process."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def test_an_interrupt_that_comes_too_early_is_repeated():
    asked = []
    heard = threading.Event()

    def interrupt():
        asked.append(1)
        if len(asked) == 2:
            heard.set()

    call = Call(lambda: heard.wait(30), "deaf at first", interrupt)
    assert not call.wait(lambda: True, 30)
    assert call.stop(30)
    assert call.result()


def test_what_does_not_end_is_left_behind():
    released = threading.Event()
    call = Call(released.wait, "slow", lambda: None)
    assert not call.stop(0.01)
    assert call.is_alive()
    assert call.result() is None
    released.set()
    assert call.join(30)
    assert not call.is_alive()


def test_an_error_is_raised_where_one_waits():
    with pytest.raises(ZeroDivisionError):
        Call(lambda: 1 // 0, "faulty").join(30)


@pytest.mark.parametrize("partition", Partition)
def test_a_solve_leaves_no_thread_behind(solve, partition):
    """Whether it runs out of time early or late; HiGHS alone may go on, for it cannot be interrupted."""
    instance = replace(mirrored(shaped("grid", 5), 5, twins=0.8), objective=Objective(partition=partition))
    before = set(threading.enumerate())
    for time_limit_s in (0.05, 0.1, 0.2, 0.4):
        solve(instance, workers=2, time_limit_s=time_limit_s)
        left = [thread for thread in threading.enumerate() if thread not in before and thread.name != HIGHS]
        for thread in left:
            thread.join(60)  # It may have told its result, and not have ended quite.
        assert not [thread.name for thread in left if thread.is_alive()]
