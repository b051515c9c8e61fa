"""Better pipelines from a given one: items at the border of a stage move to a stage they exchange data with.

Annealing on what loads exceed a level by, squared and summed; memory likewise. The level follows the mean load, so that
moves even out the loads and lower what is transferred in all. Stages keep their numbers and every forward edge stays
or goes to a higher one, so each placement met is acyclic. How many consumers of each tensor every stage holds is kept
up to date, so that a move costs as much as the item has tensors, however many items read them. Loads are those of
``1f1b``.

Source: own; the schedule is that of textbook simulated annealing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solver.compiled import CompiledInstance, Floats, Ints
from solver.heuristics.bisection import ItemGraph, item_graph, rows
from solver.heuristics.cooling import accepts, temperature
from solver.kernels import kernel
from solver.pipelines import along_pipeline
from solver.stage_costs import NO_LIMIT, StageCosts, load, stage_costs

Assignment = list[tuple[int, int]]

MAX_COUNTS = 30_000_000
"""Tensors × devices whose counts are kept, in 4 bytes each."""
LEVEL = 0.98
"""What loads are measured against, in parts of their mean."""
HOT, WARM, COLD = 3e-3, 3e-4, 1e-5
"""Temperatures at the start of a round, hot or not, and at its end; an excess of 1 is one device at twice the level."""
MEMORY_PRICE = 3.0
"""Excess of memory, in parts of a device's memory, against excess of load."""
FAR = 0.02
"""Share of the moves to any stage at all, rather than to that of a neighbour."""
GAIN = 1e-5
"""What counts as better, relatively; less may be rounding."""
TINIEST_MS = 1e-100
ROUND = 8192


class Stages(NamedTuple):
    """What the stages hold now: D stages, T tensors.

    Attributes:
        class_of: [D] class of each stage's device.
        place: [I] stage of each item.
        home: [T] stage of the producer.
        counts: [T, D] consumers in each stage.
        spent, incoming, outgoing, loads: [D] ms.
        held: [D] bytes.
    """

    class_of: Ints
    place: Ints
    home: Ints
    counts: npt.NDArray[np.int32]
    spent: Floats
    incoming: Floats
    outgoing: Floats
    loads: Floats
    held: Floats


def supports(compiled: CompiledInstance) -> bool:
    """Whether the instance is one over ``host`` whose counts can be kept."""
    return compiled.links is None and len(compiled.tensors) * compiled.num_devices <= MAX_COUNTS


class Borders:
    """Rounds of moves on one instance, reduced for the acyclic partition, with :func:`supports`."""

    def __init__(self, compiled: CompiledInstance) -> None:
        self._compiled = compiled
        self._costs = stage_costs(compiled, np.arange(compiled.num_items), range(len(compiled.classes)))
        self._graph = item_graph(compiled)
        ends = [(t.producer, c) for t in compiled.tensors for c in t.consumers]
        pairs = np.array(ends, dtype=np.int64).reshape(-1, 2)
        self._partners = rows(np.concatenate([pairs, pairs[:, ::-1]]), compiled.num_items)

    def improve(
        self, start: Sequence[tuple[int, int]], steps: int, seed: int, stop: Ints, *, hot: bool = True
    ) -> Assignment | None:
        """The placement with the smallest largest load met in one round; ``start`` itself at worst.

        Args:
            start: an assignment; ``None`` is returned for one that is not acyclic.
            steps: moves that are tried.
            seed: of the moves.
            stop: ends the round when its first entry is set.
            hot: whether the stages may change beyond recognition at first.
        """
        used = along_pipeline(self._compiled, start)
        if used is None:
            return None
        devices = [(k, number) for k, c in enumerate(self._compiled.classes) for number in range(c.count)]
        pipeline = used + sorted(set(devices).difference(used))
        number = {device: stage for stage, device in enumerate(pipeline)}
        place = np.array([number[device] for device in start], dtype=np.int64)
        best = place.copy()
        stages = self._stages(np.array([k for k, _ in pipeline], dtype=np.int64), place)
        draws = np.random.default_rng(seed)
        _anneal(self._costs, self._graph, *self._partners, stages, best, HOT if hot else WARM, steps, draws, stop)
        return [pipeline[stage] for stage in best]

    def _stages(self, class_of: Ints, place: Ints) -> Stages:
        num_stages, num_tensors = len(class_of), len(self._compiled.tensors)
        spent, incoming, outgoing, loads, held = (np.zeros(num_stages) for _ in range(5))
        home, counts = np.zeros(num_tensors, dtype=np.int64), np.zeros((num_tensors, num_stages), dtype=np.int32)
        return Stages(class_of, place, home, counts, spent, incoming, outgoing, loads, held)


@kernel
def _fill(costs: StageCosts, now: Stages) -> None:
    """Everything from scratch: running sums drift."""
    compute, memory, _, overlap, producer, num_consumers, times, first, touching = costs
    class_of, place, home, counts, spent, incoming, outgoing, loads, held = now
    counts[:] = 0
    spent[:] = 0.0
    incoming[:] = 0.0
    outgoing[:] = 0.0
    held[:] = 0.0
    for item in range(len(place)):
        stage = place[item]
        spent[stage] += compute[item, class_of[stage]]
        held[stage] += memory[item]
        for index in range(first[item], first[item + 1]):
            if producer[touching[index]] == item:
                home[touching[index]] = stage
            else:
                counts[touching[index], stage] += 1
    for tensor in range(len(producer)):
        own = home[tensor]
        for stage in range(len(class_of)):
            if counts[tensor, stage] > 0 and stage != own:
                incoming[stage] += times[tensor, class_of[stage]]
        if counts[tensor, own] < num_consumers[tensor]:
            outgoing[own] += times[tensor, class_of[own]]
    for stage in range(len(class_of)):
        loads[stage] = load(overlap, spent[stage], incoming[stage], outgoing[stage])


