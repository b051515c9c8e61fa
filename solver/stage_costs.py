"""What a stage costs while items join it one by one: flat arrays and the steps that all compiled loops share.

A *row* is what one device has to keep within the period: its load, or under ``gpipe`` the load of one pass. Every row
has its own compute and transfers, so loops that know of rows need not know of passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from solver.compiled import NUM_PASSES, CompiledInstance, Floats, Ints
from solver.instance import Overlap
from solver.kernels import kernel

NO_LIMIT = 2**62
"""Bytes; what is held is counted up to here."""
MOST_HELD = 2**61
"""Bytes of one item that count: more than any device has that has a limit."""
FAR_ABOVE = 4.0
"""In periods."""
TINIEST = 1e-300

ADDED, BESIDE_TRANSFERS, BESIDE_EACH_OTHER = 0, 1, 2
"""How compute and transfers make a load: all added, or compute beside transfers, or all three beside each other."""

OVERLAP_CODES = {Overlap.NONE: ADDED, Overlap.FULL: BESIDE_TRANSFERS, Overlap.DUPLEX: BESIDE_EACH_OTHER}


class StageCosts(NamedTuple):
    """Items by position, classes in a chosen order, tensors as in the instance; R rows, the same number per class.

    Attributes:
        compute: [I, R] ms; infinite where an item may not sit.
        memory: [I] bytes.
        limits: [K] bytes, ``NO_LIMIT`` at most.
        overlap: one of the three codes above.
        producer: [T] position of the item that makes a tensor.
        num_consumers: [T].
        times: [T, R] ms of one transfer, in or out; nothing on hosts, nor in the pass that does not make the tensor.
        first: [I + 1] where each item's entries in ``touching`` begin.
        touching: the tensors that an item makes or needs.
    """

    compute: Floats
    memory: Ints
    limits: Ints
    overlap: int
    producer: Ints
    num_consumers: Ints
    times: Floats
    first: Ints
    touching: Ints


def held_bytes(compiled: CompiledInstance) -> Ints:
    """[I] what each item takes of a device's memory, up to ``MOST_HELD``."""
    return np.array([min(need, MOST_HELD) for need in compiled.memory_bytes], dtype=np.int64)


def stage_costs(
    compiled: CompiledInstance, order: Ints, classes: Sequence[int], *, by_pass: bool = False
) -> StageCosts:
    """Flat arrays with item ``order[p]`` at position p and class ``classes[k]`` in row k.

    With ``by_pass``, rows 2k and 2k + 1 are the passes of that class.
    """
    position = np.empty(compiled.num_items, dtype=np.int64)
    position[order] = np.arange(compiled.num_items)
    parts = [compiled.compute_ms[:, :, index] for index in range(NUM_PASSES)]
    compute = np.stack(parts if by_pass else [parts[0] + parts[1]], axis=2)
    compute = np.where(compiled.allowed[:, :, None], compute, np.inf)[order][:, classes]
    times = np.array(
        [[0.0 if compiled.classes[k].is_host else t.time_ms[k] for k in classes] for t in compiled.tensors]
    ).reshape(len(compiled.tensors), len(classes), 1)
    if by_pass:
        made_in = np.array([t.pass_index for t in compiled.tensors], dtype=np.int64)
        times = times * (made_in[:, None, None] == np.arange(NUM_PASSES))
    num_rows = len(classes) * compute.shape[2]
    limits = [compiled.classes[k].memory_bytes for k in classes]
    touching = [compiled.tensors_of[item] for item in order]
    return StageCosts(
        compute=np.ascontiguousarray(compute.reshape(len(order), num_rows)),
        memory=held_bytes(compiled)[order],
        limits=np.array([NO_LIMIT if limit is None else limit for limit in limits], dtype=np.int64),
        overlap=OVERLAP_CODES[compiled.overlap],
        producer=np.array([position[t.producer] for t in compiled.tensors], dtype=np.int64),
        num_consumers=np.array([len(t.consumers) for t in compiled.tensors], dtype=np.int64),
        times=np.ascontiguousarray(times.reshape(len(compiled.tensors), num_rows)),
        first=np.concatenate([[0], np.cumsum([len(tensors) for tensors in touching])]).astype(np.int64),
        touching=np.array([tensor for tensors in touching for tensor in tensors], dtype=np.int64),
    )


def worth_at_prices(
    costs: StageCosts, period_ms: float, load_prices: Floats, memory_prices: Floats
) -> tuple[Floats, Floats]:
    """What each item is worth [I] where it is worth least, and all that a class can take within the period [K].

    ``costs`` has one row per class, as the prices have. An item that no class can take is worth nothing here.
    """
    usable = costs.compute <= period_ms * (1 + 1e-9)
    worth = np.where(usable, np.where(usable, costs.compute, 0.0) * load_prices, np.inf)
    worth = (worth + memory_prices * costs.memory[:, None]).min(axis=1)
    worth = np.where(np.isfinite(worth), worth, 0.0)
    return worth, np.array([worth[column].sum() for column in usable.T])


def scale_passes(costs: StageCosts, periods: Sequence[float]) -> tuple[float, StageCosts]:
    """One period for all rows: each pass in units in which its own period is the largest of ``periods``.

    ``costs`` has the rows of both passes. What is far above its period only keeps above it.
    """
    longest = max(periods)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        factors = np.where(np.array(periods) < longest, longest / np.array(periods), 1.0)

        def scale(values: Floats) -> Floats:
            scaled = values.reshape(len(values), values.shape[1] // NUM_PASSES, NUM_PASSES) * factors
            scaled = np.where(values.reshape(scaled.shape) > 0, scaled, 0.0)
            return np.ascontiguousarray(np.minimum(scaled, FAR_ABOVE * longest + TINIEST).reshape(values.shape))

        return longest, costs._replace(compute=scale(costs.compute), times=scale(costs.times))


def divide_period(costs: StageCosts, share: float) -> StageCosts:
    """With ``share`` of a period for the forward pass, and the rest for the backward pass: rows in periods of both.

    A stage keeps its part in both passes if all rows keep the period. ``costs`` has the rows of both passes; the share
    is neither 0 nor 1.
    """
    parts = np.tile([share, 1 - share], len(costs.limits))
    return costs._replace(compute=costs.compute / parts, times=costs.times / parts)


@kernel
def crossings(makes: bool, made_inside: bool, num_inside: int, num_consumers: int) -> tuple[int, int]:  # noqa: FBT001
    """How an item that makes or needs a tensor changes, by joining, how often it comes in and goes out: −1, 0 or 1.

    Numbers only: handing arrays to a function costs as much as the rest of the loop.

    Args:
        makes: whether the item is the producer, rather than a consumer.
        made_inside: whether the producer is in the stage already.
        num_inside: consumers in the stage already.
        num_consumers: of the tensor.
    """
    if makes:
        return -1 if num_inside > 0 else 0, 1 if num_inside < num_consumers else 0
    if made_inside:
        return 0, -1 if num_inside + 1 == num_consumers else 0
    return 1 if num_inside == 0 else 0, 0


@kernel
def load(overlap: int, spent: float, incoming: float, outgoing: float) -> float:
    """A device's load from its compute and transfers."""
    if overlap == ADDED:
        return spent + incoming + outgoing
    if overlap == BESIDE_TRANSFERS:
        return max(spent, incoming + outgoing)
    return max(spent, incoming, outgoing)
