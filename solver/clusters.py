"""How the methods work together on instances with links, limits on the answer or the objective cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from graphlib import CycleError, TopologicalSorter

from solver.beside import Call
from solver.bounds import bound_period
from solver.compiled import CompiledInstance, Floats, Ints
from solver.exact import link_ideals
from solver.exact.fleet_ideals import FleetIdealProgram
from solver.exact.link_ideals import LinkIdealProgram
from solver.exact.throughput_ideals import FINEST, IdealProgram, Trial, Verdict, span_of, supports
from solver.fleet_search import FleetSearch
from solver.fleets import find_fleets, limits_fleets
from solver.formulation_runs import worst_period
from solver.formulations import cpsat
from solver.formulations.cluster_cpsat import ClusterModel
from solver.formulations.fractional_assignment_glop import Prices, bound_by_prices, find_prices
from solver.heuristics.moves import LOWER, TINIEST_MS, Annealing
from solver.heuristics.orders import topological_orders
from solver.heuristics.segments import place_segments
from solver.heuristics.sequences import Sequences
from solver.instance import Constraints, Instance, InterconnectModel, ObjectiveKind, Partition
from solver.kernels import stop_flag
from solver.reductions import reduce_instance
from solver.result import InfeasibilityReason, Placement
from solver.search import Search

MAX_TERMS = 600_000
"""Terms of a model, roughly; beyond that building it alone takes longer than people wait."""
NEAR = 1 + 1e-9
"""Room for rounding where a bound is compared with a limit."""
FIRST_ROUNDS, FIRST_SHARE, ROUNDS, MOVES_SHARE, MOVES_EVERY, NUM_STARTS = 3, 0.1, 30, 0.5, 3, 3
"""Rounds of heuristics at first and later by a single worker, with their shares of the time; every so many rounds is
one of moves; the latest placements that they start from."""
MAX_COUNT_STATES = 2048
MAX_IDEALS = 8_000_000
MAX_STEPS = 2_000_000_000
PRICES_SHARE = 0.1
FIRST_STEP, RELAXED_GAP, COARSE_GAP, IDEALS_SHARE, LINK_IDEALS_SHARE = 0.02, 1e-4, 0.02, 0.4, 0.6
"""The ideal programs try periods 2, 4, 8 … % above the bound, then bisect down to a gap, in shares of the time."""
FOLLOWED_PARTS = math.inf, 0.3, 0.03, 0.0
"""Labels follow no tensors, then those whose times over two links differ by such parts of the period; at last all."""
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
        self.reasons: tuple[InfeasibilityReason, ...] = ()
        partition = reduced.partition
        # Every acyclic placement is convex and free too, and the acyclic ones are the easiest to find.
        self._pipelined = reduced if partition is Partition.ACYCLIC else reduce_instance(compiled, Partition.ACYCLIC)
        self._mobile = reduced if partition is Partition.FREE else self._pipelined
        self._coarse = unite_similar(reduced)
        self._bound_ms = 0.0
        self._prices: Prices | None = None
        fleets = find_fleets(self._coarse) if limits_fleets(search.instance) else None
        self._fleets = None if fleets is None else FleetSearch(search, self._coarse, fleets)
        self._starts: list[Placement] = []
        self._sequences: Sequences | None = None
        self._orders: list[Ints] = []
        self._annealing: Annealing | None = None
        self._round = 0
        self._is_done = False

    def find(self) -> None:
        """Bounds without search, and first placements."""
        self._claim_period(bound_period(self._reduced), "bounds")
        self._prices = find_prices(self._coarse, self._search.remaining_s * PRICES_SHARE)
        if self._prices is not None:
            self._claim_period(bound_by_prices(self._coarse, self._prices), "prices")
        if self._fleets is not None and not self._search.over:
            self._claim_period(self._fleets.bound(self._search.remaining_s * PRICES_SHARE), "prices")
        if self._search.closed or not self._pipelined.allowed.any(axis=1).all():
            return
        self._methods.append("segments")
        similar = unite_similar(self._pipelined)
        segments = place_segments(
            similar, bound_ms=self._bound_ms, seed=self._search.options.seed, expired=lambda: self._search.over
        )
        for assignment in itertools.islice(segments, 1):  # Device orders are what counts here, and sought below.
            self._consider(similar.placement(assignment), "segments")
        self._improve(FIRST_ROUNDS, FIRST_SHARE)

    def prove(self) -> None:
        """Run the exact methods, beside moves if there are workers to spare, until nothing is left to do."""
        search = self._search
        rival = None
        if self._workers > 1 and not search.over:
            rival = Call(lambda: self._improve(math.inf, 1.0), "moves")
        if self._reduced.partition is Partition.ACYCLIC:
            self._run_ideals()
            self._run_link_ideals()
        if rival is None:
            self._improve(ROUNDS, MOVES_SHARE)
        self._run_model(self._workers - (rival is not None))
        if rival is not None:
            rival.join(search.remaining_s)

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
            start = None if known is None or not _is_pipeline(pipelined, known) else sequences.sequence_of(known)
        order = self._orders[self._round // MOVES_EVERY % len(self._orders)]
        seed = search.options.seed + self._round
        _, found = sequences.search(order, start, self._target(), self._bound_ms, seed, stop)
        if found is not None:
            self._consider(pipelined.placement(found), "sequences")

    def _anneal(self, stop: Ints) -> None:
        """One round of moves from one of the latest placements."""
        search, mobile = self._search, self._mobile
        latest = [*self._starts[-NUM_STARTS:], *([] if search.placement is None else [search.placement])]
        starts = [start for start in map(mobile.assignment_of, reversed(latest)) if start is not None]
        starts = [s for s in starts if mobile.partition is Partition.FREE or _is_pipeline(mobile, s)]
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
        _, found = annealing.improve(start, self._target(), self._bound_ms, seed, stop)
        if found is not None:
            search.offer(mobile.placement(found), "moves")

    def _run_ideals(self) -> None:
        """The ideal program on the optimistic instance: bounds, and placements good where links matter little."""
        search, coarse = self._search, self._coarse
        if self._fleets is not None:
            if not search.over and not coarse.is_gpipe and all(coarse.has_forward):
                limits = MAX_IDEALS, MAX_COUNT_STATES
                fleets = self._fleets.program(self._narrow_order(coarse), self._prices_of, limits)
                if fleets.fits:
                    self._close(fleets, coarse, "ideals")
            return
        if search.over or coarse.is_gpipe or not supports(coarse, MAX_COUNT_STATES):
            return
        prices = None if self._prices is None else (self._prices.of_load, self._prices.of_memory)
        program = IdealProgram(coarse, self._narrow_order(coarse), MAX_IDEALS, prices)
        if program.fits:
            self._methods.append("ideals")
            self._bisect(program.try_period, coarse, "ideals", self._after(IDEALS_SHARE))

    def _run_link_ideals(self) -> None:
        """The ideal program that tells the links of used devices from those of idle ones."""
        search, reduced = self._search, self._reduced
        if search.over or reduced.links is None or not link_ideals.supports(reduced):
            return
        prices = self._prices_of(reduced)
        if prices is None:
            return
        program = LinkIdealProgram(reduced, self._narrow_order(reduced), prices)
        if program.fits:
            self._close(program, reduced, "link ideals")

    def _close(self, program: FleetIdealProgram | LinkIdealProgram, compiled: CompiledInstance, method: str) -> None:
        """Raise the bound of the objective as far as ``program`` can."""
        search = self._search
        self._methods.append(method)
        if not self._is_cost and isinstance(program, LinkIdealProgram):
            self._follow(program)
        elif not self._is_cost:
            self._bisect(program.try_period, compiled, method, self._after(IDEALS_SHARE))
        elif self._fleets is not None:
            period = min(worst_period(self._reduced), self._longest_ms * NEAR * NEAR)
            with stop_flag(lambda: search.over) as stop:
                is_infeasible, found = self._fleets.bisect_cost(program, period, IDEALS_SHARE, method, stop)
            for assignment in found:
                self._consider(compiled.placement(assignment), method)
            if is_infeasible and search.placement is None:
                search.infeasible_by = method

    def _follow(self, program: LinkIdealProgram) -> None:
        """Bisect roughly with ever more tensors followed, until the program has to give up; then to the end."""
        search = self._search
        deadline, last, known = self._after(LINK_IDEALS_SHARE), -1, None
        for part in FOLLOWED_PARTS:
            follow_ms = part * (search.objective_value or self._bound_ms)
            number = program.num_followed(follow_ms)
            if number == last:
                continue
            last = number
            attempt = partial(program.try_period, follow_ms=follow_ms)
            middle = (search.elapsed_s + deadline) / 2
            if not self._bisect(attempt, self._reduced, "link ideals", middle, COARSE_GAP):
                break
            known = attempt
        if known is not None:
            self._bisect(known, self._reduced, "link ideals", deadline)

    def _after(self, share: float) -> float:
        return self._search.elapsed_s + self._search.remaining_s * share

    def _prices_of(self, compiled: CompiledInstance) -> tuple[Floats, Floats] | None:
        prices = find_prices(compiled, self._search.remaining_s * PRICES_SHARE)
        return None if prices is None else (prices.of_load, prices.of_memory)

    def _narrow_order(self, compiled: CompiledInstance) -> Ints:
        orders = itertools.islice(topological_orders(compiled, self._search.options.seed), 4)
        return min(orders, key=lambda order: span_of(compiled, order))

    def _bisect(
        self,
        attempt: Callable[[float, Callable[[], bool], float, Ints], Trial],
        compiled: CompiledInstance,
        method: str,
        deadline: float,
        gap: float = RELAXED_GAP,
    ) -> bool:
        """Raise the bound until the program, which is optimistic, reaches a period little above it.

        Args:
            attempt: tries a period.
            compiled: what it places.
            method: in whose name.
            deadline: in seconds of the search.
            gap: to what the program reaches, that ends it.

        Returns:
            Whether it came that far.
        """
        search = self._search
        reached, step = math.inf, FIRST_STEP

        def expired() -> bool:
            return search.over or search.elapsed_s > deadline

        with stop_flag(expired) as stop:
            while not expired():
                value = math.inf if self._is_cost or search.objective_value is None else search.objective_value
                upper = min(value, reached, self._longest_ms * NEAR * NEAR)
                if upper == math.inf:
                    return False
                is_near = upper - self._bound_ms <= upper * (gap if reached < math.inf else RELAXED_GAP)
                if is_near and value == upper:
                    period = value * (1 - FINEST / 2)
                elif is_near:
                    return True
                else:
                    period = min(self._bound_ms * (1 + step), (self._bound_ms + upper) / 2)
                trial = attempt(max(period, TINIEST_MS), expired, MAX_STEPS, stop)
                if trial.verdict is Verdict.GAVE_UP:
                    return False
                if trial.assignment is None:
                    step *= 2
                    self._claim_period(period, method)
                else:
                    reached = period
                    self._consider(compiled.placement(trial.assignment), method)
        return False

    def _claim_period(self, bound_ms: float, method: str) -> None:
        """Note a lower bound of the period: of the objective, or a proof that a limit cannot be met."""
        self._bound_ms = max(self._bound_ms, bound_ms)
        if bound_ms > worst_period(self._reduced):
            self._search.infeasible_by = method
        elif bound_ms > self._longest_ms * NEAR * NEAR:
            self._search.infeasible_by = method
            self.reasons = (
                InfeasibilityReason(
                    "period_too_short",
                    f"no placement has a period below {bound_ms:g} ms, the longest allowed is {self._longest_ms:g} ms",
                    required=bound_ms,
                    available=self._longest_ms,
                    unit="ms",
                ),
            )
        elif not self._is_cost:
            self._search.claim_bound(bound_ms, method)

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
            limit = min(worst_period(self._reduced) if value is None else value, self._longest_ms)
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
        return lambda bound: self._claim_period(bound, ClusterModel.name)

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


def _is_pipeline(compiled: CompiledInstance, assignment: cpsat.Assignment) -> bool:
    """Whether the devices can be numbered along the forward edges."""
    following: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for a, b in compiled.item_edges:
        if assignment[a] != assignment[b]:
            following.setdefault(assignment[b], set()).add(assignment[a])
    try:
        TopologicalSorter(following).prepare()
    except CycleError:
        return False
    return True
