"""Acyclic placements of graphs too wide for the ideals and too large for a model: cut an order, then move items."""

from __future__ import annotations

import itertools
import math

from solver.compiled import CompiledInstance
from solver.heuristics import borders
from solver.heuristics.bisection import bisected_order
from solver.heuristics.borders import Borders
from solver.heuristics.segments import cut_order
from solver.kernels import stop_flag
from solver.search import Search

STEPS_PER_ITEM, MAX_STEPS = 1_000, 400_000_000
"""Moves tried in the first round of two; each time they are twice as many, until a round takes a minute or so."""


def find_wide(search: Search, compiled: CompiledInstance, methods: list[str], share: float = 1.0) -> None:
    """Rounds until the search is over or a ``share`` of the time left is used.

    Each round starts from a new order, cut into stages, or from the best placement known, in turns.

    Args:
        search: takes the placements.
        compiled: reduced for the acyclic partition.
        methods: takes the names of what is used.
        share: of the remaining time.
    """
    if search.over or not borders.supports(compiled) or not all(compiled.has_forward):
        return
    methods.extend(("bisection", "borders"))
    deadline = search.elapsed_s + share * search.remaining_s
    seed = search.options.seed
    moves = Borders(compiled)
    with stop_flag(lambda: search.over or search.elapsed_s >= deadline) as stop:
        for number in itertools.count():
            known = math.inf if search.objective_value is None else search.objective_value
            start = None
            if number % 2 == 0:
                order = bisected_order(compiled, seed + number)
                start = cut_order(compiled, order, search.best_bound, known if number == 0 else math.inf)
                if start is not None:
                    search.offer(compiled.placement(start), "bisection")
            if start is None and search.placement is not None:
                start = compiled.gather(search.placement)
            if stop[0] or start is None:
                return
            steps = min(MAX_STEPS, STEPS_PER_ITEM * compiled.num_items << (number // 2))
            moved = moves.improve(start, steps, seed + number, stop, hot=number % 2 == 0)
            search.offer(compiled.placement(moved), "borders")
            if stop[0]:
                return
