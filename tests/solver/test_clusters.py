"""Real clusters by hand: order of unlike devices, hosts in the pipeline, limits, and the cheapest devices."""

from __future__ import annotations

from solver.instance import DeviceSpec, Edge, Link, LinkGroup, SolverOptions
from solver.result import Status
from solver.solve import solve as run
from tests.small import edges, gpus, make, op, ops

PAIRS = tuple(LinkGroup((f"gpu:{i}", f"gpu:{i + 1}"), Link(8000.0)) for i in (0, 2))


def test_a_pipeline_stays_in_its_node_where_it_can(solve):
    """8 bytes take 1 ms within a pair of devices and 5 ms between pairs; three stages cross where it costs least."""
    connections = [Edge("a", "b", 8), Edge("b", "c", 1)]
    question = make(
        ops(a=4.0, b=4.0, c=4.0),
        connections,
        [gpus(4)],
        wires={"model": "links", "default": Link(1600.0), "groups": PAIRS},
    )
    result = solve(question)
    assert (result.status, result.objective_value) == (Status.OPTIMAL, 4.0 + 1.0 + 0.625)
    assert {result.placement["a"], result.placement["b"]} in ({"gpu:0", "gpu:1"}, {"gpu:2", "gpu:3"})


def test_the_fast_device_takes_the_heavy_end(solve):
    devices = [DeviceSpec("new", "new"), DeviceSpec("old", "old")]
    operators = [op("a", {"new": 1.0, "old": 2.0}), op("b", {"new": 5.0, "old": 12.0})]
    result = solve(make(operators, edges(ab=0.5), devices, wires={"model": "links", "default": Link(1.0)}))
    assert result.placement == {"a": "old", "b": "new"}
    assert result.objective_value == 5.5


def test_the_cheapest_devices_that_are_fast_enough(solve):
    devices = [gpus(3, cost_per_hour=2.0), DeviceSpec("old", "old", count=3, cost_per_hour=0.75)]
    operators = [op(name, {"gpu": 1.0, "old": 2.0}) for name in "abcd"]
    for limit, price in ((8.0, 0.75), (4.0, 1.5), (2.0, 3.5), (1.0, None)):
        result = solve(make(operators, (), devices, kind="cost", constraints={"max_period_ms": limit}))
        assert result.objective_value == price, limit
        assert result.status is (Status.INFEASIBLE if price is None else Status.OPTIMAL)


def test_a_resolve_that_moves_little(solve):
    before = {"a": "gpu:0", "b": "gpu:0", "c": "gpu:0", "d": "gpu:0"}
    operators = [op(name, 1.0, 1) for name in "abcd"]
    for most, period in ((0, 4.0), (1, 3.0), (2, 2.0), (4, 2.0)):
        limits = {"previous_placement": before, "max_moved_operators": most}
        result = solve(make(operators, (), constraints=limits))
        assert (result.status, result.objective_value) == (Status.OPTIMAL, period)


def test_fewer_devices_than_there_are(solve):
    for most, period in ((1, 4.0), (2, 2.0), (3, 2.0), (4, 1.0)):
        result = solve(make(ops(a=1.0, b=1.0, c=1.0, d=1.0), (), [gpus(4)], constraints={"max_devices": most}))
        assert (result.status, result.objective_value) == (Status.OPTIMAL, period)


def test_an_answer_comes_before_prices_are_sought(monkeypatch):
    placed = []
    known = []

    def find_prices(*_):
        known.append(len(placed))

    def note(progress):
        if progress.placement is not None:
            placed.append(progress.placement)

    monkeypatch.setattr("solver.clusters.find_prices", find_prices)
    operators = ops(a=4.0, b=3.0, c=2.0)
    question = make(operators, edges(ab=1.0, bc=1.0), [gpus(3)], wires={"model": "links", "default": Link(1.0)})
    result = run(question, SolverOptions(time_limit_s=60, workers=1), on_progress=note)
    assert known[0] > 0
    assert result.status is Status.OPTIMAL
