"""The integer program that Placewright is compared with has to be the right one, or the comparison is worth nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.paper_program import Solver, solve
from solver.instance import Overlap, Partition, PipelineSchedule
from solver.verification import verify
from tests.properties.enumeration import close, enumerate_optimum
from tests.properties.instances import random_instance
from tests.small import edges, gpus, host, make, op, ops


def is_tame(instance):
    """Whether its times differ by less than what the tolerances of these solvers can tell apart."""
    times = [time for o in instance.graph.operators for time in o.compute_time_ms.values()]
    times = [time for time in [*times, *(e.transfer_time_ms or 0.0 for e in instance.graph.edges)] if time > 0]
    return not times or max(times) < 1e3 * min(times)


TAME = [seed for seed in range(250) if is_tame(random_instance(seed))]


def test_enough_seeds_of_every_rule_are_tame():
    instances = [random_instance(seed) for seed in TAME]
    assert {i.objective.schedule for i in instances} == set(PipelineSchedule)
    assert {i.cluster.interconnect.overlap for i in instances} == set(Overlap)
    assert len(TAME) > 60


@pytest.mark.parametrize("solver", Solver)
@pytest.mark.parametrize("partition", [Partition.CONVEX, Partition.FREE])
@pytest.mark.parametrize("seed", TAME[:60])
def test_agrees_with_enumeration(seed, partition, solver):
    instance = random_instance(seed)
    instance = replace(instance, objective=replace(instance.objective, partition=partition))
    best, _ = enumerate_optimum(instance)
    answer = solve(instance, solver, 30.0, gap_tolerance=0.0)
    if best is None:
        assert answer.placement is None
        assert answer.ended == "infeasible"
        return
    assert answer.ended == "optimal"
    verification = verify(instance, answer.placement)
    assert verification.violations == ()
    assert close(verification.objective_value, best)
    assert close(answer.best_bound, best)


def test_convexity_costs_what_it_must():
    # Without the rule, the two ends share a device and the long middle has one of its own.
    chain = make(ops(a=2, b=4, c=2), edges(ab=0, bc=0), (gpus(2),))
    free = replace(chain, objective=replace(chain.objective, partition=Partition.FREE))
    convex = replace(chain, objective=replace(chain.objective, partition=Partition.CONVEX))
    assert verify(free, solve(free, Solver.HIGHS, 30.0).placement).objective_value == pytest.approx(4)
    assert verify(convex, solve(convex, Solver.HIGHS, 30.0).placement).objective_value == pytest.approx(6)


def test_an_operator_without_a_device_makes_it_infeasible():
    instance = make((op("a"), op("b", {"tpu": 1.0})), (), (gpus(1), host()), partition="free")
    assert solve(instance, Solver.HIGHS, 30.0).ended == "infeasible"
