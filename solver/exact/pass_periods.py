"""``gpipe``: which pairs of a forward and a backward period can be kept, until the least sum of the two is known.

A placement has a point (f, b): its largest forward load and its largest backward load. It is worth f + b. The
:mod:`ideal program <solver.exact.throughput_ideals>` answers whether some pipeline keeps a *box*, f ≤ F and b ≤ B.

*Corners.* At any time there are corners (p, q) such that every placement has f ≥ p and b ≥ q for one of them; the least
p + q is a bound. At first there is one, made of a bound for each pass. When a box (F, B) is impossible, a placement
above a corner (p, q) with p < F and q < B has f > F or b > B, so that the corner gives way to (F, q) and (p, B).

*Trials.* Let V be the best value known. The weakest corner is short of V by δ = V − p − q. A box (p + x, q + y) with
x + y = δ holds only placements that are worth at most V: either one is found, which is an improvement, or the two new
corners are short by δ − x and δ − y. Such boxes would close the gap, but add nothing to each other: the shortages still
sum up to δ. Larger boxes leave less, at best nothing (x = y = δ), but may be kept by a placement that is worth more
than V. Its point is remembered, and no later box contains it. Smaller ones improve V by more or tell less. What pays
depends on how far V and the bound are from the optimum, which nobody knows: trials that fail are followed by larger
boxes (up to the largest without a known point), trials that find something by smaller ones (down to a quarter of the
way to the line). Where known points leave little room beyond the line, a box ends at the line, and takes at least
a quarter off the shortage. So each trial improves V, takes something off a corner, or adds a point.

Source: own; the search for the corners of a front is classical in optimisation with two objectives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from solver.compiled import NUM_PASSES, CompiledInstance
from solver.exact.throughput_ideals import FINE, FINEST, Assignment, IdealProgram, Verdict
from solver.kernels import stop_flag
from solver.stage_costs import OVERLAP_CODES, load

Point = tuple[float, float]

LITTLE = 1 / 8
"""Of a corner's shortage: boxes that reach less beyond the line end at the line."""
SHORTEST_STRIDE, LONGEST_STRIDE = 1 / 4, 2.0
ROUNDING = 1e-12


class PassPeriods:
    """What is known of the periods that can be kept together; it outlasts a call.

    Args:
        program: of a ``gpipe`` instance.
        least: bounds of the two periods, in ms.
    """

    def __init__(self, program: IdealProgram, least: Point) -> None:
        self._program = program
        self._corners = [least]
        self._points: list[Point] = []
        self._stride = 0.5

    @property
    def bound_ms(self) -> float:
        """What every placement is worth at least."""
        return min(p + q for p, q in self._corners) * (1 - ROUNDING)

    def close_gap(
        self,
        *,
        interval: Callable[[], tuple[float, float]],
        found: Callable[[Assignment], object],
        proved: Callable[[float], object],
        expired: Callable[[], bool],
        max_steps: float = math.inf,
    ) -> None:
        """As :func:`solver.exact.throughput_ideals.close_gap`, with ``max_steps`` for all trials together."""
        with stop_flag(expired) as stop:
            while not expired():
                bound, value = interval()
                if value - max(bound, self.bound_ms) <= FINEST * value:
                    return
                box = self.next_box(value)
                trial = self._program.try_periods(box, expired, max_steps, stop)
                max_steps -= trial.num_steps
                if trial.verdict is Verdict.GAVE_UP or max_steps <= 0:
                    return
                if trial.assignment is None:
                    self._stride = min(2 * self._stride, LONGEST_STRIDE)
                    self.exclude(box)
                    proved(self.bound_ms)
                    continue
                self._stride = max(self._stride / 2, SHORTEST_STRIDE)
                point = largest_loads(self._program.compiled, trial.assignment)
                self._points.append(point)
                if sum(point) < value:
                    found(trial.assignment)
                    if interval()[1] >= value:
                        return  # refused: the next trial would be the same

    def next_box(self, value: float) -> Point:
        """The periods to try next, if ``value`` is the best known."""
        p, q = min(self._corners, key=sum)
        margin = value * FINEST / 4
        short = value - 2 * margin - p - q
        # The largest box without a known point lies between two that are neighbours, or beside the outermost.
        known = sorted((f - p - margin, b - q - margin) for f, b in self._points)
        front = [(0.0, short)]
        for x, y in known:
            if x < short and y < front[-1][1]:
                front.append((max(x, 0.0), max(y, 0.0)))
        front.append((short, 0.0))
        x, y = max(((after[0], before[1]) for before, after in pairwise(front)), key=sum)
        beyond = x + y - short
        if beyond < LITTLE * short:
            x = min(max(x - beyond / 2, short / 4), short * 3 / 4)
            y = short - x
        elif self._stride <= 1:
            x, y = x - beyond / 4, y - beyond / 4
        scale = min(self._stride, 1.0) if short > FINE * value else 1.0
        return p + scale * x, q + scale * y

    def exclude(self, box: Point) -> None:
        """No placement keeps ``box``."""
        corners = []
        for p, q in self._corners:
            if p < box[0] and q < box[1]:
                corners += [(box[0], q), (p, box[1])]
            else:
                corners.append((p, q))
        # A corner above another one says nothing.
        self._corners = []
        for p, q in sorted(corners):
            if not self._corners or q < self._corners[-1][1]:
                self._corners.append((p, q))


def largest_loads(compiled: CompiledInstance, assignment: Assignment) -> Point:
    """The largest forward and the largest backward load, in ms."""
    used = sorted(set(assignment))
    number = {device: index for index, device in enumerate(used)}
    spent, incoming, outgoing = (np.zeros((len(used), NUM_PASSES)) for _ in range(3))
    for item, device in enumerate(assignment):
        spent[number[device]] += compiled.compute_ms[item, device[0]]
    for tensor in compiled.tensors:
        home = assignment[tensor.producer]
        others = {assignment[consumer] for consumer in tensor.consumers} - {home}
        for direction, devices in ((outgoing, {home} if others else set()), (incoming, others)):
            for device in devices:
                if not compiled.classes[device[0]].is_host:
                    direction[number[device], tensor.pass_index] += tensor.time_ms[device[0]]
    code = OVERLAP_CODES[compiled.overlap]
    forward, backward = (
        max(load(code, *parts) for parts in zip(spent[:, index], incoming[:, index], outgoing[:, index], strict=True))
        for index in range(NUM_PASSES)
    )
    return forward, backward
