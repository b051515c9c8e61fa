"""Classes of devices and transfer times over links, against the definitions."""

from __future__ import annotations

import itertools
import math

import pytest

from solver.compiled import compile_instance
from solver.instance import InterconnectModel
from tests.depth import chunks
from tests.properties.clusters import random_cluster_instance
from tests.properties.enumeration import between, close, hop


def instances(chunk):
    for seed in range(chunk * 100, chunk * 100 + 100):
        instance = random_cluster_instance(seed)
        if instance.cluster.interconnect.model is InterconnectModel.LINKS:
            yield seed, instance


@pytest.mark.parametrize("chunk", chunks(5))
def test_devices_of_a_class_can_be_exchanged_and_others_cannot(chunk):
    for seed, instance in instances(chunk):
        devices = {device.name: device for device in instance.cluster.expand()}
        edge = instance.graph.edges[0] if instance.graph.edges else None
        class_of = {name: k for k, c in enumerate(compile_instance(instance).classes) for name in c.devices}
        if edge is None:
            continue
        joined = {
            (a, b): hop(instance.cluster, edge, devices[a], devices[b]) for a, b in itertools.permutations(devices, 2)
        }
        for one, other in itertools.combinations(devices, 2):
            alike = all(joined[one, c] == joined[other, c] for c in devices if c not in {one, other})
            if class_of[one] == class_of[other]:
                assert alike, seed
            elif alike and devices[one].spec == devices[other].spec and no_names(instance):
                differing = [c for c in devices if links(instance, one, c) != links(instance, other, c)]
                assert set(differing) - {one, other}, seed


def no_names(instance):
    """Whether nothing but links can tell devices of one entry apart."""
    limits = instance.constraints
    return (
        not limits.pinned
        and not limits.forbidden
        and not limits.previous_placement
        and all(operator.allowed_devices is None for operator in instance.graph.operators)
    )


def links(instance, a, b):
    """Times of two sizes, which tell any two of the links drawn apart."""
    if a == b:
        return None
    devices = {device.name: device for device in instance.cluster.expand()}
    edge = type(instance.graph.edges[0])
    return [hop(instance.cluster, edge("x", "y", size), devices[a], devices[b]) for size in (0, 4000)]


@pytest.mark.parametrize("chunk", chunks(5))
def test_times_between_classes_are_those_of_the_definitions(chunk):
    for seed, instance in instances(chunk):
        compiled = compile_instance(instance)
        devices = {device.name: device for device in instance.cluster.expand()}
        class_of = {name: k for k, c in enumerate(compiled.classes) for name in c.devices}
        for edge in instance.graph.edges:
            size = (edge.bytes, edge.transfer_time_ms)
            times, least = compiled.links.times((size,)), compiled.links.least_times((size,))
            for a, b in itertools.permutations(devices, 2):
                expected = between(instance.cluster, edge, devices[a], devices[b])
                found = times[class_of[a], class_of[b]]
                assert found == expected or close(found, expected), seed
                assert bool(compiled.links.reaches[class_of[a], class_of[b]]) is math.isfinite(expected), seed
                assert least[class_of[a]] <= expected * (1 + 1e-12), seed
