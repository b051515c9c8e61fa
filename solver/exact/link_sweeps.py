"""One trial of the ideal program over links: over the ideals by ascending size, and back from the last of them."""

from __future__ import annotations

from collections.abc import Callable

from solver.compiled import Ints
from solver.exact.ideal_graph import IdealGraph
from solver.exact.link_costs import LinkCosts
from solver.exact.link_ideal_kernel import DONE, LABELS_FULL, PAUSED, TABLE_FULL, TOO_WIDE, explore
from solver.exact.link_ideal_table import grown, table_of
from solver.exact.link_labels import first_label, more_labels
from solver.exact.link_prospects import Prospects, last_alone, without_the_dead
from solver.exact.link_steps import Ways
from solver.exact.throughput_ideals import STEPS_PER_CALL

MAX_BYTES = 1_500_000_000
"""Of the tables, however much there is."""
FORTH, BACK = 1, -1


class Sweep:
    """The tables of one trial.

    Args:
        period_ms: the trial.
        costs: what stages cost.
        graph: which items may follow which.
        ways: what can be done in each state.
        max_bytes: of the tables.
    """

    def __init__(self, period_ms: float, costs: LinkCosts, graph: IdealGraph, ways: Ways, max_bytes: float) -> None:
        self._period_ms = period_ms
        self._costs = costs
        self._graph = graph
        self._ways = ways
        self._max_bytes = max_bytes
        self._num_items = len(costs.worth)
        self.table = table_of(1 << 12, self._num_items, len(ways.holds))
        self.labels = first_label(1 << 16)

    @property
    def num_ideals(self) -> int:
        """How many ideals have been reached."""
        return int(self.table.cursor[0])

    @property
    def last(self) -> int:
        """A label of the ideal of all items, or −1."""
        ideal = int(self.table.queue[self._num_items])
        return -1 if ideal < 0 else int(self.table.head[ideal])

    def reach(self, prospects: Prospects, expired: Callable[[], bool], max_steps: float, stop: Ints) -> bool:
        """Reach all that ``prospects`` call worth it; whether that was done before time, steps or memory ran out."""
        left = max_steps
        while True:
            code = self._explore(prospects, int(min(STEPS_PER_CALL, left)), stop, FORTH)
            if code == DONE:
                return True
            left -= STEPS_PER_CALL if code == PAUSED else 0
            num_bytes = sum(array.nbytes for array in (*self.table, *self.labels))
            too_large = code in (TABLE_FULL, LABELS_FULL) and 2 * num_bytes > self._max_bytes
            if code == TOO_WIDE or too_large or left <= 0 or stop[0] or expired():
                return False
            if code == TABLE_FULL:
                self.table = grown(self.table)
            elif code == LABELS_FULL:
                self.labels = more_labels(self.labels)

    def look_back(self, expired: Callable[[], bool], stop: Ints) -> Prospects | None:
        """After all has been reached: from what the ideal of all items can be; ``None`` if time ran out."""
        prospects = last_alone(self.table)
        self.table.cursor[1:] = self._num_items - 1, -1
        while (code := self._explore(prospects, STEPS_PER_CALL, stop, BACK)) != DONE:
            if code != PAUSED or stop[0] or expired():
                return None
        return without_the_dead(prospects)

    def _explore(self, prospects: Prospects, max_steps: int, stop: Ints, direction: int) -> int:
        code: int = explore(
            self._period_ms,
            self._costs,
            self._graph,
            self._ways,
            self.table,
            self.labels,
            prospects,
            direction,
            max_steps,
            stop,
        )
        return code
