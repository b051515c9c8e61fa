"""Links by hand: which one joins two devices, who pays, routes, and what an answer costs."""

from __future__ import annotations

import pytest

from solver.instance import DeviceSpec, Edge, Link, LinkGroup, LinkPair
from solver.validation import validate
from solver.verification import verify
from tests.small import gpus, make, op, ops

FAST, FAIR, SLOW = Link(8000.0), Link(2000.0, 0.5), Link(1000.0)
"""8 bytes take 1 ms, 4.5 ms and 8 ms."""


def wired(*, devices=None, operators=None, connections=None, constraints=None, overlap="none", objective=None, **wires):
    operators = ops(a=1.0, b=1.0) if operators is None else operators
    connections = (Edge("a", "b", 8),) if connections is None else connections
    devices = (gpus(4),) if devices is None else devices
    wires = {"model": "links", "overlap": overlap, **wires}
    question = make(operators, connections, devices, wires=wires, constraints=constraints, **(objective or {}))
    assert validate(question) == ()
    return question


def one_transfer(question, a="gpu:0", b="gpu:1"):
    verification = verify(question, {"a": a, "b": b})
    assert verification.violations == ()
    first, second = verification.stages
    assert first.transfer_out_ms == second.transfer_in_ms
    assert first.transfer_in_ms == second.transfer_out_ms == 0.0
    return second.transfer_in_ms


NODE = ("gpu:0", "gpu:1")


@pytest.mark.parametrize(
    ("wires", "time"),
    [
        ({"default": SLOW}, 8.0),
        ({"default": SLOW, "groups": (LinkGroup(("gpu:0", "gpu:2"), FAST),)}, 8.0),
        ({"default": SLOW, "groups": (LinkGroup(NODE, FAIR),)}, 4.5),
        ({"default": SLOW, "groups": (LinkGroup(("gpu",), SLOW), LinkGroup(NODE, FAIR))}, 4.5),
        ({"groups": (LinkGroup(NODE, FAIR), LinkGroup(("gpu",), FAST))}, 4.5),
        ({"groups": (LinkGroup(NODE, FAIR), LinkGroup(("gpu:1", "gpu:0"), FAST))}, 4.5),
        ({"groups": (LinkGroup(("gpu:0", "gpu:0", "gpu:1"), FAIR), LinkGroup(("gpu:0", "gpu:1", "gpu:2"), FAST))}, 4.5),
        ({"groups": (LinkGroup(NODE, FAST),), "pairs": (LinkPair("gpu:1", "gpu:0", SLOW),)}, 8.0),
        ({"pairs": (LinkPair("gpu:0", "gpu:1", FAIR), LinkPair("gpu:1", "gpu:0", FAST))}, 4.5),
        ({"pairs": (LinkPair("gpu:0", "gpu:2", FAST), LinkPair("gpu:2", "gpu:1", FAIR))}, 5.5),
        ({"pairs": (LinkPair("gpu:0", "gpu:2", FAST), LinkPair("gpu:2", "gpu:1", FAST)), "default": SLOW}, 8.0),
    ],
    ids=[
        "default",
        "another group",
        "group before default",
        "smallest group",
        "smallest group, listed first",
        "first of equals",
        "a device named twice counts once",
        "pair before group",
        "first of two pairs",
        "route",
        "no route where there is a link",
    ],
)
def test_which_link(wires, time):
    assert one_transfer(wired(**wires)) == time


def test_a_pair_of_ids_without_index_joins_each_with_each():
    devices = (gpus(2), DeviceSpec("old", "gpu", None, 2))
    question = wired(devices=devices, default=SLOW, pairs=(LinkPair("old", "gpu", FAST),))
    assert one_transfer(question, "gpu:1", "old:0") == 1.0
    assert one_transfer(question, "old:1", "gpu:1") == 1.0
    assert one_transfer(question, "old:1", "old:0") == 8.0


def test_the_route_depends_on_the_tensor():
    """Two hops without latency against one device with a fat pipe behind a long way."""
    wires = {
        "pairs": (
            LinkPair("gpu:0", "gpu:2", Link(1000.0)),
            LinkPair("gpu:2", "gpu:1", Link(1000.0)),
            LinkPair("gpu:0", "gpu:3", Link(1e9, 5.0)),
            LinkPair("gpu:3", "gpu:1", Link(1e9, 5.0)),
        )
    }
    assert one_transfer(wired(connections=[Edge("a", "b", 1)], **wires)) == 2.0
    assert one_transfer(wired(connections=[Edge("a", "b", 1000)], **wires)) == pytest.approx(10.002)


