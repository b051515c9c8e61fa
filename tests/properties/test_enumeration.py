"""The differential test: the answers of ``solve`` and of ``verify`` against all placements of tiny instances."""

from __future__ import annotations

import random

import pytest

from solver.verification import verify
from tests.depth import chunks
from tests.properties.enumeration import check_optimum, close, is_feasible, period
from tests.properties.instances import random_instance

NUM_CHUNKS = 20
CHUNK = 20


def seeds(chunk):
    return range(chunk * CHUNK, (chunk + 1) * CHUNK)


@pytest.mark.parametrize("chunk", chunks(NUM_CHUNKS))
def test_answer_equals_enumeration(solve, chunk):
    for seed in seeds(chunk):
        instance = random_instance(seed)
        check_optimum(instance, solve(instance), seed)


@pytest.mark.parametrize("chunk", chunks(NUM_CHUNKS))
def test_verifier_equals_the_definitions(chunk):
    """On any placement that has a value, not only on good ones."""
    for seed in seeds(chunk):
        instance = random_instance(seed)
        source = random.Random(seed)
        for _ in range(20):
            placement = random_placement(instance, source)
            if placement is None:
                break
            verification = verify(instance, {name: device.name for name, device in placement.items()})
            assert close(verification.objective_value, period(instance, placement)), seed
            assert bool(verification.violations) is not is_feasible(instance, placement), seed


def random_placement(instance, source):
    """Each operator on a device that can run it, rules apart; half the time everything stays close together."""
    devices = instance.cluster.expand()
    chosen = source.sample(devices, source.randint(1, len(devices)))
    placement = {}
    for operator in instance.graph.operators:
        able = [device for device in chosen if device.spec.kind in operator.compute_time_ms]
        able = able or [device for device in devices if device.spec.kind in operator.compute_time_ms]
        if not able:
            return None
        placement[operator.id] = source.choice(able)
    return placement


def test_the_random_instances_reach_every_corner():
    """Else the tests above could pass by looking away."""
    statuses, partitions_that_matter = set(), set()
    for seed in range(NUM_CHUNKS * CHUNK):
        instance = random_instance(seed)
        source = random.Random(seed)
        placements = [random_placement(instance, source) for _ in range(5)]
        for placement in placements:
            if placement is None:
                statuses.add("no device")
                continue
            verification = verify(instance, {name: device.name for name, device in placement.items()})
            statuses |= {violation.code for violation in verification.violations} or {"valid"}
            if verification.violations and {v.code for v in verification.violations} <= {
                "acyclic_partition",
                "convex_partition",
            }:
                partitions_that_matter.add(instance.objective.partition)
    assert statuses == {
        "no device",
        "valid",
        "memory",
        "colocation",
        "allowed_devices",
        "pinned",
        "forbidden",
        "acyclic_partition",
        "convex_partition",
    }
    assert len(partitions_that_matter) == 2
