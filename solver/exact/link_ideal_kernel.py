"""The compiled loop of the ideal program over links; :mod:`solver.exact.link_ideals` says what it does and why.

Arrays are indexed by position in the topological order, tensor, or ideal. Labels have a loop of their own, in
:mod:`solver.exact.link_steps`.
"""

from __future__ import annotations

import numpy as np

from solver.compiled import Ints
from solver.exact.ideal_graph import IdealGraph
from solver.exact.ideal_table import WINDOW, contains, find, unpack, with_item
from solver.exact.link_costs import LinkCosts
from solver.exact.link_ideal_table import LinkTable
from solver.exact.link_labels import MAX_OPEN, MAX_TRAVELLING, Labels
from solver.exact.link_prospects import Prospects
from solver.exact.link_steps import STEPPED, TOO_MANY_OPEN, Origin, Scratch, Stage, Ways, describe, step
from solver.exact.state_bits import holds_state, put
from solver.kernels import kernel
from solver.stage_costs import ADDED, NO_LIMIT, crossings

DONE, PAUSED, TABLE_FULL, LABELS_FULL, TOO_WIDE = 0, 1, 2, 3, 4
MAX_DEPTH, MAX_READY = 512, 512


@kernel
def explore(  # noqa: C901, PLR0911, PLR0912, PLR0915  one loop nest, kept whole for the compiler
    period: float,
    costs: LinkCosts,
    graph: IdealGraph,
    ways: Ways,
    table: LinkTable,
    labels: Labels,
    prospects: Prospects,
    direction: int,
    max_steps: int,
    stop: Ints,
) -> int:
    """Process ideals by ascending size until all are done, steps run out, a table is full, or ``stop[0]`` is set.

    Only what ``prospects`` calls worth reaching is reached. If ``direction`` is −1, not 1, ideals are processed by
    descending size and nothing is added: ``prospects``, of the ideals of ``table`` themselves, are told from behind.
    """
    compute, memory, worth, times, size_of, producer, num_consumers = costs[:7]
    followed, touching_first, touching, overlap, class_least = costs[7:]
    successor_first, successors, predecessor_first, predecessors, num_tight, span = graph[:6]
    forward, first_consumer, consumers, late = graph.forward, graph.first_consumer, graph.consumers, graph.late
    slots, low, mask, following, queue, cursor, done, head, wanted = table
    size, num_compute = compute.shape
    num_tensors, num_times = times.shape
    num_classes = len(ways.stride)
    # Room for rounding of running sums; every cost that counts is at most twice the period.
    limit = period * (1 + 1e-10)
    ceiling = 2 * period + 1e-300
    total = worth.sum()
    slack = 1e-9 * ways.holds.max() + 1e-12 * total
    inside = np.zeros(num_tensors, dtype=np.int64)
    home = np.zeros(num_tensors, dtype=np.bool_)
    included = np.zeros(size + 1, dtype=np.bool_)
    missing = np.zeros(size, dtype=np.int64)
    spent = np.zeros((MAX_DEPTH + 1, num_compute))
    incoming = np.zeros((MAX_DEPTH + 1, num_times))
    outgoing = np.zeros((MAX_DEPTH + 1, num_times))
    settled = np.zeros((MAX_DEPTH + 1, num_times))
    held = np.zeros(MAX_DEPTH + 1, dtype=np.int64)
    gained = np.zeros(MAX_DEPTH + 1)
    key_low = np.zeros(MAX_DEPTH + 1, dtype=np.int64)
    key_first = np.zeros(MAX_DEPTH + 1, dtype=np.uint64)
    key_second = np.zeros(MAX_DEPTH + 1, dtype=np.uint64)
    added = np.zeros(MAX_DEPTH + 1, dtype=np.int64)
    ready = np.zeros((MAX_DEPTH + 1, MAX_READY), dtype=np.int64)
    num_ready = np.zeros(MAX_DEPTH + 1, dtype=np.int64)
    next_ready = np.zeros(MAX_DEPTH + 1, dtype=np.int64)
    blank = np.full(MAX_TRAVELLING + 1, -1, dtype=np.int64)
    stage = Stage(blank.copy(), blank.copy(), blank.copy(), blank.copy(), blank.copy())
    floats, ints = np.zeros((4, MAX_OPEN + 1)), np.zeros((2, MAX_OPEN + 1), dtype=np.int64)
    scratch = Scratch(floats[0], floats[1], floats[2], floats[3], ints[0], ints[1])
    num_states, num_words = len(ways.holds), wanted.shape[1]
    entries = np.zeros(1024, dtype=np.int64)
    own = Origin(entries, entries.copy(), np.full(num_states, -1), np.zeros((num_classes, num_words), dtype=np.uint64))
    num_entries = 0
    waiting = np.zeros(num_tensors, dtype=np.int64)
    most = np.zeros(num_classes)
    work = 0
    knows = len(prospects.slots) > 0
    is_backward = direction < 0
    untold = np.zeros(0, dtype=np.uint64)

    while 0 <= cursor[1] < size:
        if cursor[2] < 0:
            cursor[2] = queue[cursor[1]]
        while cursor[2] >= 0:
            origin = cursor[2]
            if work > max_steps:
                return PAUSED
            start = low[origin]
            # Per class, what the idle devices can hold at most when one of the class has been added.
            most[:] = -np.inf
            for entry in range(num_entries):
                own.entry_of[labels.state[own.labels[entry]]] = -1
            own.moved[:] = 0
            num_entries = 0
            label = head[origin]
            while label >= 0:
                state = labels.state[label]
                if not is_backward or not holds_state(prospects.wanted[origin], state):
                    if num_entries == len(own.labels):
                        room = np.zeros(num_entries, dtype=np.int64)
                        more = np.append(own.labels, room), np.append(own.following, room)
                        own = Origin(more[0], more[1], own.entry_of, own.moved)
                    own.labels[num_entries], own.following[num_entries] = label, own.entry_of[state]
                    own.entry_of[state] = num_entries
                    num_entries += 1
                    for k in range(num_classes):
                        if ways.idle[state, k]:
                            put(own.moved[k], state + ways.stride[k])
                            most[k] = max(most[k], ways.holds[state + ways.stride[k]])
                label = labels.following[label]
            unpack(included, start, mask[origin, 0], mask[origin, 1], num_tight)
            # From ``end`` on no tight item is ready yet, and how many each of them waits for is not counted.
            end = min(num_tight, start + 1 + WINDOW + span)
            count = 0
            for rank in range(start, end + size - num_tight):
                position = rank if rank < end else num_tight + rank - end
                missing[position] = 0
                for index in range(predecessor_first[position], predecessor_first[position + 1]):
                    before = predecessors[index]
                    missing[position] += before >= start and not included[before]
                if missing[position] == 0 and not included[position]:
                    if count == MAX_READY:
                        return TOO_WIDE
                    ready[0, count] = position
                    count += 1
            num_ready[0] = count if num_entries else 0
            next_ready[0] = 0
            count = 0
            for tensor in range(num_tensors):
                made = producer[tensor]
                if followed[tensor] and (made < start or included[made]):
                    waiting[tensor] = 0
                    for index in range(first_consumer[tensor], first_consumer[tensor + 1]):
                        needed = consumers[index]
                        waiting[tensor] += needed >= start and not included[needed]
                    if waiting[tensor]:
                        if count == MAX_TRAVELLING:
                            return TOO_WIDE
                        stage.begin[count] = tensor
                        count += 1
            stage.begin[count] = -1
            spent[0, :] = 0.0
            incoming[0, :] = 0.0
            outgoing[0, :] = 0.0
            settled[0, :] = 0.0
            held[0] = 0
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
                        for index in range(successor_first[position], successor_first[position + 1]):
                            missing[successors[index]] += 1
                    depth -= 1
                    continue
                position = ready[depth, next_ready[depth]]
                next_ready[depth] += 1
                work += 1
                if stop[0]:
                    return PAUSED
                new = depth + 1
                held[new] = min(held[depth] + memory[position], NO_LIMIT)
                for column in range(num_compute):
                    spent[new, column] = spent[depth, column] + min(compute[position, column], ceiling)
                possible = False
                for k in range(num_classes):
                    bare = spent[new, ways.class_compute[k]]
                    if overlap == ADDED:
                        bare += settled[depth, class_least[k]]
                    possible = possible or (most[k] > -np.inf and bare <= limit and held[new] <= ways.limits[k])
                if not possible:
                    continue
                if (position < num_tight and position - key_low[depth] > WINDOW) or new == MAX_DEPTH:
                    return TOO_WIDE
                key_low[new], key_first[new], key_second[new] = with_item(
                    key_low[depth], key_first[depth], key_second[depth], position, num_tight
                )
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
                            if not followed[tensor]:
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
                    other = ready[depth, index]
                    if other != position:
                        ready[new, count] = other
                        count += 1
                        if other < position:
                            first_new = count
                for index in range(successor_first[position], successor_first[position + 1]):
                    after = successors[index]
                    missing[after] -= 1
                    is_ready = missing[after] == 0
                    if end <= after < num_tight:
                        is_ready = True
                        for other in range(predecessor_first[after], predecessor_first[after + 1]):
                            before = predecessors[other]
                            if before >= start and not included[before]:
                                is_ready = False
                                break
                    if is_ready:
                        if count == MAX_READY:
                            return TOO_WIDE
                        place = count
                        while place > 0 and ready[new, place - 1] > after:
                            ready[new, place] = ready[new, place - 1]
                            place -= 1
                        ready[new, place] = after
                        count += 1
                num_ready[new] = count
                rest = total - gained[new] - slack
                hopeful = lands = False
                for k in range(num_classes):
                    bare = spent[new, ways.class_compute[k]]
                    if overlap == ADDED:
                        bare += settled[new, class_least[k]]
                    if bare <= limit and held[new] <= ways.limits[k]:
                        hopeful = hopeful or most[k] > -np.inf
                        lands = lands or most[k] >= rest
                next_ready[new] = first_new if hopeful else count
                for index in range(len(late)):
                    if not lands:
                        break
                    first, second = late[index]
                    lands = not contains(key_low[new], key_first[new], key_second[new], second, num_tight) or contains(
                        key_low[new], key_first[new], key_second[new], first, num_tight
                    )
                ahead = 0
                if lands and knows:
                    slot = find(
                        prospects.slots,
                        prospects.low,
                        prospects.mask,
                        key_low[new],
                        key_first[new],
                        key_second[new],
                    )
                    ahead = prospects.slots[slot]
                    lands = ahead >= 0
                if lands:
                    landed = ahead
                    if not is_backward:
                        slot = find(slots, low, mask, key_low[new], key_first[new], key_second[new])
                        landed = slots[slot]
                    if landed < 0:
                        landed = cursor[0]
                        if landed == len(low):
                            return TABLE_FULL
                        cursor[0] += 1
                        slots[slot] = landed
                        low[landed] = key_low[new]
                        mask[landed, 0] = key_first[new]
                        mask[landed, 1] = key_second[new]
                        done[landed] = gained[new]
                        number = cursor[1] + new
                        following[landed] = queue[number]
                        queue[number] = landed
                        for state in range(num_states):
                            if ways.holds[state] >= rest and (not knows or holds_state(prospects.wanted[ahead], state)):
                                put(wanted[landed], state)
                    fits = describe(stage, costs, added[1 : new + 1], inside, waiting)
                    if not fits:
                        return TOO_WIDE
                    code = step(
                        limit,
                        overlap,
                        own,
                        landed,
                        stage,
                        spent[new],
                        incoming[new],
                        outgoing[new],
                        held[new],
                        times,
                        size_of,
                        ways,
                        labels,
                        head,
                        prospects.wanted[landed] if is_backward else wanted[landed],
                        prospects.wanted[origin] if is_backward else untold,
                        scratch,
                    )
                    if code != STEPPED:
                        return TOO_WIDE if code == TOO_MANY_OPEN else LABELS_FULL
                    work += num_entries
                depth = new
            for offset in range(WINDOW):
                if start + 1 + offset < num_tight:
                    included[start + 1 + offset] = False
            cursor[2] = following[origin]
        cursor[1] += direction
        cursor[2] = -1
    return DONE
