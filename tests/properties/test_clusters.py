"""Real clusters against enumeration: links, unlike devices, hosts in the pipeline, every constraint, cost."""

from __future__ import annotations

import math
import random

import pytest

from solver.instance import InterconnectModel, ObjectiveKind, Partition
from solver.validation import validate
from solver.verification import verify
from tests.depth import chunks
from tests.properties.clusters import random_cluster_instance
from tests.properties.enumeration import check_optimum, close, is_feasible, period, worth
from tests.properties.test_enumeration import random_placement


@pytest.mark.parametrize("chunk", chunks(5))
def test_verifier_equals_the_definitions(chunk):
    for seed in range(chunk * 100, chunk * 100 + 100):
        instance = random_cluster_instance(seed)
        assert validate(instance) == (), seed
        source = random.Random(seed)
        for _ in range(10):
            placement = random_placement(instance, source)
            if placement is None:
                break
            verification = verify(instance, {name: device.name for name, device in placement.items()})
            if math.isinf(period(instance, placement)):
                assert verification.objective_value is None, seed
                assert "no_route" in {violation.code for violation in verification.violations}, seed
            else:
                assert close(verification.objective_value, worth(instance, placement)), seed
            assert bool(verification.violations) is not is_feasible(instance, placement), seed


@pytest.mark.parametrize("chunk", chunks(12))
def test_answer_equals_enumeration(solve, chunk):
    for seed in range(chunk * 25, chunk * 25 + 25):
        instance = random_cluster_instance(seed)
        check_optimum(instance, solve(instance), seed)


def test_the_random_clusters_reach_every_corner():
    """Else the test above could pass by looking away."""
    codes, kinds, routes = set(), set(), 0
    for seed in range(1000):
        instance = random_cluster_instance(seed)
        kinds.add((instance.objective.kind, instance.cluster.interconnect.model, instance.objective.partition))
        source = random.Random(seed)
        placement = random_placement(instance, source)
        if placement is None:
            continue
        found = {v.code for v in verify(instance, {n: d.name for n, d in placement.items()}).violations}
        codes |= found if len(found) == 1 else set()
        wires = instance.cluster.interconnect
        routes += wires.model is InterconnectModel.LINKS and wires.default is None and "no_route" not in found
    assert len(kinds) == len(ObjectiveKind) * len(Partition) * 2 - 6  # no latency
    assert routes > 50
    assert codes == {
        "memory",
        "colocation",
        "allowed_devices",
        "pinned",
        "forbidden",
        "acyclic_partition",
        "convex_partition",
        "no_route",
        "max_period_ms",
        "min_throughput_per_s",
        "max_devices",
        "max_cost_per_hour",
        "max_moved_operators",
        "max_moved_bytes",
    }
