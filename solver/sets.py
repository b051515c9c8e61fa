"""How the methods work together on convex and free partitions: a device holds any set, or any convex set, of items."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from solver.cases import search_cases
from solver.compiled import CompiledInstance
from solver.exact import cheapest_sets
from solver.exact.counted_cuts import bound_by_counted_cuts
from solver.exact.leading_items import divide_leading_items
from solver.exact.operator_cuts import bound_by_cuts
from solver.formulation_runs import is_modelled, run_formulation
from solver.formulations import cpsat, throughput_cases_highs
from solver.formulations import throughput_bottleneck_highs as bottleneck
from solver.formulations.throughput_assignment_cpsat import AssignmentModel, Device
from solver.formulations.throughput_neighbourhood_cpsat import NeighbourhoodModel
from solver.heuristics import annealing
from solver.instance import Partition
from solver.result import Placement
from solver.search import Search
from solver.verification import verify

MAX_CUT_ITEMS = 20_000
CUTS_SHARE = 0.1
BOTTLENECK_SHARE = 0.35
"""Parts of the remaining time for bounds that hold for any set of items."""
SMALL_MODEL, SMALL_EFFORT = 300, 2.0
"""Items × devices of a model that often proves its answer at once, and the effort worth trying for that."""
MODEL_SHARE = 0.5
"""Part of the time then left for the whole model, before the search goes on in neighbourhoods alone."""
NUM_ROUNDS = 5
"""Rounds of annealing between searches of neighbourhoods."""
STEP = 1e-4
"""By how much, relatively, annealing is to beat the best period known."""
MAX_NEIGHBOURHOOD = 6_000
"""Items × devices of one neighbourhood."""
FIRST_EFFORT, MAX_EFFORT = 0.5, 20.0
MAX_FAILURES = 8
"""Neighbourhoods in a row without gain, before annealing has its turn again."""
MAX_MISSES = 50
"""Choices of devices in a row that have had their effort already, before more is spent on each."""
TIE = 1e-6
"""Loads this close to the largest, relatively, are as large."""
NO_GAIN = 1e-9


class SetSearch:
    """The methods at work on one search.

    Args:
        search: takes placements and bounds.
        reduced: the instance, reduced for its partition.
        workers: threads to use.
        methods: names of methods that took part are added here.
    """

    def __init__(self, search: Search, reduced: CompiledInstance, workers: int, methods: list[str]) -> None:
        self._search = search
        self._reduced = reduced
        self._workers = workers
        self._methods = methods
        # What may as well share a device does, in the instance that bounds and models are made of.
        self._united, self._loss_ms = reduced, 0.0
        self._num_improved = 0
        self._anneals = reduced.partition is Partition.FREE and annealing.supports(reduced)
        self._neighbourhoods = _Neighbourhoods(search, reduced)

    def run(self) -> None:
        """Bounds and better placements, at the same time where there are workers for it, until the search is over."""
        search = self._search
        self._cut()
        self._unite()
        if search.over:
            return
        is_convex = self._reduced.partition is Partition.CONVEX
        if is_convex:
            # The rule leaves so few answers that the model often proves one at once.
            self._run_model(self._workers)
        if self._workers > 1:
            bounder = search.beside(self._bound, "bounds of sets")
            self._improve(lambda: search.over or not bounder.is_alive(), workers=self._workers - 1)
            bounder.join(search.remaining_s)
        else:
            self._bound()
            self._anneal(lambda: search.over)
        if not is_convex:
            self._run_model(self._workers)
        self._improve(lambda: search.over, workers=self._workers)

    def _run_model(self, workers: int, effort: float = math.inf) -> None:
        search = self._search
        if search.over or not is_modelled(self._united):
            return
        self._note(AssignmentModel.name)
        run_formulation(
            search,
            AssignmentModel,
            self._united,
            search.remaining_s * MODEL_SHARE,
            workers=workers,
            proves=True,
            loss_ms=self._loss_ms,
            effort=effort,
        )

    def _cut(self) -> None:
        """What the cheapest set with a given item costs a device."""
        search = self._search
        if search.over or self._reduced.num_items > MAX_CUT_ITEMS:
            return
        self._note("cuts")
        bound_by_cuts(
            self._reduced,
            found=lambda bound: search.claim_bound(bound, "cuts"),
            expired=self._spend(CUTS_SHARE),
        )

    def _unite(self) -> None:
        search = self._search
        value = search.objective_value
        if (
            search.over
            or value is None
            or self._reduced.partition is not Partition.FREE
            or self._reduced.num_items > MAX_CUT_ITEMS
            or not cheapest_sets.supports(self._reduced)
        ):
            return
        self._united, self._loss_ms = cheapest_sets.unite_cheapest_sets(
            self._reduced, value, expired=self._spend(CUTS_SHARE)
        )

    def _spend(self, share: float) -> Callable[[], bool]:
        """Whether the search is over, or this part of the time that now remains is spent."""
        search = self._search
        deadline = search.elapsed_s + search.remaining_s * share
        return lambda: search.over or search.elapsed_s > deadline

    def _bound(self) -> None:
        """What the device costs that has to hold its share, by counting and on average."""
        search = self._search
        value = search.objective_value
        if search.over or value is None or self._united.num_items > MAX_CUT_ITEMS:
            return
        self._note("counted cuts")
        bound_by_counted_cuts(
            self._united,
            value,
            found=lambda bound: search.claim_bound(bound - self._loss_ms, "counted cuts"),
            expired=self._spend(CUTS_SHARE),
        )
        is_small = self._united.num_items * self._united.num_devices <= SMALL_MODEL
        if is_small and self._reduced.partition is Partition.FREE:
            self._run_model(workers=1, effort=SMALL_EFFORT)
        if search.over or not bottleneck.supports(self._united):
            return
        self._note(bottleneck.NAME)
        bottleneck.bound_by_bottleneck(
            self._united,
            value,
            search.remaining_s * BOTTLENECK_SHARE,
            over=lambda: search.over,
            found=lambda bound: search.claim_bound(bound - self._loss_ms, bottleneck.NAME),
        )
        self._search_cases()

    def _search_cases(self) -> None:
        """Case by case, where the leading items leave few; alone on its worker it has all the time there is."""
        search = self._search
        value = search.objective_value
        if search.over or value is None or self._reduced.partition is not Partition.FREE:
            return
        if not is_modelled(self._united):
            return
        cases = divide_leading_items(self._united, value + self._loss_ms, expired=self._spend(CUTS_SHARE))
        if cases is None:
            return
        self._note(throughput_cases_highs.NAME)
        expired = self._spend(1.0 if self._workers > 1 else MODEL_SHARE)
        search_cases(search, self._united, cases, self._loss_ms, expired)

    def _improve(self, expired: Callable[[], bool], workers: int) -> None:
        """Annealing, which finds its way far from the start, and neighbourhoods, which find what only a model finds."""
        while self._search.placement is not None and not expired():
            self._anneal(expired)
            self._note(NeighbourhoodModel.name)
            promising = self._neighbourhoods.search(expired, workers)
            self._num_improved += 1
            if not promising and not self._anneals:
                return

    def _anneal(self, expired: Callable[[], bool]) -> None:
        search = self._search
        if search.placement is None or expired() or not self._anneals:
            return
        # Larger items make longer strides; but an answer found otherwise may split them.
        compiled = self._reduced if self._num_improved % 2 else self._united
        start = compiled.gather(search.placement)
        self._note(annealing.NAME)

        def target() -> float:
            value = search.objective_value or 0.0
            return max(search.best_bound, value * (1 - STEP))

        for assignment in annealing.anneal(
            compiled,
            start,
            target=target,
            seed=search.options.seed + self._num_improved,
            expired=expired,
            num_rounds=NUM_ROUNDS,
        ):
            search.offer(compiled.placement(assignment), annealing.NAME)

    def _note(self, method: str) -> None:
        if method not in self._methods:
            self._methods.append(method)


class _Neighbourhoods:
    """Large-neighbourhood search: the device with the largest load and some others are filled anew, again and again."""

    def __init__(self, search: Search, compiled: CompiledInstance) -> None:
        self._search = search
        self._compiled = compiled
        self._random = random.Random(search.options.seed)  # noqa: S311  no secret
        self._device_of = {name: (k, n) for k, c in enumerate(compiled.classes) for n, name in enumerate(c.devices)}
        self._followed: Placement | None = None
        self._current: cpsat.Assignment = ()
        self._loads: dict[Device, float] = {}
        self._effort = FIRST_EFFORT
        # Per choice of devices, the effort spent on it; infinite once nothing better is known to exist.
        self._spent: dict[frozenset[Device], float] = {}

    def search(self, expired: Callable[[], bool], workers: int) -> bool:
        """Go on until ``expired``, or for ``MAX_FAILURES`` in a row; whether more effort may find more."""
        failures = misses = 0
        while not expired() and failures < MAX_FAILURES:
            if not self._keep_up():
                return False
            chosen = self._choose()
            if self._spent.get(chosen, 0.0) >= self._effort or not self._is_small(chosen):
                misses += 1
                if misses > MAX_MISSES:
                    self._effort, misses = self._effort * 2, 0
                if self._effort > MAX_EFFORT:
                    return False
                continue
            misses = 0
            outcome, better = self._fill(chosen, workers, expired)
            self._spent[chosen] = math.inf if outcome is not cpsat.Outcome.STOPPED else self._effort
            failures += 1
            if better is not None:
                failures = 0
                self._follow(better)
        return True

    def _keep_up(self) -> bool:
        """Start from the best placement when another method has found it; whether there is one that fits."""
        best = self._search.placement
        if best is None:
            return False
        if best is not self._followed:
            self._followed = best
            self._follow(self._compiled.gather(best))
        return bool(self._current)

    def _follow(self, assignment: cpsat.Assignment) -> None:
        self._current, self._loads = assignment, self._loads_of(assignment)
        self._spent.clear()

    def _loads_of(self, assignment: cpsat.Assignment) -> dict[Device, float]:
        """The verifier's loads in ms; infinite where it finds that a rule is broken."""
        verification = verify(self._search.instance, self._compiled.placement(assignment))
        loads = dict.fromkeys(self._device_of.values(), math.inf if verification.violations else 0.0)
        if not verification.violations:
            loads.update({self._device_of[stage.device]: stage.load_ms for stage in verification.stages})
        return loads

    def _choose(self) -> frozenset[Device]:
        """A device with the largest load, and one to three others."""
        largest = max(self._loads.values())
        worst = self._random.choice([d for d, load in self._loads.items() if load >= largest * (1 - TIE)])
        idle = {d[0]: d for d, load in self._loads.items() if not load}
        others = [d for d, load in self._loads.items() if d != worst and (load or idle[d[0]] == d)]
        return frozenset([worst, *self._random.sample(others, min(len(others), self._random.randint(1, 3)))])

    def _is_small(self, chosen: frozenset[Device]) -> bool:
        return len(chosen) * sum(home in chosen for home in self._current) <= MAX_NEIGHBOURHOOD

    def _fill(
        self, chosen: frozenset[Device], workers: int, expired: Callable[[], bool]
    ) -> tuple[cpsat.Outcome, cpsat.Assignment | None]:
        """Fill the devices ``chosen`` anew; how that ended, and what was found if it is better for them."""
        search, compiled = self._search, self._compiled
        largest = max(self._loads[device] for device in chosen)
        model = NeighbourhoodModel(compiled, largest, self._current, chosen)
        model.hint(self._current)
        found: list[cpsat.Assignment] = []

        def take(assignment: cpsat.Assignment) -> None:
            found.append(assignment)
            search.offer(compiled.placement(assignment), NeighbourhoodModel.name)

        options = cpsat.RunOptions(
            search.remaining_s, workers, search.options.seed, presolve=NeighbourhoodModel.presolve, effort=self._effort
        )
        outcome = cpsat.run(model, options, take, lambda _: None, lambda: search.over or expired())
        if not found:
            return outcome, None
        loads = self._loads_of(found[-1])
        is_better = max(loads[device] for device in chosen) < largest * (1 - NO_GAIN)
        return outcome, found[-1] if is_better else None
