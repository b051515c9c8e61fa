"""The compiled loop of the ideal program over links; :mod:`solver.exact.link_ideals` says what it does and why.

Sets of states are bits of 64-bit words. Arrays are indexed by position in the topological order, tensor, or ideal.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from solver.compiled import Floats, Ints
from solver.exact.ideal_table import WINDOW, find, insert_all
from solver.kernels import kernel
from solver.stage_costs import ADDED, crossings, load

Words = npt.NDArray[np.uint64]

DONE, PAUSED, TABLE_FULL, WINDOW_EXCEEDED = 0, 1, 2, 3
MAX_DEPTH, MAX_READY = 512, 512


class LinkCosts(NamedTuple):
    """What stages cost; C distinct columns of compute, L of transfers, K classes.

    Attributes:
        compute: [I, C] ms.
        memory: [I] bytes.
        worth: [I] at the prices of the trial.
        times: [T, L] ms.
        producer: [T].
        num_consumers: [T].
        forward: [T] whether the producer stands before all consumers.
        touching_first, touching: the tensors that each item makes or needs.
        overlap: a code of :mod:`solver.stage_costs`.
        class_compute: [K] column of ``compute``.
        class_least: [K] column of ``times`` that is nowhere above its others.
        limits: [K] bytes.
    """

    compute: Floats
    memory: Ints
    worth: Floats
    times: Floats
    producer: Ints
    num_consumers: Ints
    forward: npt.NDArray[np.bool_]
    touching_first: Ints
    touching: Ints
    overlap: int
    class_compute: Ints
    class_least: Ints
    limits: Ints


class Order(NamedTuple):
    """Which items may follow which, by position; ``span`` as in the program over ``host``."""

    successor_first: Ints
    successors: Ints
    predecessor_first: Ints
    predecessors: Ints
    span: int


class Steps(NamedTuple):
    """Ways from one state to the next: M of them, S states in W words.

    Attributes:
        of_class: [M] class of the device that is added.
        incoming, outgoing: [M] columns of transfer times.
        stride: [M] by how much the state's number grows.
        source: [M, W] states in which it can be done.
        holds: [S] worth that the devices still idle in a state can hold.
    """

    of_class: Ints
    incoming: Ints
    outgoing: Ints
    stride: Ints
    source: Words
    holds: Floats


class LinkTable(NamedTuple):
    """N ideals; the log has an entry for each state of an ideal that was reached, in the order of discovery.

    Attributes:
        slots, low, mask, following, queue, cursor: as in :class:`solver.exact.ideal_table.TableArrays`.
        done: [N] worth of the items.
        reached: [N, W] states.
        log: [E, 4] ideal, state, the ideal before, and the step taken.
        length: of the log.
    """

    slots: npt.NDArray[np.int32]
    low: npt.NDArray[np.int32]
    mask: Words
    following: npt.NDArray[np.int32]
    queue: npt.NDArray[np.int32]
    cursor: Ints
    done: Floats
    reached: Words
    log: npt.NDArray[np.int32]
    length: Ints


@kernel
def explore(  # noqa: C901, PLR0911, PLR0912, PLR0915  one loop nest, kept whole for the compiler
    period: float,
    costs: LinkCosts,
    order: Order,
    steps: Steps,
    table: LinkTable,
    max_steps: int,
    stop: Ints,
) -> int:
    """Process ideals by ascending size until all are done, steps run out, the table is full, or ``stop[0]`` is set."""
    compute, memory, worth, times, producer, num_consumers, forward, touching_first, touching = costs[:9]
    overlap, class_compute, class_least, limits = costs[9:]
    successor_first, successors, predecessor_first, predecessors, span = order
    of_class, step_in, step_out, stride, source, holds = steps
    slots, low, mask, following, queue, cursor, done, reached, log, length = table
    size, num_compute = compute.shape
    num_times = times.shape[1]
    num_steps, num_words = source.shape
    num_classes = len(limits)
    capacity, room = len(low), len(log)
    one = np.uint64(1)
    # Room for rounding of running sums; every cost that counts is at most twice the period.
    limit = period * (1 + 1e-10)
    ceiling = 2 * period + 1e-300
    total = worth.sum()
    slack = 1e-9 * holds.max() + 1e-12 * total
    inside = np.zeros(len(producer), dtype=np.int64)
    home = np.zeros(len(producer), dtype=np.bool_)
    included = np.zeros(size + 1, dtype=np.bool_)
    spent = np.zeros((MAX_DEPTH + 1, num_compute))
    incoming = np.zeros((MAX_DEPTH + 1, num_times))
    outgoing = np.zeros((MAX_DEPTH + 1, num_times))
    settled = np.zeros((MAX_DEPTH + 1, num_times))
    held = np.zeros(MAX_DEPTH + 1)
    gained = np.zeros(MAX_DEPTH + 1)
    key_low = np.zeros(MAX_DEPTH + 1, dtype=np.int64)
    key_first = np.zeros(MAX_DEPTH + 1, dtype=np.uint64)
    key_second = np.zeros(MAX_DEPTH + 1, dtype=np.uint64)
    added = np.zeros(MAX_DEPTH + 1, dtype=np.int64)
    ready_items = np.zeros((MAX_DEPTH + 1, MAX_READY), dtype=np.int64)
    num_ready = np.zeros(MAX_DEPTH + 1, dtype=np.int64)
    next_ready = np.zeros(MAX_DEPTH + 1, dtype=np.int64)
    target = np.zeros((num_steps, num_words), dtype=np.uint64)
    most = np.full(num_steps, -np.inf)
    usable = np.zeros(num_classes, dtype=np.bool_)
    work = 0

    while cursor[1] < size:
        if cursor[2] < 0:
            cursor[2] = queue[cursor[1]]
        while cursor[2] >= 0:
            origin = cursor[2]
            if work > max_steps:
                return PAUSED
            start = low[origin]
            # Where each step leads from the states reached, and what the idle devices hold then at most.
            usable[:] = False
            for step in range(num_steps):
                words, bits = stride[step] >> 6, np.uint64(stride[step] & 63)
                most[step] = -np.inf
                for word in range(num_words - 1, -1, -1):
                    value = np.uint64(0)
                    if word >= words:
                        value = (reached[origin, word - words] & source[step, word - words]) << bits
                        if bits and word > words:
                            below = reached[origin, word - words - 1] & source[step, word - words - 1]
                            value |= below >> (np.uint64(64) - bits)
                    target[step, word] = value
                    number = word * 64
                    while value:
                        if value & one:
                            most[step] = max(most[step], holds[number])
                        value >>= one
                        number += 1
                if most[step] > -np.inf:
                    usable[of_class[step]] = True
            for offset in range(WINDOW):
                word = mask[origin, 0] if offset < 64 else mask[origin, 1]
                if (word >> np.uint64(offset & 63)) & one:
                    included[start + 1 + offset] = True
            count = 0
            for position in range(start, min(size, start + 1 + WINDOW + span)):
                if included[position]:
                    continue
                ready = True
                for index in range(predecessor_first[position], predecessor_first[position + 1]):
                    before = predecessors[index]
                    if before >= start and not included[before]:
                        ready = False
                        break
                if ready:
                    if count == MAX_READY:
                        return WINDOW_EXCEEDED
                    ready_items[0, count] = position
                    count += 1
            num_ready[0] = count
            next_ready[0] = 0
            spent[0, :] = 0.0
            incoming[0, :] = 0.0
            outgoing[0, :] = 0.0
            settled[0, :] = 0.0
            held[0] = 0.0
            gained[0] = done[origin]
            key_low[0] = start
            key_first[0] = mask[origin, 0]
            key_second[0] = mask[origin, 1]
            depth = 0
            while depth >= 0:
                if next_ready[depth] >= num_ready[depth]:
                    # Leave this node: take its item out again.
                    if depth > 0:
                        position = added[depth]
                        included[position] = False
                        for index in range(touching_first[position], touching_first[position + 1]):
                            tensor = touching[index]
                            if producer[tensor] == position:
                                home[tensor] = False
                            else:
                                inside[tensor] -= 1
                    depth -= 1
                    continue
                position = ready_items[depth, next_ready[depth]]
                next_ready[depth] += 1
                work += 1
                if stop[0]:
                    return PAUSED
                new = depth + 1
                held[new] = held[depth] + memory[position]
                for column in range(num_compute):
                    spent[new, column] = spent[depth, column] + min(compute[position, column], ceiling)
                possible = False
                for k in range(num_classes):
                    bare = spent[new, class_compute[k]] + (settled[depth, class_least[k]] if overlap == ADDED else 0.0)
                    if usable[k] and bare <= limit and held[new] <= limits[k]:
                        possible = True
                        break
                if not possible:
                    continue
                # The ideal's key with this position set.
                key_low[new] = key_low[depth]
                key_first[new] = key_first[depth]
                key_second[new] = key_second[depth]
                offset = position - key_low[depth] - 1
                if offset >= WINDOW or new == MAX_DEPTH:
                    return WINDOW_EXCEEDED
                if offset >= 0:
                    if offset < 64:
                        key_first[new] |= one << np.uint64(offset)
                    else:
                        key_second[new] |= one << np.uint64(offset - 64)
                else:
                    while True:
                        bit = key_first[new] & one
                        key_first[new] = (key_first[new] >> one) | (key_second[new] << np.uint64(63))
                        key_second[new] >>= one
                        key_low[new] += 1
                        if not bit:
                            break
                for column in range(num_times):
                    incoming[new, column] = incoming[depth, column]
                    outgoing[new, column] = outgoing[depth, column]
                    settled[new, column] = settled[depth, column]
                for index in range(touching_first[position], touching_first[position + 1]):
                    tensor = touching[index]
                    enters, leaves = crossings(
                        producer[tensor] == position, home[tensor], inside[tensor], num_consumers[tensor]
                    )
                    if producer[tensor] == position:
                        home[tensor] = True
                    else:
                        inside[tensor] += 1
                    if enters or leaves:
                        for column in range(num_times):
                            cost = min(times[tensor, column], ceiling)
                            incoming[new, column] += enters * cost
                            outgoing[new, column] += leaves * cost
                            if enters and forward[tensor]:
                                settled[new, column] += cost
                included[position] = True
                added[new] = position
                gained[new] = gained[depth] + worth[position]
                # All items that may come next, in ascending order; those before ``position`` were passed over.
                count = 0
                first_new = 0
                for index in range(num_ready[depth]):
                    other = ready_items[depth, index]
                    if other != position:
                        ready_items[new, count] = other
                        count += 1
                        if other < position:
                            first_new = count
                for index in range(successor_first[position], successor_first[position + 1]):
                    after = successors[index]
                    ready = True
                    for other in range(predecessor_first[after], predecessor_first[after + 1]):
                        before = predecessors[other]
                        if before >= start and not included[before]:
                            ready = False
                            break
                    if ready:
                        if count == MAX_READY:
                            return WINDOW_EXCEEDED
                        place = count
                        while place > 0 and ready_items[new, place - 1] > after:
                            ready_items[new, place] = ready_items[new, place - 1]
                            place -= 1
                        ready_items[new, place] = after
                        count += 1
                # Land here with each step whose load fits.
                landed = -1
                rest = total - gained[new] - slack
                for step in range(num_steps):
                    k = of_class[step]
                    if rest > most[step] or held[new] > limits[k]:
                        continue
                    if (
                        load(
                            overlap,
                            spent[new, class_compute[k]],
                            incoming[new, step_in[step]],
                            outgoing[new, step_out[step]],
                        )
                        > limit
                    ):
                        continue
                    if landed < 0:
                        slot = find(slots, low, mask, key_low[new], key_first[new], key_second[new])
                        if slots[slot] < 0:
                            if cursor[0] == capacity:
                                return TABLE_FULL
                            fresh = cursor[0]
                            cursor[0] += 1
                            slots[slot] = fresh
                            low[fresh] = key_low[new]
                            mask[fresh, 0] = key_first[new]
                            mask[fresh, 1] = key_second[new]
                            done[fresh] = gained[new]
                            number = cursor[1] + new
                            following[fresh] = queue[number]
                            queue[number] = fresh
                        landed = slots[slot]
                    for word in range(num_words):
                        value = target[step, word] & ~reached[landed, word]
                        number = word * 64
                        while value:
                            if value & one and holds[number] >= rest:
                                if length[0] == room:
                                    return TABLE_FULL
                                reached[landed, word] |= one << np.uint64(number & 63)
                                entry = log[length[0]]
                                entry[0], entry[1], entry[2], entry[3] = landed, number, origin, step
                                length[0] += 1
                            value >>= one
                            number += 1
                hopeful = False
                for k in range(num_classes):
                    bare = spent[new, class_compute[k]] + (settled[new, class_least[k]] if overlap == ADDED else 0.0)
                    if usable[k] and bare <= limit and held[new] <= limits[k]:
                        hopeful = True
                        break
                num_ready[new] = count
                next_ready[new] = first_new if hopeful else count
                depth = new
            for offset in range(WINDOW):
                if start + 1 + offset < size:
                    included[start + 1 + offset] = False
            cursor[2] = following[origin]
        cursor[1] += 1
        cursor[2] = -1
    return DONE


def table_of(capacity: int, room: int, num_words: int, num_items: int) -> LinkTable:
    """An empty table with the empty ideal in its first state."""
    table = LinkTable(
        slots=np.full(capacity * 2, -1, dtype=np.int32),
        low=np.zeros(capacity, dtype=np.int32),
        mask=np.zeros((capacity, 2), dtype=np.uint64),
        following=np.full(capacity, -1, dtype=np.int32),
        queue=np.full(num_items + 1, -1, dtype=np.int32),
        cursor=np.array([1, 0, -1], dtype=np.int64),
        done=np.zeros(capacity),
        reached=np.zeros((capacity, num_words), dtype=np.uint64),
        log=np.zeros((room, 4), dtype=np.int32),
        length=np.zeros(1, dtype=np.int64),
    )
    table.reached[0, 0] = 1
    table.queue[0] = 0
    insert_all(table.slots, table.low, table.mask, 1)
    return table


def grown(table: LinkTable) -> LinkTable:
    """The same with twice the room of what is full."""

    def double(old: npt.NDArray[Any], fill: int) -> npt.NDArray[Any]:
        return np.concatenate([old, np.full_like(old, fill)])

    if int(table.length[0]) == len(table.log):
        return table._replace(log=double(table.log, 0))
    slots = np.full(len(table.slots) * 2, -1, dtype=np.int32)
    table = table._replace(
        slots=slots,
        low=double(table.low, 0),
        mask=double(table.mask, 0),
        following=double(table.following, -1),
        done=double(table.done, 0),
        reached=double(table.reached, 0),
    )
    insert_all(slots, table.low, table.mask, int(table.cursor[0]))
    return table
