"""One alternative to Placewright on one document: ``python -m benchmarks.alternative METHOD FILE --output ANSWER``.

A process of its own, so that its time and memory are its own, and so that a solver that does not stop can be killed.
The answer is what the method claims; whoever reads it verifies it.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.plan import PROGRAMS
from benchmarks.splits import SPLITS, compile_units
from solver import formats
from solver.instance import Instance, Partition


def answer(instance: Instance, method: str, time_limit_s: float) -> dict[str, Any]:
    """What ``method`` says: a placement or ``None``, a bound or ``None`` (both in ms), and how it ended.

    The instance is one for which :attr:`benchmarks.workloads.Workload.is_compared` holds.
    """
    if method in SPLITS:
        placement = SPLITS[method](compile_units(instance))
        failure = "no device has room" if placement is None else None
        return {"placement": placement, "best_bound": None, "ended": None, "failure": failure}
    from benchmarks import paper_program  # noqa: PLC0415  the splits need no solver

    try:
        found = paper_program.solve(instance, paper_program.Solver(PROGRAMS[method]), time_limit_s)
    except paper_program.SolverFailed as error:
        return {"placement": None, "best_bound": None, "ended": None, "failure": str(error)}
    failure = f"no placement ({found.ended})" if found.placement is None else None
    return {"placement": found.placement, "best_bound": found.best_bound, "ended": found.ended, "failure": failure}


def main() -> None:
    """Read the document, run the method, write its answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=[*SPLITS, *PROGRAMS])
    parser.add_argument("file", type=Path)
    parser.add_argument("--partition", type=Partition, required=True)
    parser.add_argument("--time-limit", type=float, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    instance = formats.read(arguments.file.read_bytes()).instance
    instance = replace(instance, objective=replace(instance.objective, partition=arguments.partition))
    began = time.monotonic()
    document = answer(instance, arguments.method, arguments.time_limit)
    document["elapsed_s"] = time.monotonic() - began
    arguments.output.write_text(json.dumps(document), encoding="utf-8")


if __name__ == "__main__":
    main()
