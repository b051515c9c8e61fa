"""A sound native document, and changes to it by JSON pointer."""

from __future__ import annotations

import copy

REMOVED = object()

SOUND = {
    "schema_version": 1,
    "graph": {
        "name": "small",
        "operators": [
            {"id": "a", "compute_time_ms": {"gpu": 2.0, "cpu": 20.0}, "memory_bytes": 1000},
            {"id": "b", "compute_time_ms": {"gpu": 3.0}, "colocation_group": "w", "allowed_devices": ["gpu"]},
            {"id": "c", "compute_time_ms": {"gpu": 3.0}, "is_backward": True},
        ],
        "edges": [
            {"source": "a", "target": "b", "bytes": 4096, "transfer_time_ms": 0.5},
            {"source": "a", "target": "c", "bytes": 4096, "transfer_time_ms": 0.5},
            {"source": "b", "target": "c", "tensor": "t", "bytes": 1, "transfer_time_ms": 0},
        ],
    },
    "cluster": {
        "devices": [
            {"id": "gpu", "kind": "gpu", "count": 2, "memory_bytes": 17185374208, "cost_per_hour": 1.5},
            {"id": "cpu", "kind": "cpu", "is_host": True, "host_latency_ms": 0, "host_bandwidth_bytes_per_s": 1e9},
        ],
        "interconnect": {
            "model": "host",
            "overlap": "none",
            "host_bandwidth_bytes_per_s": 1e9,
            "host_latency_ms": 0.0,
            "default": {"bandwidth_bytes_per_s": 1e9, "latency_ms": 0.1},
            "groups": [{"devices": ["gpu", "cpu"], "bandwidth_bytes_per_s": 1e9, "latency_ms": 0.1}],
            "pairs": [{"a": "gpu:0", "b": "gpu:1", "bandwidth_bytes_per_s": 1e9, "latency_ms": 0.1}],
        },
    },
    "objective": {"kind": "throughput", "partition": "acyclic", "schedule": "1f1b"},
    "constraints": {
        "pinned": {"a": "gpu:0"},
        "forbidden": [{"operator": "c", "device": "cpu"}],
        "previous_placement": {"a": "gpu:0"},
    },
    "solver": {"time_limit_s": 30, "relative_gap": 0.0, "workers": None, "seed": 0},
}


def changed(changes):
    """A copy of the sound document with the values at some JSON pointers replaced, added or :data:`REMOVED`."""
    document = copy.deepcopy(SOUND)
    for pointer, value in changes.items():
        parent, key = document, None
        for part in pointer.split("/")[1:]:
            if key is not None:
                parent = parent[key]
            key = int(part) if isinstance(parent, list) else part
        if value is REMOVED:
            del parent[key]
        elif isinstance(parent, list) and key == len(parent):
            parent.append(value)
        else:
            parent[key] = value
    return document
