"""How the methods work together on instances with links, limits on the answer or the objective cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

from solver.bounds import bound_period
from solver.cluster_ideals import ClusterIdeals
from solver.compiled import CompiledInstance, Ints
from solver.fleet_search import FleetSearch
from solver.fleets import find_fleets, limits_fleets
from solver.formulation_runs import worst_period
from solver.formulations import cpsat
from solver.formulations.cluster_cpsat import ClusterModel
from solver.formulations.fractional_assignment_glop import Prices, bound_by_prices, find_prices
from solver.heuristics.moves import LOWER, Annealing
from solver.heuristics.orders import topological_orders
from solver.heuristics.segments import place_segments
from solver.heuristics.sequences import Sequences
from solver.instance import Constraints, Instance, InterconnectModel, ObjectiveKind, Partition
from solver.kernels import stop_flag
from solver.period_bound import PeriodBound
from solver.pipelines import along_pipeline
from solver.reductions import reduce_instance
from solver.result import InfeasibilityReason, Placement
from solver.search import Search

MAX_TERMS = 600_000
"""Terms of a model, roughly; beyond that building it alone takes longer than people wait."""
FIRST_ROUNDS, FIRST_SHARE = 3, 0.1
"""Rounds of heuristics before anything is proved, and their part of the time."""
ROUNDS, MOVES_SHARE = 30, 0.5
"""Likewise for a single worker, between the ideals and the model."""
MOVES_EVERY = 3
"""One round of so many moves items; the others order them anew."""
NUM_STARTS = 3
"""So many of the latest placements are started from."""
PRICES_SHARE = 0.1
"""Part of the remaining time in which prices are sought."""
INSIDE = 1 - 4e-7
"""Periods this far below a limit stay below it, however the units of a model are rounded."""


def needs_cluster_search(instance: Instance) -> bool:
    """Whether the instance has anything that only these methods see."""
    return (
        instance.cluster.interconnect.model is InterconnectModel.LINKS
        or instance.objective.kind is ObjectiveKind.COST
        or _has_limits(instance.constraints)
    )


def _has_limits(constraints: Constraints) -> bool:
    limits = (
        constraints.max_period_ms,
        constraints.min_throughput_per_s,
        constraints.max_devices,
        constraints.max_cost_per_hour,
        constraints.max_moved_operators,
        constraints.max_moved_bytes,
    )
    return any(limit is not None for limit in limits)


class ClusterSearch:
    """The methods at work on one search.

    Args:
        search: takes placements and bounds.
        compiled: one item per operator.
        reduced: the same, reduced for the partition.
        workers: threads to use.
        methods: names of methods that took part are added here.
    """

    def __init__(
        self,
        search: Search,
        compiled: CompiledInstance,
        reduced: CompiledInstance,
        workers: int,
        methods: list[str],
    ) -> None:
        self._search = search
        self._reduced = reduced
        self._workers = workers
        self._methods = methods
        self._is_cost = search.instance.objective.kind is ObjectiveKind.COST
        self._longest_ms = search.instance.constraints.longest_period_ms
        partition = reduced.partition
        # Every acyclic placement is convex and free too, and the acyclic ones are the easiest to find.
        self._pipelined = reduced if partition is Partition.ACYCLIC else reduce_instance(compiled, Partition.ACYCLIC)
        self._mobile = reduced if partition is Partition.FREE else self._pipelined
        self._coarse = unite_similar(reduced)
        self._bound = PeriodBound(search, reduced)
        self._prices: Prices | None = None
        fleets = find_fleets(self._coarse) if limits_fleets(search.instance) else None
        self._fleets = None if fleets is None else FleetSearch(search, self._coarse, fleets)
        self._starts: list[Placement] = []
        self._sequences: Sequences | None = None
        self._orders: list[Ints] = []
        self._annealing: Annealing | None = None
        self._round = 0
        self._is_done = False

    @property
    def reasons(self) -> tuple[InfeasibilityReason, ...]:
        """Why there is no placement, where a limit of the period proves it."""
        return self._bound.reasons

    def find(self) -> None:
        """First placements, and bounds without search."""
        search, is_possible = self._search, bool(self._pipelined.allowed.any(axis=1).all())
        self._bound.claim(bound_period(self._reduced), "bounds")
        if is_possible and not search.closed:
            self._place_segments()  # An answer at once; prices take longer than that.
        if search.closed:
            return
        self._prices = find_prices(self._coarse, search.remaining_s * PRICES_SHARE)
        if self._prices is not None:
            self._bound.claim(bound_by_prices(self._coarse, self._prices), "prices")
        if self._fleets is not None and not search.over:
            self._bound.claim(self._fleets.bound(search.remaining_s * PRICES_SHARE), "prices")
        if is_possible and not search.closed:
            self._improve(FIRST_ROUNDS, FIRST_SHARE)

    def prove(self) -> None:
        """Run the exact methods, beside moves if there are workers to spare, until nothing is left to do."""
        search = self._search
        rival = None
        if self._workers > 1 and not search.over:
            rival = search.beside(lambda: self._improve(math.inf, 1.0), "moves")
        if self._reduced.partition is Partition.ACYCLIC:
            ideals = ClusterIdeals(
                search, self._reduced, self._coarse, self._prices, self._fleets, self._bound, self._consider
            )
            ideals.run()
            self._methods += ideals.methods
        if rival is None:
            self._improve(ROUNDS, MOVES_SHARE)
        self._run_model(self._workers - (rival is not None))
        if rival is not None:
            rival.join(search.remaining_s)

    def _place_segments(self) -> None:
        """One placement, of devices that differ in their links alone in any order: better orders are sought later."""
        self._methods.append("segments")
        similar = unite_similar(self._pipelined)
        segments = place_segments(
            similar, bound_ms=self._bound.ms, seed=self._search.options.seed, expired=lambda: self._search.over
        )
        for assignment in itertools.islice(segments, 1):
            self._consider(similar.placement(assignment), "segments")

    def _consider(self, placement: Placement, method: str) -> bool:
        """Offer a placement and say whether it was taken; it is kept as a start even if a rule is broken."""
        self._starts.append(placement)
        return self._search.offer(placement, method)

    def _improve(self, rounds: float, share: float) -> None:
        """Search device orders and anneal by turns: so many rounds, in a share of the time, while that may help."""
        search = self._search
        self._methods += [name for name in ("sequences", "moves") if name not in self._methods]
        deadline = search.elapsed_s + search.remaining_s * share
        done = 0

        def expired() -> bool:
            return search.over or self._is_done or search.elapsed_s > deadline

        with stop_flag(expired) as stop:
            while done < rounds and not expired():
                if self._is_cost and self._fleets is None and search.placement is not None:
                    return
                done += 1
                self._round += 1
                if self._round % MOVES_EVERY:
                    self._search_sequences(stop)
                else:
                    self._anneal(stop)

    def _target(self) -> float:
        """The longest period that would be news."""
        value = self._search.objective_value
        if value is None or self._is_cost:
            return min(worst_period(self._pipelined), self._longest_ms)
        return min(value * (1 - LOWER), self._longest_ms)

    def _search_sequences(self, stop: Ints) -> None:
        """One round over orders of the devices, along one of the orders of the items."""
        search, pipelined = self._search, self._pipelined
        if not self._orders:
            self._orders = list(topological_orders(pipelined, search.options.seed))
        if self._fleets is not None:
            names = self._fleets.draw(self._target())
            if names is None:
                return
            pipelined = pipelined.keep_devices(names)
            if not pipelined.allowed.any(axis=1).all():
                return
            sequences = Sequences(pipelined)
        else:
            sequences = self._sequences = self._sequences or Sequences(pipelined)
        start = None
        if self._round % 2 and search.placement is not None:
            known = pipelined.assignment_of(search.placement)
            start = None if known is None else sequences.sequence_of(known)
        order = self._orders[self._round // MOVES_EVERY % len(self._orders)]
        seed = search.options.seed + self._round
        _, found = sequences.search(order, start, self._target(), self._bound.ms, seed, stop)
        if found is not None:
            self._consider(pipelined.placement(found), "sequences")

    def _anneal(self, stop: Ints) -> None:
        """One round of moves from one of the latest placements."""
        search, mobile = self._search, self._mobile
        latest = [*self._starts[-NUM_STARTS:], *([] if search.placement is None else [search.placement])]
        starts = [start for start in map(mobile.assignment_of, reversed(latest)) if start is not None]
        starts = [s for s in starts if mobile.partition is Partition.FREE or along_pipeline(mobile, s) is not None]
        if not starts:
            return
        start = starts[self._round // MOVES_EVERY % len(starts)]
        if self._fleets is not None:
            placement = mobile.placement(start)
            names = self._fleets.extend(set(placement.values()))
            if names is None or self._is_cost:
                return
            mobile = mobile.keep_devices(names)
            start, annealing = mobile.gather(placement), Annealing(mobile)
        else:
            annealing = self._annealing = self._annealing or Annealing(mobile)
        seed = search.options.seed + self._round
        _, found = annealing.improve(start, self._target(), self._bound.ms, seed, stop)
        if found is not None:
            search.offer(mobile.placement(found), "moves")

    def _run_model(self, workers: int) -> None:
        """The formulation, with units that suit ever smaller limits while that can still close the gap."""
        search, compiled = self._search, self._reduced
        if search.over or self._num_terms() > MAX_TERMS:
            return
        self._methods.append(ClusterModel.name)
        for limit_ms, claims in self._limits():
            value = search.objective_value
            model = ClusterModel(
                compiled,
                limit_ms,
                0.0 if self._is_cost else min(search.best_bound, limit_ms),
                value if self._is_cost and value is not None else math.inf,
            )
            hint = None if search.placement is None else compiled.assignment_of(search.placement)
            if hint is not None:
                model.hint(hint)
            options = cpsat.RunOptions(
                search.remaining_s,
                workers,
                search.options.seed,
                search.options.relative_gap,
                presolve=hint is not None,
            )
            outcome = cpsat.run(model, options, self._take, self._claimer(claims=claims), lambda: search.over)
            if outcome is cpsat.Outcome.INFEASIBLE and search.placement is None and claims:
                search.infeasible_by = ClusterModel.name
            if search.over or outcome is cpsat.Outcome.STOPPED:
                return
        self._is_done = True

    def _limits(self) -> Iterator[tuple[float, bool]]:
        """Limits of the period to try, and whether what is proved below them is proved for the instance."""
        last = math.inf
        while True:
            value = None if self._is_cost else self._search.objective_value
            limit = min(self._bound.worst_ms if value is None else value, self._longest_ms)
            if limit >= last:
                break
            yield limit, True
            last = limit
        if math.isfinite(self._longest_ms):
            # The verifier may have refused what only met the limit by the rounding of the units.
            yield last * INSIDE, False

    def _take(self, assignment: cpsat.Assignment) -> None:
        self._search.offer(self._reduced.placement(assignment), ClusterModel.name)

    def _claimer(self, *, claims: bool) -> Callable[[float], None]:
        if not claims:
            return lambda _: None
        if self._is_cost:
            return lambda bound: self._search.claim_bound(bound, ClusterModel.name)
        return lambda bound: self._bound.claim(bound, ClusterModel.name)

    def _num_terms(self) -> int:
        num_devices = self._reduced.num_devices
        reach = 2 if self._reduced.links is None else 2 * num_devices
        return num_devices * (self._reduced.num_items + reach * len(self._reduced.tensors))


def unite_similar(compiled: CompiledInstance) -> CompiledInstance:
    """A relaxation over ``host``: devices that differ in nothing but whom their links lead to are one class."""
    groups: dict[object, list[int]] = {}
    is_priced = limits_fleets(compiled.instance)
    for k, device_class in enumerate(compiled.classes):
        times = tuple(tensor.time_ms[k] for tensor in compiled.tensors)
        price = device_class.cost_per_hour if is_priced else 0.0
        key = (compiled.compute_ms[:, k].tobytes(), device_class.memory_bytes, device_class.is_host, price, times)
        groups.setdefault(key, []).append(k)
    return compiled.unite_classes(list(groups.values()))
