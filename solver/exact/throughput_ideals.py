r"""Throughput, acyclic partition: the fewest devices that reach each ideal, for a trial period.

An *ideal* is a set of items that contains all predecessors of its members. The first k stages of a pipeline hold an
ideal, so a pipeline is a chain of ideals, and stage S = J \\ I costs what the set S costs. For a trial period T the
program finds, for each ideal it can reach and each number of devices used of the lesser classes, the fewest devices of
the main class (the most numerous) that reach it with no load above T. If the ideal of all items needs more devices
than there are, T is proved to be below the optimum; otherwise the chain is a placement.

Under ``gpipe`` a trial has a period for each pass, and a stage has to keep both: every argument below is made for each
of its two loads by itself. What to conclude from such trials is the matter of :mod:`solver.exact.pass_periods`.

What keeps it small:

* Supersets J of I are enumerated by adding items in ascending position of one topological order, which visits each J
  once. A branch ends when compute plus the transfers that have irrevocably entered exceed T, or memory its limit.
* An ideal is dropped when the compute still to come exceeds what the devices left can take within T. Close to the
  optimum there is little slack, and few ideals survive.
* An ideal is passed over when a larger one takes no more devices and it can be shown that going on from there is never
  worse (shown in :mod:`solver.exact.ideal_domination`).
* Devices that something is pinned to are not counted: whether one is used shows in the ideal itself.
* Alike siblings (same times, same inputs and outputs) are taken in order of their index: whoever has a pipeline can
  exchange them until their stages ascend.
* An ideal is stored exactly: the first position that is missing, and a window of 120 positions behind it. Graphs for
  which that window is too narrow are handed over to other methods, and nothing is claimed.

Items without forward operators are *loose*: any stage may hold them. They are members of ideals like others, without
predecessors or successors, and stand last in the order. Each of them doubles the number of ideals, so there can only be
a few.

Source: the recursion over ideals is that of Tarnawski et al. (2020, §5.1); trial periods, counts and pruning are own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from solver.compiled import NUM_PASSES, CompiledInstance, Floats, Ints
from solver.exact.ideal_graph import ideal_graph, loose_last
from solver.exact.ideal_kernel import DONE, PAUSED, TABLE_FULL, TOO_WIDE, WINDOW_EXCEEDED, explore
from solver.exact.ideal_table import MAX_LOOSE, Table
from solver.kernels import stop_flag
from solver.returning_tensors import turn_around
from solver.stage_costs import NO_LIMIT, StageCosts, scale_passes, stage_costs, worth_at_prices

Assignment = list[tuple[int, int]]

MAX_SPAN = 1024
MAX_COUNT_STATES = 64
MAX_IDEALS = 8_000_000
BYTES_PER_IDEAL = 80
"""At worst, while the table grows; some 600 MB in all."""
MAX_CLASSES = 64
STEPS_PER_CALL = 20_000_000

FINE = 1e-4
FINEST = 2e-7
"""Relative gaps: from ``FINE`` on, trials ask for the last improvement; ``FINEST`` is as good as closed."""


class Verdict(StrEnum):
    """What a trial showed."""

    REACHED = "reached"
    IMPOSSIBLE = "impossible"
    GAVE_UP = "gave up"


@dataclass(frozen=True, slots=True)
class Trial:
    """The outcome for one period, or one per pass; ``assignment`` when it was reached."""

    verdict: Verdict
    assignment: Assignment | None = None
    num_ideals: int = 0
    num_steps: int = 0


def max_ideals_within(num_bytes: float) -> int:
    """How many ideals a program may store in so much memory."""
    return int(min(MAX_IDEALS, num_bytes // BYTES_PER_IDEAL))


def supports(compiled: CompiledInstance, max_count_states: int = MAX_COUNT_STATES) -> bool:
    """Whether the program covers the instance: few loose items, and classes that can be counted."""
    classes = _Classes(compiled)
    return (
        classes.counts.sum() <= np.iinfo(np.int16).max
        and compiled.num_items - sum(compiled.has_forward) <= MAX_LOOSE
        and classes.num_states <= max_count_states
        and len(compiled.classes) <= MAX_CLASSES
    )


class _Classes:
    """Device classes as the program sees them: the main one first, single devices known by their *anchor*.

    An anchor is an item, and no loose one, that can sit nowhere else than on one single device. Whether that device is
    used shows in the ideal: it is as soon as the anchor is in. So its use need not be counted.
    """

    def __init__(self, compiled: CompiledInstance) -> None:
        number = len(compiled.classes)
        main = max(range(number), key=lambda k: compiled.classes[k].count)
        self.order = [main, *(k for k in range(number) if k != main)]
        confined = np.flatnonzero((compiled.allowed.sum(axis=1) == 1) & np.array(compiled.has_forward, dtype=bool))
        homes = compiled.allowed[confined].argmax(axis=1)
        self.anchors = np.full(number, -1, dtype=np.int64)
        # No pipeline has more stages than items.
        counts = [min(compiled.classes[k].count, compiled.num_items) for k in self.order]
        self.counts = np.array(counts, dtype=np.int64)
        for local, k in enumerate(self.order):
            items = confined[homes == k]
            if local > 0 and compiled.classes[k].count == 1 and len(items) == 1:
                self.anchors[local] = items[0]
                self.counts[local] = 0
        self.num_states = math.prod(int(count) + 1 for count in self.counts[1:])


class IdealProgram:
    """The program for one instance, for any number of trial periods.

    Args:
        compiled: reduced for the acyclic partition, with :func:`supports`.
        order: item at each position of a topological order; loose ones may stand anywhere.
        max_ideals: how many ideals may be stored before the program gives up (fewer with lesser classes to count).
        prices: of load and memory per class, ≥ 0; good ones tell sooner what the devices left cannot hold. Not used
            under ``gpipe``.
    """

    def __init__(
        self, compiled: CompiledInstance, order: Ints, max_ideals: int, prices: tuple[Floats, Floats] | None = None
    ) -> None:
        self.compiled = compiled
        self._num_passes = NUM_PASSES if compiled.is_gpipe else 1
        self._prices = None if compiled.is_gpipe else prices
        self._max_ideals = max_ideals
        order = self._order = loose_last(compiled, order)
        self._classes = _Classes(compiled)
        position = np.empty(compiled.num_items, dtype=np.int64)
        position[order] = np.arange(compiled.num_items)
        anchors = self._classes.anchors
        self._anchors: Ints = np.where(anchors >= 0, position[anchors], -1)
        turned = turn_around(compiled)
        self._costs = stage_costs(turned, order, self._classes.order, by_pass=compiled.is_gpipe)
        self._graph = ideal_graph(turned, self._costs, order, sum(compiled.has_forward))

    @property
    def fits(self) -> bool:
        """Whether the order keeps ready items near enough for the window."""
        return self._graph.span <= MAX_SPAN

    def try_period(
        self, period_ms: float, expired: Callable[[], bool], max_steps: float = math.inf, stop: Ints | None = None
    ) -> Trial:
        """Whether some pipeline has no load above ``period_ms``; for ``1f1b``. See :meth:`try_periods`."""
        return self.try_periods((period_ms,), expired, max_steps, stop)

    def try_periods(
        self,
        periods_ms: tuple[float, ...],
        expired: Callable[[], bool],
        max_steps: float = math.inf,
        stop: Ints | None = None,
    ) -> Trial:
        """Whether some pipeline has no load above ``periods_ms``: one for both passes, or under ``gpipe`` one for each.

        Gives up when ``expired``, which is asked between ideals, at once when ``stop[0]`` is set, or after
        ``max_steps``.
        """
        if not self.fits:
            return Trial(Verdict.GAVE_UP)
        steps_left = max_steps
        stop = np.zeros(1, dtype=np.int64) if stop is None else stop
        period_ms, costs = periods_ms[0], self._costs
        if self._num_passes > 1:
            period_ms, costs = scale_passes(costs, periods_ms)
        worth, share = self._remaining(period_ms, costs)
        table = Table(1 << 14, self._classes.num_states, self.compiled.num_items, self._graph.num_tight, worth.shape[1])
        max_ideals = self._max_ideals // self._classes.num_states
        while True:
            code = explore(
                period_ms,
                costs,
                self._classes.counts,
                self._anchors,
                worth,
                share,
                self._graph,
                table.arrays,
                int(min(STEPS_PER_CALL, steps_left)),
                stop,
            )
            if code == DONE:
                break
            if code == PAUSED:
                steps_left -= STEPS_PER_CALL
            if code in (WINDOW_EXCEEDED, TOO_WIDE) or steps_left <= 0 or stop[0] or expired():
                return Trial(Verdict.GAVE_UP, None, table.num_ideals, table.num_steps)
            if code == TABLE_FULL:
                if table.num_ideals * 2 > max_ideals:
                    return Trial(Verdict.GAVE_UP, None, table.num_ideals, table.num_steps)
                table.grow()
        chain = table.chain_to_all()
        if chain is None:
            return Trial(Verdict.IMPOSSIBLE, None, table.num_ideals, table.num_steps)
        return Trial(Verdict.REACHED, self._assignment(chain), table.num_ideals, table.num_steps)

    def _remaining(self, period_ms: float, costs: StageCosts) -> tuple[Floats, Floats]:
        """What each item is worth [I, M], and what one device of each class can hold of that within the period [K, M].

        The main class can hold the period itself. Without prices an item is worth its compute on the main class, under
        ``gpipe`` in each pass.
        """
        if self._prices is not None:
            load_prices, memory_prices = (prices[self._classes.order] for prices in self._prices)
            # Memory without a limit has no price.
            memory_prices = np.where(costs.limits < NO_LIMIT, memory_prices, 0.0)
            holds = load_prices * period_ms + memory_prices * costs.limits
            if holds[0] > 0:
                return self._priced(period_ms, load_prices, memory_prices, holds)
        rows = [self._unpriced(period_ms, costs.compute[:, p :: self._num_passes]) for p in range(self._num_passes)]
        return np.stack([worth for worth, _ in rows], axis=1), np.stack([share for _, share in rows], axis=1)

    @staticmethod
    def _unpriced(period_ms: float, compute: Floats) -> tuple[Floats, Floats]:
        """For one row of each class; ``compute``: [I, K]."""
        # What takes longer than the period there cannot be there, and would only drown the others in rounding errors.
        main = np.where(compute[:, 0] <= period_ms * (1 + 1e-9), compute[:, 0], 0.0)
        share = np.full(compute.shape[1], period_ms)
        for k in range(1, len(share)):
            usable = np.isfinite(compute[:, k]) & (main > 0) & (compute[:, k] <= period_ms)
            with np.errstate(divide="ignore"):
                ratio = float((main[usable] / compute[usable, k]).max(initial=0.0))
            # What it can take within the period, and never more than all there is for it.
            share[k] = min(ratio * period_ms, float(main[usable].sum())) if usable.any() else 0.0
        return main, share

    def _priced(
        self, period_ms: float, load_prices: Floats, memory_prices: Floats, holds: Floats
    ) -> tuple[Floats, Floats]:
        worth, most = worth_at_prices(self._costs, period_ms, load_prices, memory_prices)
        most[0] = np.inf  # The main class is the measure of all others.
        holds = np.minimum(holds, most)
        return (worth * (period_ms / holds[0]))[:, None], (holds * (period_ms / holds[0]))[:, None]

    def _assignment(self, chain: list[tuple[npt.NDArray[np.bool_], int]]) -> Assignment:
        """From ideals as masks of positions, in ascending order, with the class of the stage that ends at each."""
        taken = [0] * len(self._classes.order)
        assignment: Assignment = [(0, 0)] * self.compiled.num_items
        before = np.zeros(self.compiled.num_items, dtype=bool)
        for mask, local in chain:
            index = self._classes.order[local]
            for position in np.flatnonzero(mask & ~before):
                assignment[int(self._order[position])] = (index, taken[local])
            taken[local] += 1
            before = mask
        return assignment


def close_gap(
    program: IdealProgram,
    *,
    interval: Callable[[], tuple[float, float]],
    found: Callable[[Assignment], object],
    proved: Callable[[float], object],
    expired: Callable[[], bool],
    max_steps: float = math.inf,
) -> None:
    """Try periods until the bound meets the best placement, time is over, or the program gives up.

    Args:
        program: of the instance.
        interval: the best bound and the best value known now, in ms; others may move them meanwhile.
        found: told of every placement reached.
        proved: told of every period, in ms, that was proved to be below the optimum.
        expired: asked often.
        max_steps: for each trial.
    """
    just_below = True  # The first trial asks whether the best placement known, from a good heuristic, is optimal.
    with stop_flag(expired) as stop:
        while not expired():
            bound, value = interval()
            if value - bound <= FINEST * value:
                return
            middle = (bound + value) / 2
            period = value * (1 - FINEST / 2) if just_below or value - bound <= FINE * value else middle
            trial = program.try_period(max(period, bound), expired, max_steps, stop)
            if trial.verdict is Verdict.GAVE_UP:
                return
            if trial.assignment is None:
                proved(period)
            else:
                found(trial.assignment)
                if interval()[1] >= value:
                    return  # refused, or no better by the verifier's sums: the next trial would be the same
            just_below = False


def span_of(compiled: CompiledInstance, order: Ints) -> int:
    """How far an item stands behind the last of its predecessors, at most; small spans suit the program."""
    if not compiled.item_edges:
        return compiled.num_items
    position = np.empty(compiled.num_items, dtype=np.int64)
    position[order] = np.arange(compiled.num_items)
    edges = position[np.array(compiled.item_edges, dtype=np.int64)]
    last = np.full(compiled.num_items, -1, dtype=np.int64)
    np.maximum.at(last, edges[:, 1], edges[:, 0])
    return int((np.arange(compiled.num_items) - last).max())
