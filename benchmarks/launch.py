"""Run one command and write down what it took: ``python -IS launch.py REPORT LIMIT_S COMMAND …``.

A small process of its own, because the peak memory that Linux reports for a child is at least that of the process that
started it. Only the standard library's light modules are imported, for the same reason. The command is killed, with
everything it started, after LIMIT_S seconds, or when this process is told to end.
"""

import contextlib
import json
import os
import signal
import sys
import time

KILOBYTE = 1024
"""Linux counts in these, macOS in bytes."""


def launch(report: str, limit_s: float, command: list[str]) -> None:
    """Run ``command``; write ``wall_s``, ``cpu_s``, ``peak_memory_bytes``, ``exit_code``, ``killed`` to ``report``."""
    began = time.monotonic()
    child = os.posix_spawn(command[0], command, os.environ, setpgroup=0)
    killed = False

    def kill(*_: object) -> None:
        nonlocal killed
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(child, signal.SIGKILL)
            killed = True

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, kill)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    _, status, usage = os.wait4(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    figures = {
        "wall_s": time.monotonic() - began,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_memory_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else KILOBYTE),
        "exit_code": os.waitstatus_to_exitcode(status),
        "killed": killed,
    }
    with open(report, "w", encoding="utf-8") as file:  # noqa: PTH123  pathlib is not light
        json.dump(figures, file)


if __name__ == "__main__":
    launch(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