@kernel
def _shift(costs: StageCosts, now: Stages, item: int, new: int) -> None:
    """Take an item to another stage; ``loads`` are left as they were."""
    compute, memory, _, _, producer, num_consumers, times, first, touching = costs
    class_of, place, home, counts, spent, incoming, outgoing, _, held = now
    old = place[item]
    a, b = class_of[old], class_of[new]
    spent[old] -= compute[item, a]
    spent[new] += compute[item, b]
    held[old] -= memory[item]
    held[new] += memory[item]
    place[item] = new
    for index in range(first[item], first[item + 1]):
        tensor = touching[index]
        number, own = num_consumers[tensor], home[tensor]
        if producer[tensor] == item:
            if counts[tensor, old] < number:
                outgoing[old] -= times[tensor, a]
            if counts[tensor, new] < number:
                outgoing[new] += times[tensor, b]
            if counts[tensor, old] > 0:
                incoming[old] += times[tensor, a]
            if counts[tensor, new] > 0:
                incoming[new] -= times[tensor, b]
            home[tensor] = new
            continue
        if old != own and counts[tensor, old] == 1:
            incoming[old] -= times[tensor, a]
        if old == own and counts[tensor, old] == number:
            outgoing[old] += times[tensor, a]
        counts[tensor, old] -= 1
        counts[tensor, new] += 1
        if new != own and counts[tensor, new] == 1:
            incoming[new] += times[tensor, b]
        if new == own and counts[tensor, new] == number:
            outgoing[new] -= times[tensor, b]


@kernel
def _penalty(costs: StageCosts, now: Stages, stage: int, level: float) -> float:
    """What load and memory exceed in one stage."""
    over = load(costs.overlap, now.spent[stage], now.incoming[stage], now.outgoing[stage]) / level - 1.0
    total = over * over if over > 0 else 0.0
    limit = costs.limits[now.class_of[stage]]
    if limit < NO_LIMIT and now.held[stage] > limit:
        total += MEMORY_PRICE * (now.held[stage] - limit) / max(limit, 1)
    return total


@kernel
def _may_move(graph: ItemGraph, place: Ints, item: int, new: int) -> bool:
    """Whether everything before the item stays at or before its new stage, and what follows at or behind it."""
    if new > place[item]:
        for pointer in range(graph.first_after[item], graph.first_after[item + 1]):
            if place[graph.after[pointer]] < new:
                return False
    else:
        for pointer in range(graph.first_before[item], graph.first_before[item + 1]):
            if place[graph.before[pointer]] > new:
                return False
    return True


@kernel
def _anneal(  # noqa: PLR0912  one loop nest, kept whole for the compiler
    costs: StageCosts,
    graph: ItemGraph,
    first_partner: Ints,
    partners: Ints,
    now: Stages,
    best: Ints,
    hot: float,
    steps: int,
    draws: np.random.Generator,
    stop: Ints,
) -> None:
    """One round; the best places met go to ``best``."""
    place, loads = now.place, now.loads
    num_stages = len(now.class_of)
    touched = np.zeros(num_stages, dtype=np.int64)
    seen = np.full(num_stages, -1, dtype=np.int64)
    limits = costs.limits[now.class_of].astype(np.float64)
    reached, level = np.inf, 1.0
    for step in range(steps + 1):
        if step % ROUND == 0 or step == steps:
            _fill(costs, now)
            level = max(LEVEL * loads.mean(), TINIEST_MS)
            if step == 0:
                reached = loads.max()
            if stop[0]:
                return
        item = int(draws.random() * len(place))
        old = place[item]
        number = first_partner[item + 1] - first_partner[item]
        if number == 0 or draws.random() < FAR:
            new = int(draws.random() * num_stages)
        else:
            new = place[partners[first_partner[item] + int(draws.random() * number)]]
        if new == old or costs.compute[item, now.class_of[new]] == np.inf or not _may_move(graph, place, item, new):
            continue
        seen[old] = seen[new] = step
        touched[0], touched[1] = old, new
        num_touched = 2
        for index in range(costs.first[item], costs.first[item + 1]):
            stage = now.home[costs.touching[index]]
            if seen[stage] != step:
                seen[stage] = step
                touched[num_touched] = stage
                num_touched += 1
        change = 0.0
        for index in range(num_touched):
            change -= _penalty(costs, now, touched[index], level)
        _shift(costs, now, item, new)
        for index in range(num_touched):
            change += _penalty(costs, now, touched[index], level)
        if not accepts(change, temperature(hot, COLD, step / steps), draws):
            _shift(costs, now, item, old)
            continue
        for index in range(num_touched):
            stage = touched[index]
            loads[stage] = load(costs.overlap, now.spent[stage], now.incoming[stage], now.outgoing[stage])
        if loads.max() < reached * (1 - GAIN) and (now.held <= limits).all():
            reached = loads.max()
            best[:] = place
