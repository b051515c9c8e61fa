"""Loading everything compiled before the first question comes."""

from __future__ import annotations

import itertools

import numpy as np

from solver.compiled import CompiledInstance, Ints, compile_instance
from solver.exact import link_ideals, spread_flows, throughput_ideals
from solver.exact.link_ideals import LinkIdealProgram
from solver.exact.throughput_ideals import IdealProgram
from solver.heuristics.annealing import anneal
from solver.heuristics.bisection import bisected_order
from solver.heuristics.borders import Borders
from solver.heuristics.moves import Annealing
from solver.heuristics.segments import place_segments
from solver.heuristics.sequences import Sequences
from solver.instance import (
    Cluster,
    DeviceSpec,
    Edge,
    Graph,
    Instance,
    Interconnect,
    InterconnectModel,
    Link,
    Operator,
)
from solver.reductions import reduce_instance

WIRES = (Interconnect(), Interconnect(model=InterconnectModel.LINKS, default=Link(1e9)))
PERIOD_MS = 3.5
MAX_STEPS = 1000


def warm_up() -> None:
    """Run every compiled kernel once, so that no answer of this process waits for one. Starts no thread.

    Where the cache of kernels is empty, as after an installation, this compiles them, which takes a minute.
    """
    operators = tuple(Operator(name, {"device": 1.0}) for name in "abc")
    edges = (Edge("a", "b", bytes=500_000, transfer_time_ms=0.5), Edge("b", "c", bytes=500_000, transfer_time_ms=0.5))
    for wires in WIRES:
        chain = Instance(Graph(operators, edges), Cluster((DeviceSpec("device", "device", count=2),), wires))
        compiled = reduce_instance(compile_instance(chain), chain.objective.partition)
        order, stop = np.arange(compiled.num_items), np.zeros(1, dtype=np.int64)
        _run_heuristics(compiled, order, stop)
        _run_programs(compiled, order, stop)


def _run_heuristics(compiled: CompiledInstance, order: Ints, stop: Ints) -> None:
    start = [(0, 0)] * compiled.num_items
    over_host = compiled if compiled.links is None else compiled.unite_classes([[0]])
    for _ in place_segments(over_host, bound_ms=0.0, seed=0, expired=lambda: False):
        pass
    for _ in itertools.islice(
        anneal(over_host, start, target=lambda: PERIOD_MS, seed=0, expired=lambda: False, num_rounds=1), 1
    ):
        pass
    spread_flows.Network(over_host).send(PERIOD_MS, np.random.default_rng(0), stop)
    Borders(over_host).improve(start, 1, 0, stop)
    bisected_order(over_host, 0, 1)
    Sequences(compiled).search(order, None, PERIOD_MS, PERIOD_MS, 0, stop)
    Annealing(compiled).improve(start, PERIOD_MS, 0.0, 0, stop)


def _run_programs(compiled: CompiledInstance, order: Ints, stop: Ints) -> None:
    if throughput_ideals.supports(compiled):
        IdealProgram(compiled, order, MAX_STEPS).try_period(PERIOD_MS, lambda: False, MAX_STEPS, stop)
    if link_ideals.supports(compiled):
        prices = (np.array([0.5]), np.array([0.0]))
        LinkIdealProgram(compiled, order, prices).try_period(PERIOD_MS, lambda: False, MAX_STEPS, stop)
