r"""Throughput over ``links``, acyclic partition, ``1f1b``: in which ways each ideal can be reached, for a trial period.

As in :mod:`solver.exact.throughput_ideals` a pipeline is a chain of ideals. Whom a device talks to matters here, so a
*label* of an ideal I tells its *state*, how many devices of each class have been used, all classes counted, and of the
*followed* tensors that travel past I (made in I, needed outside) which used device made each. Devices that made one
are *open*; the label has their classes, and how much each may still spend on sending within the period.

What a stage S = J \\ I on a device d of class k costs when a label is extended by it:

* compute and memory, exactly;
* a followed tensor that comes in: the time between the class of its maker and k, exactly, paid by d, and by the maker
  out of what it has left. Every device holds one stage, so each stage that needs the tensor is one more transfer;
* any other tensor that comes in: at least the time over the best link from a used class;
* any other that goes out: at least the time over the best link to a class with a device left, once;
* tensors whose producer need not come before all consumers are not followed, and take their least time over any link.
  Most gradients can be turned around (:mod:`solver.returning_tensors`), so that their producer comes first; what a
  loose item exchanges has a direction in :mod:`cases <solver.exact.link_cases>`.

A label is dropped when an open device has less left than its tensors cost at least, each sent once more over the best
link to a device left. Nothing here exceeds what the devices spend in a real pipeline, whatever is followed, and a real
pipeline with no load above the period is never dropped: IMPOSSIBLE is proved for the instance. If all tensors are
followed, nothing is less than what devices spend either, so a chain that is REACHED keeps the period.

Of two labels that agree in all but what open devices have left, one that leaves none of them less suffices: whatever
completes the other completes it at the same costs. So does one that leaves more than can be spent, which is why no
more than that is told. Classes that can be renamed (:mod:`solver.symmetries`: identical nodes) are renamed so that the
key is the least possible: a pipeline and its renamed twin are both feasible or both not, from there on too.

To follow fewer tensors is to count less. So the states of ideals from which a program that follows fewer completes the
pipeline, found by going :mod:`back <solver.exact.link_prospects>` from the ideal of all items, are all that one which
follows more has to look at, for this period and shorter ones: mostly a small part.

Items are worth something at prices of load and memory; a state from which the devices left cannot hold what is left is
dropped. States beyond the limits of devices and cost are left out, and only devices that the limits still allow count
as left. Over ``host``, where a transfer takes a device the same time wherever it goes, nothing need be followed, and
the program is exact.

Source: own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from solver.compiled import CompiledInstance, Floats, Ints
from solver.exact.ideal_graph import free_last, ideal_graph
from solver.exact.ideal_table import MAX_LOOSE, members
from solver.exact.link_costs import LinkCosts
from solver.exact.link_prospects import UNKNOWN, Prospects
from solver.exact.link_steps import Ways
from solver.exact.link_sweeps import MAX_BYTES, Sweep
from solver.exact.throughput_ideals import MAX_SPAN, Assignment, Trial, Verdict
from solver.fleets import all_counts, keeps_limits, num_fleets, reachable_worth
from solver.returning_tensors import turn_around
from solver.stage_costs import stage_costs, worth_at_prices
from solver.symmetries import renamings

MAX_STATES = 20_000


def supports(compiled: CompiledInstance) -> bool:
    """Whether the program covers the instance: one period for both passes, few loose items."""
    num_loose = compiled.num_items - sum(compiled.has_forward)
    return not compiled.is_gpipe and num_loose <= MAX_LOOSE and num_fleets(compiled) <= MAX_STATES


class LinkIdealProgram:
    """The program for one instance, for any number of trial periods.

    Args:
        compiled: reduced for the acyclic partition, with :func:`supports`.
        order: item at each position of a topological order; loose ones may stand anywhere.
        prices: of load and memory per class, ≥ 0.
        max_bytes: of its tables; it gives up rather than take more.
    """

    def __init__(
        self,
        compiled: CompiledInstance,
        order: Ints,
        prices: tuple[Floats, Floats],
        max_bytes: float = MAX_BYTES,
    ) -> None:
        self.compiled = compiled
        self._max_bytes = max_bytes
        order, num_tight = free_last(compiled, order, MAX_LOOSE)
        self._order = order
        self._counts = np.array([c.count for c in compiled.classes], dtype=np.int64)
        self._strides = np.concatenate([[1], np.cumprod(self._counts[:-1] + 1)]).astype(np.int64)
        self._num_states = num_fleets(compiled)
        turned = turn_around(compiled)
        self._costs = stage_costs(turned, order, range(len(compiled.classes)))
        self._graph = ideal_graph(turned, self._costs, order, num_tight)
        # To stand first in the order is not enough: without an edge the consumer may sit on an earlier stage.
        following = set(compiled.item_edges)
        ways = [[(t.producer, consumer) for consumer in t.consumers] for t in turned.tensors]
        self._forward = np.array([following.issuperset(pairs) for pairs in ways], dtype=np.bool_)
        self._prices = (prices[0], np.where([c.memory_bytes is None for c in compiled.classes], 0.0, prices[1]))
        columns, self._class_compute = np.unique(self._costs.compute, axis=1, return_inverse=True)
        self._compute = np.ascontiguousarray(columns)
        # Used devices of each class, per state.
        self._used = all_counts(compiled)
        self._pair_times, self._size_of = _pair_times(turned)
        with np.errstate(invalid="ignore"):
            self._spread_ms = np.nan_to_num(np.ptp(self._pair_times, axis=(1, 2)), nan=np.inf)
        self._columns: list[Floats] = []
        self._column_of: dict[bytes, int] = {}
        self._least = [self._column(k, None) for k in range(len(compiled.classes))]
        self._ways = self._build_ways()
        self._times = np.ascontiguousarray(np.array(self._columns).T.reshape(len(turned.tensors), len(self._columns)))
        # Of programs that follow so many tensors: for which period, and what they could complete within it.
        self._prospects: dict[int, tuple[float, Prospects]] = {}
        self.limit_cost(math.inf)

    def limit_cost(self, max_cost: float) -> None:
        """From now on, look only for placements that cost so much at most, whatever else the instance allows."""
        self._kept = keeps_limits(self.compiled, self._used, max_cost)
        self._prospects.clear()
        idle = self._used < self._counts
        for k, stride in enumerate(self._strides):
            states = np.flatnonzero(idle[:, k])
            idle[states, k] = self._kept[states + stride]
        self._ways = self._ways._replace(idle=idle)

    @property
    def fits(self) -> bool:
        """Whether the order keeps ready items near enough for the window."""
        return self._graph.span <= MAX_SPAN

    def _followed(self, follow_ms: float) -> npt.NDArray[np.bool_]:
        if self.compiled.links is None:
            return np.zeros(len(self._size_of), dtype=np.bool_)
        followed: npt.NDArray[np.bool_] = self._forward & (self._spread_ms[self._size_of] >= follow_ms)
        return followed

    def try_period(
        self,
        period_ms: float,
        expired: Callable[[], bool],
        max_steps: float,
        stop: Ints,
        *,
        follow_ms: Sequence[float] = (math.inf,),
    ) -> Trial:
        """Whether some chain of ideals has no load above ``period_ms``; see the module for what that means.

        Gives up when ``expired``, which is asked between ideals, at once when ``stop[0]`` is set, or after
        ``max_steps``.

        Args:
            period_ms: the trial.
            expired: see above.
            max_steps: likewise.
            stop: likewise.
            follow_ms: tensors are followed, where they can be, if their times over two links differ by so much or more;
                to follow fewer says less sooner. With several values, the longest first, each sees more than the one
                before it and looks at nothing that this one cannot complete.
        """
        if not self.fits:
            return Trial(Verdict.GAVE_UP)
        followed_by = (self._followed(least) for least in follow_ms)
        levels = list({int(np.count_nonzero(followed)): followed for followed in followed_by}.items())
        worth, holds = self._values(period_ms)
        prospects, first = UNKNOWN, 0
        for level, (number, _) in enumerate(levels):
            known_ms, known = self._prospects.get(number, (-math.inf, prospects))
            if period_ms <= known_ms:
                prospects, first = known, min(level + 1, len(levels) - 1)
        for number, followed in levels[first:]:
            costs, ways = self._link_costs(worth, followed), self._ways._replace(holds=holds)
            sweep = Sweep(period_ms, costs, self._graph, ways, self._max_bytes)
            is_done = sweep.reach(prospects, expired, max_steps, stop)
            if not is_done or sweep.last < 0:
                verdict = Verdict.IMPOSSIBLE if is_done else Verdict.GAVE_UP
                return Trial(verdict, num_ideals=sweep.num_ideals)
            if len(levels) > 1:
                prospects = sweep.look_back(expired, stop) or prospects
                self._prospects[number] = period_ms, prospects
        return Trial(Verdict.REACHED, self._assignment(sweep), sweep.num_ideals)

    def _build_ways(self) -> Ways:
        """What can be done in each state, and the columns of the best links there."""
        num_classes = len(self._counts)
        left = self._counts - self._used
        bits = 1 << np.arange(num_classes) if self.compiled.links is not None else np.zeros(num_classes, dtype=np.int64)
        senders, receivers = ((there > 0) @ bits for there in (self._used, left))
        columns = {
            (k, int(mask)): self._column(k, int(mask))
            for k in range(num_classes)
            for mask in np.unique(np.concatenate([senders, receivers]))
        }
        best = [
            np.array([[columns[k, int(mask)] for k in range(num_classes)] for mask in masks], dtype=np.int32)
            for masks in (senders, receivers)
        ]
        names = np.array(renamings(self.compiled), dtype=np.int64)
        turned = np.stack([self._used @ self._strides[new] for new in names]).astype(np.int32)
        finite = np.where(np.isfinite(self._pair_times), self._pair_times, 0.0)
        return Ways(
            self._strides,
            left > 0,
            self._costs.limits,
            np.zeros(self._num_states),
            self._class_compute.reshape(-1).astype(np.int64),
            best[0],
            best[1],
            turned,
            names,
            self._pair_times,
            finite.max(axis=2, initial=0.0),
        )

    def _column(self, k: int, partners: int | None) -> int:
        """The column of least times between a device of class k and one of the classes in ``partners`` (bits)."""
        column = self._costs.times[:, k]
        if partners is not None and self.compiled.links is not None:
            members = [other for other in range(len(self._counts)) if partners >> other & 1]
            least = self._pair_times[:, k, members].min(axis=1, initial=np.inf)
            column = np.where(self._forward, least[self._size_of], column)
        key = column.tobytes()
        if key not in self._column_of:
            self._column_of[key] = len(self._columns)
            self._columns.append(column)
        return self._column_of[key]

    def _values(self, period_ms: float) -> tuple[Floats, Floats]:
        """What each item is worth, by position, and what the idle devices of each state can hold within the period."""
        worth, most = worth_at_prices(self._costs, period_ms, *self._prices)
        holds = np.minimum(self._prices[0] * period_ms + self._prices[1] * self._costs.limits, most)
        return worth, reachable_worth(self.compiled, self._kept, holds)

    def _link_costs(self, worth: Floats, followed: npt.NDArray[np.bool_]) -> LinkCosts:
        costs = self._costs
        return LinkCosts(
            self._compute,
            costs.memory,
            worth,
            self._times,
            self._size_of,
            costs.producer,
            costs.num_consumers,
            followed,
            costs.first,
            costs.touching,
            costs.overlap,
            np.array(self._least, dtype=np.int64),
        )

    def _assignment(self, sweep: Sweep) -> Assignment:
        """The placement of the last label, with every class under its own name."""
        table, labels, last = sweep.table, sweep.labels, sweep.last
        chain = []
        while last:
            chain.append(last)
            last = int(labels.before[last])
        taken = [0] * len(self._counts)
        assignment: Assignment = [(0, 0)] * self.compiled.num_items
        before = np.zeros(self.compiled.num_items, dtype=bool)
        own = list(range(len(self._counts)))  # of each name that labels use
        for label in reversed(chain):
            kind, turn = labels.step[label]
            index = own[kind]
            ideal = labels.ideal[label]
            inside = members(table.low[ideal], table.mask[ideal], self.compiled.num_items, self._graph.num_tight)
            for position in np.flatnonzero(inside & ~before):
                assignment[int(self._order[position])] = (index, taken[index])
            taken[index] += 1
            before = inside
            names = self._ways.renamed[turn]
            own = [own[int(k)] for k in np.argsort(names)]
        return assignment


def _pair_times(compiled: CompiledInstance) -> tuple[Floats, Ints]:
    """Times between classes for each distinct set of sizes, and which of them each tensor has."""
    rows = {sizes: row for row, sizes in enumerate(dict.fromkeys(tensor.sizes for tensor in compiled.tensors))}
    num_classes = len(compiled.classes)
    if compiled.links is None:
        return np.zeros((1, num_classes, num_classes)), np.zeros(len(compiled.tensors), dtype=np.int64)
    times = [compiled.links.times(sizes) for sizes in rows]
    size_of = np.array([rows[tensor.sizes] for tensor in compiled.tensors], dtype=np.int64)
    return np.array(times).reshape(len(rows), num_classes, num_classes), size_of
