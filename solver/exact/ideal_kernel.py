"""The compiled loop of the ideal program; :mod:`solver.exact.throughput_ideals` says what it does and why.

Arrays are indexed by position in the topological order, tensor, device class (the main one first), row of a class (see
:mod:`solver.stage_costs`), or ideal.
"""

from __future__ import annotations

import numpy as np

from solver.compiled import Floats, Ints
from solver.exact.ideal_domination import is_dominated
from solver.exact.ideal_graph import IdealGraph
from solver.exact.ideal_table import WINDOW, TableArrays, contains, find, unpack, with_item
from solver.kernels import kernel
from solver.stage_costs import ADDED, NO_LIMIT, StageCosts, crossings, load

MAX_STEPS_PER_IDEAL = 50_000_000
"""An ideal with more ways on than this (seconds) is a sign of a graph for other methods."""
DONE, PAUSED, TABLE_FULL, WINDOW_EXCEEDED, TOO_WIDE = 0, 1, 2, 3, 4


@kernel
def explore(  # noqa: C901, PLR0911, PLR0912, PLR0915  one loop nest, kept whole for the compiler
    period: float,
    costs: StageCosts,
    counts: Ints,
    anchors: Ints,
    worth: Floats,
    share: Floats,
    graph: IdealGraph,
    table: TableArrays,
    max_steps: int,
    stop: Ints,
) -> int:
    """Process ideals by ascending size until all are done, steps run out, the table is full, or ``stop[0]`` is set.

    Steps are counted between ideals only; one ideal alone may take minutes.

    Args:
        period: that no row may exceed.
        costs: of the items, by position.
        counts: devices of each class, none where an anchor tells.
        anchors: position of the anchor of each class, or −1.
        worth: [I, M] what each item is worth, by each of M measures.
        share: [K, M] the worth that one device of a class can hold at most; of the main one, the period.
        graph: which items may follow which.
        table: of ideals; taken up where it was left.
        max_steps: of this call.
        stop: [1], set from outside.
    """
    compute, memory, limits, overlap, producer, num_consumers, times, touching_first, touching = costs
    successor_first, successors, predecessor_first, predecessors, num_tight, span = graph[:6]
    forward = graph.forward
    slots, low, mask, done, following, fewest, parent, parent_state, by_class, queue, cursor = table
    size, num_rows = compute.shape
    num_classes = len(counts)
    num_passes = num_rows // num_classes
    num_measures = worth.shape[1]
    num_states = fewest.shape[1]
    capacity = len(low)
    # Room for rounding of running sums; every cost that counts is at most twice the period (see ``cost`` below).
    limit = period * (1 + 1e-10)
    ceiling = 2 * period + 1e-300
    total = np.zeros(num_measures)
    slack = np.zeros(num_measures)
    reserved = np.zeros(num_measures)
    for m in range(num_measures):
        total[m] = worth[:, m].sum()
        # Room for rounding where what is done is taken from the total, which may dwarf what is left.
        slack[m] = 1e-9 * limit + 1e-12 * total[m]
    strides = np.ones(num_classes, dtype=np.int64)
    for k in range(2, num_classes):
        strides[k] = strides[k - 1] * (counts[k - 1] + 1)
    is_anchor = np.zeros(size + 1, dtype=np.bool_)
    for k in range(num_classes):
        if anchors[k] >= 0:
            is_anchor[anchors[k]] = True
    is_open = np.zeros(num_classes, dtype=np.bool_)
    inside = np.zeros(len(producer), dtype=np.int64)
    home = np.zeros(len(producer), dtype=np.bool_)
    included = np.zeros(size + 1, dtype=np.bool_)
    joining = np.zeros(size + 1, dtype=np.bool_)
    surplus = np.zeros(size + 1)

    max_depth = 256
    width = 512
    spent = np.zeros((max_depth + 1, num_rows))
    incoming = np.zeros((max_depth + 1, num_rows))
    outgoing = np.zeros((max_depth + 1, num_rows))
    settled = np.zeros((max_depth + 1, num_rows))
    held = np.zeros(max_depth + 1, dtype=np.int64)
    reached = np.zeros((max_depth + 1, num_measures))
    key_low = np.zeros(max_depth + 1, dtype=np.int64)
    key_first = np.zeros(max_depth + 1, dtype=np.uint64)
    key_second = np.zeros(max_depth + 1, dtype=np.uint64)
    added = np.zeros(max_depth + 1, dtype=np.int64)
    ready_items = np.zeros((max_depth + 1, width), dtype=np.int64)
    num_ready = np.zeros(max_depth + 1, dtype=np.int64)
    next_ready = np.zeros(max_depth + 1, dtype=np.int64)
    budget = np.zeros((num_states, num_measures))
    is_live = np.zeros(num_states, dtype=np.bool_)
    steps = 0

    while cursor[1] < size:
        if cursor[2] < 0:
            cursor[2] = queue[cursor[1]]
        while cursor[2] >= 0:
            origin = cursor[2]
            if steps > max_steps:
                return PAUSED
            before_ideal = steps
            start = low[origin]
            # What must be done at the very least once this stage is over, per state: all that the rest cannot take.
            alive = False
            reserved[:] = 0.0
            for k in range(1, num_classes):
                is_open[k] = anchors[k] >= 0 and not contains(
                    start, mask[origin, 0], mask[origin, 1], anchors[k], num_tight
                )
                if is_open[k]:
                    for m in range(num_measures):
                        reserved[m] += share[k, m]
            for state in range(num_states):
                used = fewest[origin, state]
                is_live[state] = used >= 0
                if used < 0:
                    continue
                for m in range(num_measures):
                    rest = (counts[0] - used) * limit + reserved[m]
                    for k in range(1, num_classes):
                        rest += (counts[k] - (state // strides[k]) % (counts[k] + 1)) * share[k, m]
                    budget[state, m] = rest + slack[m]
                    if total[m] - done[origin, m] > budget[state, m]:
                        is_live[state] = False
                if is_live[state]:
                    alive = True
            if alive:
                unpack(included, start, mask[origin, 0], mask[origin, 1], num_tight)
                count = count_tight = 0
                end = min(num_tight, start + 1 + WINDOW + span)
                for rank in range(start, end + size - num_tight):
                    position = rank if rank < end else num_tight + rank - end
                    if included[position]:
                        continue
                    ready = True
                    for index in range(predecessor_first[position], predecessor_first[position + 1]):
                        before = predecessors[index]
                        if before >= start and not included[before]:
                            ready = False
                            break
                    if ready:
                        if count == width:
                            return WINDOW_EXCEEDED
                        ready_items[0, count] = position
                        count += 1
                        count_tight += position < num_tight
                num_ready[0] = count
                next_ready[0] = 0
                highest = start - 1
                for position in range(min(num_tight, start + 1 + WINDOW) - 1, start, -1):
                    if included[position]:
                        highest = position
                        break
                if is_dominated(
                    origin,
                    highest,
                    ready_items[0, :count_tight],
                    included,
                    joining,
                    surplus,
                    is_anchor,
                    is_live,
                    costs,
                    graph,
                    table,
                ):
                    num_ready[0] = 0
                spent[0, :] = 0.0
                incoming[0, :] = 0.0
                outgoing[0, :] = 0.0
                settled[0, :] = 0.0
                held[0] = 0
                for m in range(num_measures):
                    reached[0, m] = done[origin, m]
                key_low[0] = start
                key_first[0] = mask[origin, 0]
                key_second[0] = mask[origin, 1]
                depth = 0
                failure = 0
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
                    steps += 1
                    if stop[0]:
                        return PAUSED
                    if steps - before_ideal > MAX_STEPS_PER_IDEAL:
                        return TOO_WIDE
                    new = depth + 1
                    possible = False
                    held[new] = min(held[depth] + memory[position], NO_LIMIT)
                    for k in range(num_classes):
                        fits = held[new] <= limits[k]
                        for row in range(k * num_passes, (k + 1) * num_passes):
                            spent[new, row] = spent[depth, row] + min(compute[position, row], ceiling)
                            if spent[new, row] + (settled[depth, row] if overlap == ADDED else 0.0) > limit:
                                fits = False
                        if fits:
                            possible = True
                    if not possible:
                        continue
                    if (position < num_tight and position - key_low[depth] > WINDOW) or new == max_depth:
                        failure = WINDOW_EXCEEDED
                        break
                    key_low[new], key_first[new], key_second[new] = with_item(
                        key_low[depth], key_first[depth], key_second[depth], position, num_tight
                    )
                    for row in range(num_rows):
                        incoming[new, row] = incoming[depth, row]
                        outgoing[new, row] = outgoing[depth, row]
                        settled[new, row] = settled[depth, row]
                    for index in range(touching_first[position], touching_first[position + 1]):
                        tensor = touching[index]
                        enters, leaves = crossings(
                            producer[tensor] == position, home[tensor], inside[tensor], num_consumers[tensor]
                        )
                        if producer[tensor] == position:
                            home[tensor] = True
                        else:
                            inside[tensor] += 1
                        if enters:
                            for row in range(num_rows):
                                cost = min(times[tensor, row], ceiling)
                                incoming[new, row] += enters * cost
                                if forward[tensor]:
                                    settled[new, row] += cost
                        if leaves:
                            for row in range(num_rows):
                                outgoing[new, row] += leaves * min(times[tensor, row], ceiling)
                    included[position] = True
                    added[new] = position
                    for m in range(num_measures):
                        reached[new, m] = reached[depth, m] + worth[position, m]
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
                            if count == width:
                                failure = WINDOW_EXCEEDED
                                break
                            place = count
                            while place > 0 and ready_items[new, place - 1] > after:
                                ready_items[new, place] = ready_items[new, place - 1]
                                place -= 1
                            ready_items[new, place] = after
                            count += 1
                    if failure:
                        break
                    # Land here with each class whose load fits.
                    slot = -1
                    hopeful = False
                    for k in range(num_classes):
                        if held[new] > limits[k]:
                            continue
                        bare = fits = True
                        for row in range(k * num_passes, (k + 1) * num_passes):
                            if spent[new, row] + (settled[new, row] if overlap == ADDED else 0.0) > limit:
                                bare = False
                            if load(overlap, spent[new, row], incoming[new, row], outgoing[new, row]) > limit:
                                fits = False
                        if bare:
                            hopeful = True
                        if not fits:
                            continue
                        for state in range(num_states):
                            if not is_live[state]:
                                continue
                            used = fewest[origin, state]
                            target = state
                            if k == 0:
                                used += 1
                                if used > counts[0]:
                                    continue
                            elif anchors[k] >= 0:
                                if not (is_open[k] and included[anchors[k]]):
                                    continue
                            else:
                                if (state // strides[k]) % (counts[k] + 1) == counts[k]:
                                    continue
                                target = state + strides[k]
                            possible = True
                            for m in range(num_measures):
                                taken = limit if k == 0 else share[k, m]
                                if total[m] - reached[new, m] > budget[state, m] - taken:
                                    possible = False
                            if not possible:
                                continue
                            if slot < 0:
                                slot = find(slots, low, mask, key_low[new], key_first[new], key_second[new])
                                if slots[slot] < 0:
                                    landed = cursor[0]
                                    if landed == capacity:
                                        return TABLE_FULL
                                    cursor[0] += 1
                                    slots[slot] = landed
                                    low[landed] = key_low[new]
                                    mask[landed, 0] = key_first[new]
                                    mask[landed, 1] = key_second[new]
                                    for m in range(num_measures):
                                        done[landed, m] = reached[new, m]
                                    length = cursor[1] + new
                                    following[landed] = queue[length]
                                    queue[length] = landed
                            landed = slots[slot]
                            if fewest[landed, target] < 0 or used < fewest[landed, target]:
                                fewest[landed, target] = used
                                parent[landed, target] = origin
                                parent_state[landed, target] = state
                                by_class[landed, target] = k
                    num_ready[new] = count
                    next_ready[new] = first_new if hopeful else count
                    depth = new
                if failure:
                    return failure
                for offset in range(WINDOW):
                    if start + 1 + offset < num_tight:
                        included[start + 1 + offset] = False
            cursor[2] = following[origin]
            cursor[3] += steps - before_ideal
        cursor[1] += 1
        cursor[2] = -1
    return DONE
