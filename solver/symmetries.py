"""Ways to rename device classes that change nothing, such as exchanging two nodes with the same contents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from solver.compiled import CompiledInstance

MAX_RENAMINGS = 120
MAX_TRIALS = 20_000


def renamings(compiled: CompiledInstance) -> list[tuple[int, ...]]:
    """The new name of each class: the identity first, then up to so many other renamings.

    Classes that change places have as many devices, the same times, memory and price, and under their new names the
    same transfer times to all the others. So a placement and the one with every device of class k moved to class
    ``new[k]`` have equal loads, and keep the same rules; an earlier placement aside.

    Source: own; the search is that of graph automorphisms by backtracking.
    """
    num_classes = len(compiled.classes)
    identity = tuple(range(num_classes))
    if compiled.links is None:
        return [identity]
    sizes = list(dict.fromkeys(tensor.sizes for tensor in compiled.tensors))
    times = np.array([compiled.links.times(size) for size in sizes]).reshape(len(sizes), num_classes, num_classes)
    _, numbers = np.unique(times.reshape(len(sizes), num_classes**2), axis=1, return_inverse=True)
    contents = [
        (c.count, c.memory_bytes, c.cost_per_hour, np.ascontiguousarray(compiled.compute_ms[:, k]).tobytes())
        for k, c in enumerate(compiled.classes)
    ]
    found = _extend(numbers.reshape(num_classes, num_classes).tolist(), contents, [], [MAX_TRIALS])
    return [identity, *islice((names for names in found if names != identity), MAX_RENAMINGS - 1)]


def _extend(
    links: Sequence[Sequence[int]], contents: Sequence[object], names: list[int], left: list[int]
) -> Iterator[tuple[int, ...]]:
    """All renamings that begin with ``names``, while trials are left."""
    k = len(names)
    if k == len(contents):
        yield tuple(names)
        return
    for name in range(len(contents)):
        if name in names or contents[name] != contents[k] or left[0] == 0:
            continue
        left[0] -= 1
        if links[name][name] == links[k][k] and all(links[name][names[other]] == links[k][other] for other in range(k)):
            yield from _extend(links, contents, [*names, name], left)