def test_a_time_of_its_own_counts_for_each_hop():
    connections = [Edge("a", "b", 8, transfer_time_ms=3.0)]
    assert one_transfer(wired(connections=connections, default=SLOW)) == 3.0
    way = tuple(LinkPair(f"gpu:{a}", f"gpu:{b}", FAST) for a, b in ((0, 2), (2, 3), (3, 1)))
    assert one_transfer(wired(connections=connections, pairs=way)) == 9.0


def test_the_sender_pays_for_each_receiving_device_and_hosts_pay_too():
    devices = (gpus(1), DeviceSpec("cpu", "gpu", None, 2, is_host=True))
    operators = ops(a=1.0, b=1.0, c=1.0, d=1.0)
    connections = [Edge("a", name, 8) for name in "bcd"]
    wires = {"default": SLOW, "pairs": (LinkPair("gpu:0", "cpu:1", FAST),)}
    question = wired(devices=devices, operators=operators, connections=connections, **wires)
    placement = {"a": "gpu:0", "b": "cpu:0", "c": "cpu:0", "d": "cpu:1"}
    verification = verify(question, placement)
    times = {s.device: (s.compute_time_ms, s.transfer_in_ms, s.transfer_out_ms) for s in verification.stages}
    assert times == {"gpu:0": (1.0, 0.0, 9.0), "cpu:0": (2.0, 8.0, 0.0), "cpu:1": (1.0, 1.0, 0.0)}
    assert verification.objective_value == 10.0


@pytest.mark.parametrize(("overlap", "period"), [("none", 12.0), ("full", 9.0), ("duplex", 8.0)])
def test_overlap(overlap, period):
    operators = ops(a=1.0, b=3.0, c=1.0)
    connections = [Edge("a", "b", 8), Edge("b", "c", 8)]
    wires = {"default": SLOW, "pairs": (LinkPair("gpu:0", "gpu:1", FAST),)}
    question = wired(operators=operators, connections=connections, overlap=overlap, **wires)
    assert verify(question, {"a": "gpu:0", "b": "gpu:1", "c": "gpu:2"}).objective_value == period


def test_gpipe_counts_a_transfer_to_the_pass_of_its_producer():
    operators = [op("a", 1.0), op("b", 2.0), op("c", 4.0, is_backward=True)]
    connections = [Edge("a", "b", 8), Edge("b", "c", 1)]
    question = wired(operators=operators, connections=connections, default=SLOW, objective={"schedule": "gpipe"})
    forward, backward = 2.0 + 8.0 + 1.0, 4.0
    assert verify(question, {"a": "gpu:0", "b": "gpu:1", "c": "gpu:0"}).objective_value == forward + backward


def test_no_route():
    question = wired(pairs=(LinkPair("gpu:0", "gpu:1", FAST),))
    verification = verify(question, {"a": "gpu:0", "b": "gpu:2"})
    assert [(v.code, v.operators, v.devices) for v in verification.violations] == [
        ("no_route", ("a", "b"), ("gpu:0", "gpu:2"))
    ]
    assert verification.objective_value is None
    assert verify(question, {"a": "gpu:2", "b": "gpu:2"}).violations == ()


def test_no_route_even_for_nothing():
    question = wired(connections=[Edge("a", "b")])
    assert [v.code for v in verify(question, {"a": "gpu:0", "b": "gpu:2"}).violations] == ["no_route"]


def test_the_objective_cost_counts_used_devices_once():
    devices = (gpus(3, cost_per_hour=2.5), DeviceSpec("free", "gpu"))
    operators = ops(a=1.0, b=1.0, c=1.0)
    objective = {"kind": "cost"}
    question = wired(devices=devices, operators=operators, connections=(), objective=objective)
    assert verify(question, {"a": "gpu:0", "b": "gpu:0", "c": "gpu:2"}).objective_value == 5.0
    assert verify(question, {"a": "gpu:0", "b": "free", "c": "free"}).objective_value == 2.5
    limited = wired(
        devices=devices, operators=operators, connections=(), objective=objective, constraints={"max_period_ms": 1.0}
    )
    verification = verify(limited, {"a": "gpu:0", "b": "free", "c": "free"})
    assert [v.code for v in verification.violations] == ["max_period_ms"]
    assert verification.objective_value == 2.5


def test_a_link_too_slow_for_any_time():
    question = make(ops(a=1.0), wires={"model": "links", "pairs": (LinkPair("gpu:0", "gpu:1", Link(1e-9)),)})
    assert validate(question) == ()
    question = make(
        ops(a=1.0, b=1.0),
        [Edge("a", "b", 2**52)],
        wires={"model": "links", "pairs": (LinkPair("gpu:0", "gpu:1", Link(1e-9)),)},
    )
    (issue,) = validate(question)
    assert (issue.code, issue.pointer) == ("out_of_range", "/cluster/interconnect/pairs/0/bandwidth_bytes_per_s")
