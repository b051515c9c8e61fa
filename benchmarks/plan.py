"""Which runs a benchmark consists of, and how long they may take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.records import PLACEWRIGHT, Record
from benchmarks.workloads import Workload
from solver.instance import Partition

SUITES = ("acyclic", "convex", "free", "synthetic", "splits", "programs")
"""Placewright under each partition rule and on large transformers; against simple splits; against integer programs."""
TIME_LIMITS_S = {"acyclic": 10.0, "convex": 60.0, "free": 60.0, "splits": 10.0, "programs": 60.0}
SYNTHETIC = ((97, 64, 15.0), (900, 256, 60.0), (2941, 1024, 180.0))
"""Layers, devices, time limit in seconds: 3,300, 30,602 and 99,996 operators."""
PROGRAMS = {"integer program, HiGHS": "highs", "integer program, SCIP": "scip"}
START_S, START_S_PER_OPERATOR = 2.0, 1e-4
"""What starting a process, reading the document and verifying the answer take at most."""

Key = tuple[str, str, str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """One method on one workload, for one suite."""

    suite: str
    workload: Workload
    partition: Partition
    method: str
    time_limit_s: float

    @property
    def key(self) -> Key:
        """Tells runs apart; two suites that need the same run share it."""
        return self.workload.name, self.partition.value, self.method, self.time_limit_s


def key_of(record: Record) -> Key:
    """The key of the run that ``record`` is about."""
    return record.workload, record.partition, record.method, record.time_limit_s


def plan_runs(
    suites: Iterable[str],
    workloads: Sequence[Workload],
    synthetic: Sequence[tuple[Workload, float]],
    splits: Sequence[str],
    time_limit_s: float | None = None,
) -> list[Run]:
    """All runs of ``suites``, in their order, each once.

    Args:
        suites: some of :data:`SUITES`.
        workloads: the documents found; those that are not compared only run with Placewright.
        synthetic: large workloads, each with its own time limit.
        splits: names of the simple splits.
        time_limit_s: in place of every limit of :data:`TIME_LIMITS_S` and of ``synthetic``.
    """
    runs: dict[Key, Run] = {}

    def add(suite: str, workload: Workload, partition: Partition, method: str, limit_s: float) -> None:
        run = Run(suite, workload, partition, method, limit_s if time_limit_s is None else time_limit_s)
        runs.setdefault(run.key, run)

    for suite in suites:
        if suite == "synthetic":
            for workload, limit_s in synthetic:
                add(suite, workload, Partition.ACYCLIC, PLACEWRIGHT, limit_s)
            continue
        partitions, methods = _methods(suite, splits)
        suited = workloads if methods == [PLACEWRIGHT] else [w for w in workloads if w.is_compared]
        for partition in partitions:
            for workload in suited:
                for method in methods:
                    add(suite, workload, partition, method, TIME_LIMITS_S[suite])
    return list(runs.values())


def _methods(suite: str, splits: Sequence[str]) -> tuple[list[Partition], list[str]]:
    if suite == "splits":
        return [Partition.ACYCLIC], [PLACEWRIGHT, *splits]
    if suite == "programs":
        return [Partition.CONVEX, Partition.FREE], [PLACEWRIGHT, *PROGRAMS]
    return [Partition(suite)], [PLACEWRIGHT]


def longest_s(runs: Iterable[Run], splits: Sequence[str]) -> float:
    """At most so many seconds for all ``runs``; those that prove their answer end sooner."""
    return sum(
        START_S + START_S_PER_OPERATOR * run.workload.num_operators + (0 if run.method in splits else run.time_limit_s)
        for run in runs
    )


def comparisons(records: Sequence[Record]) -> dict[tuple[str, float], list[Record]]:
    """(partition, time limit) → the integer programs and Placewright's runs of the same questions and limit.

    Those of Placewright come first; they may have been run for another suite.
    """
    ours = {key_of(record): record for record in records if record.method == PLACEWRIGHT}
    groups: dict[tuple[str, float], list[Record]] = {}
    for record in records:
        if record.method in PROGRAMS:
            groups.setdefault((record.partition, record.time_limit_s), []).append(record)
    for (partition, limit_s), theirs in groups.items():
        names = dict.fromkeys(record.workload for record in theirs)
        keys = [(name, partition, PLACEWRIGHT, limit_s) for name in names]
        theirs[:0] = [ours[key] for key in keys if key in ours]
    return groups
