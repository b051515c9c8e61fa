"""A request that keeps a solver busy until its time limit."""

from __future__ import annotations

import random


def make_slow(time_limit_s=300, num_operators=120, num_devices=7):
    draw = random.Random(7)
    operators = [
        {"id": f"o{i}", "compute_time_ms": {"gpu": draw.uniform(1, 10)}, "memory_bytes": draw.randrange(1000)}
        for i in range(num_operators)
    ]
    edges = [
        {"source": f"o{draw.randrange(i)}", "target": f"o{i}", "transfer_time_ms": draw.uniform(0.1, 3)}
        for i in range(1, num_operators)
        for _ in range(2)
    ]
    unique = {(edge["source"], edge["target"]): edge for edge in edges}
    one_size = {}
    for edge in unique.values():  # all edges of one tensor carry the same
        edge["transfer_time_ms"] = one_size.setdefault(edge["source"], edge["transfer_time_ms"])
    return {
        "schema_version": 1,
        "graph": {"name": "slow", "operators": operators, "edges": list(unique.values())},
        "cluster": {"devices": [{"id": "gpu", "kind": "gpu", "count": num_devices}]},
        "objective": {"kind": "throughput", "partition": "free"},
        "solver": {"time_limit_s": time_limit_s, "workers": 1},
    }
