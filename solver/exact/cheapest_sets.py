"""Free partitions: items that may as well share a device, found by minimum cuts.

Let M be a set with the least load among all sets that hold item v. Then some best answer keeps M together. For take any
answer, with v on the device that holds S, and move all of M there:

* load(S ∪ M) ≤ load(S) + load(M) − load(S ∩ M) ≤ load(S), as the load is submodular and S ∩ M holds v.
* A device with R, without v, is left with R ∖ M: load(R ∖ M) ≤ load(R) + load(M) − load(M ∖ R) ≤ load(R), as M ∖ R
  holds v. Here transfers cost a set what they cost its complement, a submodular function with that symmetry is also
  posimodular, and compute is no negative number.
* A host that gives items away has less compute, and pays no transfers.

So no load grows. This needs: all devices other than hosts alike, loads that are sums (overlap ``none``, ``1f1b``),
memory that cannot bind, and that v sits on no host, which is certain when it takes longer there than the best period
known. United sets become items, and the search for sets begins again, until nothing changes.

Source: own; the uncrossing of minimum cuts is textbook matter.
"""

from __future__ import annotations

from collections.abc import Callable

from solver.compiled import CompiledInstance
from solver.exact.operator_cuts import Cuts
from solver.instance import Overlap
from solver.reductions import UnionFind


def supports(compiled: CompiledInstance) -> bool:
    """Whether the argument of the module holds for the free partition of ``compiled``."""
    main = [c for c in compiled.classes if not c.is_host]
    return (
        len(main) == 1
        and compiled.overlap is Overlap.NONE
        and not compiled.is_gpipe
        and compiled.links is None
        and (main[0].memory_bytes is None or sum(compiled.memory_bytes) <= main[0].memory_bytes)
    )


def unite_cheapest_sets(
    compiled: CompiledInstance, value_ms: float, expired: Callable[[], bool]
) -> tuple[CompiledInstance, float]:
    """Merge what may as well share a device in an answer better than ``value_ms``.

    Args:
        compiled: reduced for the free partition, with :func:`supports`.
        value_ms: the best period known.
        expired: asked between items; what is merged by then stays merged.

    Returns:
        The merged instance, and by how many ms its optimum may exceed the real one, for rounding.
    """
    loss_ms = 0.0
    while True:
        cuts = Cuts(compiled, (0, 1))
        groups = UnionFind(compiled.num_items)
        taken = [False] * compiled.num_items
        for item in cuts.by_promise():
            if expired():
                break
            if taken[item] or cuts.on_host[item] <= value_ms:
                continue
            cheapest = cuts.cheapest_set(item)
            # Sets that overlap are looked at again once the first of them is one item.
            if len(cheapest) > 1 and not any(taken[other] for other in cheapest):
                loss_ms += cuts.rounding_ms
                for other in cheapest:
                    taken[other] = True
                    groups.unite(item, other)
        parts = groups.parts()
        if len(parts) == compiled.num_items:
            return compiled, loss_ms
        compiled = compiled.merge(parts)
