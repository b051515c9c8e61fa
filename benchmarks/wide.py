"""Wide graphs of any size for measuring, drawn from a seed: parallel branches, blocks of branches, grids, trees."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from solver.instance import Cluster, DeviceSpec, Edge, Graph, Instance, Operator

COMPUTE_MS = (0.05, 0.15)
TRANSFER_MS = (0.05, 0.35)


def branches(num_branches: int, length: int, num_devices: int, *, seed: int = 0) -> Instance:
    """One operator that feeds ``num_branches`` chains of ``length`` operators."""
    inputs: list[Sequence[int]] = [()]
    for _ in range(num_branches):
        inputs.append((0,))
        inputs.extend((len(inputs) - 1,) for _ in range(length - 1))
    return _instance("branches", inputs, num_devices, seed)


def blocks(num_blocks: int, num_branches: int, length: int, num_devices: int, *, seed: int = 0) -> Instance:
    """Blocks one after another, each of ``num_branches`` chains of ``length`` operators that are joined again."""
    inputs: list[Sequence[int]] = [()]
    for _ in range(num_blocks):
        stem, ends = len(inputs) - 1, []
        for _ in range(num_branches):
            inputs.append((stem,))
            inputs.extend((len(inputs) - 1,) for _ in range(length - 1))
            ends.append(len(inputs) - 1)
        inputs.append(ends)
    return _instance("blocks", inputs, num_devices, seed)


def grid(num_rows: int, num_columns: int, num_devices: int, *, seed: int = 0) -> Instance:
    """Rows by columns, as of an unrolled recurrent network: each operator feeds the next in its row and its column."""
    inputs = [
        [index - num_columns] * (index >= num_columns) + [index - 1] * (index % num_columns > 0)
        for index in range(num_rows * num_columns)
    ]
    return _instance("grid", inputs, num_devices, seed)


def tree(num_operators: int, num_devices: int, *, seed: int = 0) -> Instance:
    """Each operator is fed by one at random among all before it."""
    source = random.Random(f"tree-{seed}")  # noqa: S311  no secrets here
    inputs = [(source.randrange(index),) if index else () for index in range(num_operators)]
    return _instance("tree", inputs, num_devices, seed)


SUITE: dict[str, Callable[[], Instance]] = {
    "branches-8101x64": lambda: branches(81, 100, 64),
    "branches-9001x64": lambda: branches(300, 30, 64),
    "blocks-8321x64": lambda: blocks(20, 32, 13, 64),
    "grid-9000x64": lambda: grid(90, 100, 64),
    "tree-12000x64": lambda: tree(12_000, 64),
}


def _instance(name: str, inputs: Sequence[Sequence[int]], num_devices: int, seed: int) -> Instance:
    source = random.Random(seed)  # noqa: S311  no secrets here
    operators = tuple(Operator(f"{i}", {"accelerator": source.uniform(*COMPUTE_MS)}) for i in range(len(inputs)))
    times = [source.uniform(*TRANSFER_MS) for _ in inputs]
    edges = tuple(
        Edge(f"{i}", f"{target}", transfer_time_ms=times[i]) for target, sources in enumerate(inputs) for i in sources
    )
    cluster = Cluster((DeviceSpec("accelerator", "accelerator", count=num_devices),))
    return Instance(Graph(operators, edges, f"{name}-{len(inputs)}"), cluster)
