"""Make the examples of docs/clusters.md: two nodes, old and new GPUs, an edge device and a server.

Graphs, clusters and rates are our own: round numbers of the order of present hardware, not measurements of a product.
There is nothing random in them: the same script writes the same bytes.

Usage:
    python examples/generate_clusters.py [FOLDER]        default: the folder of this script
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

GIB = 2**30
BYTES = 2  # of a number in half precision

Json = dict[str, Any]


class Model:
    """A graph while it grows; kinds of devices are told by the operations a millisecond that they sustain."""

    def __init__(self, name: str, rates: dict[str, float]) -> None:
        self._rates = rates
        self._sizes: dict[str, int] = {}
        self.graph: Json = {"name": name, "operators": [], "edges": []}

    def add(self, name: str, operations: float, memory: int, output: int, inputs: list[str], **more: object) -> str:
        """Add an operator that makes ``output`` bytes of ``inputs``."""
        times = {kind: round(operations / rate + 0.01, 3) for kind, rate in self._rates.items()}
        self.graph["operators"].append({"id": name, "compute_time_ms": times, "memory_bytes": memory, **more})
        self.graph["edges"] += [{"source": i, "target": name, "bytes": self._sizes[i]} for i in inputs]
        self._sizes[name] = output
        return name


def decoder(name: str, rates: dict[str, float], *, layers: int, hidden: int, tokens: int, cached: int) -> Json:
    """A transformer decoder; each layer keeps keys and values of ``cached`` tokens."""
    model = Model(name, rates)
    square, stream = hidden * hidden, tokens * hidden * BYTES
    vocabulary = 64_000 * hidden
    x = model.add("embedding", 0, vocabulary * BYTES, stream, [])
    for layer in range(layers):
        at = f"layer{layer}/"
        qkv = model.add(at + "qkv", 6 * square * tokens, 3 * square * BYTES, 3 * stream, [x])
        scores = 4 * tokens * tokens * hidden
        heads = model.add(at + "attention", scores, 2 * cached * hidden * BYTES, stream, [qkv])
        x = model.add(at + "output", 2 * square * tokens, square * BYTES, stream, [heads, x])
        up = model.add(at + "up", 8 * square * tokens, 4 * square * BYTES, 4 * stream, [x])
        x = model.add(at + "down", 8 * square * tokens, 4 * square * BYTES, stream, [up, x])
    model.add("head", 2 * vocabulary * tokens, vocabulary * BYTES, 0, [x])
    return model.graph


def detector() -> Json:
    """An object detector on frames of 640 × 640: a backbone that halves them five times, a neck, three heads."""
    model = Model("detector", {"edge": 0.25e9, "server": 40e9})
    x = model.add("camera", 0, 0, 640 * 640 * 3, [], allowed_devices=["camera"])
    scales = []
    for depth in range(5):
        side, channels = 320 >> depth, 32 << depth
        for block in range(1 if depth == 0 else 3):
            operations, weights = (0.6e9, 20_000) if depth == 0 else (1.3e9, 9 * channels**2)
            name = f"backbone{depth}/block{block}"
            x = model.add(name, operations, weights * BYTES, side * side * channels, [x])
        scales.append(x)
    fine, middle, coarse = scales[2:]
    tops = [coarse]
    for name, side, channels, skip in (("middle", 40, 256, middle), ("fine", 80, 128, fine)):
        inputs = [tops[-1], skip]
        tops.append(model.add(f"neck/{name}", 1.6e9, 4_000_000, side * side * channels // 2, inputs))
    boxes = [model.add(f"head{i}", 0.9e9, 3_000_000, 60_000, [top]) for i, top in enumerate(tops)]
    model.add("select", 0.05e9, 1_000_000, 2_000, boxes)
    return model.graph


def request(graph: Json, devices: list[Json], **wires: object) -> Json:
    """The whole document; a device computes and transfers at the same time."""
    links = {"model": "links", "overlap": "full", **wires}
    return {"schema_version": 1, "graph": graph, "cluster": {"devices": devices, "interconnect": links}}


def link(gigabytes_per_s: float, latency_ms: float) -> Json:
    """The two numbers of a link."""
    return {"bandwidth_bytes_per_s": gigabytes_per_s * 1e9, "latency_ms": latency_ms}


def two_nodes() -> Json:
    """Eight equal GPUs, four in each of two nodes."""
    graph = decoder("decoder-20-layers", {"gpu": 250e9}, layers=20, hidden=5120, tokens=2048, cached=262_144)
    nodes = [[f"gpu:{i}" for i in range(first, first + 4)] for first in (0, 4)]
    return request(
        graph,
        [{"id": "gpu", "kind": "gpu", "count": 8, "memory_bytes": 40 * GIB}],
        default=link(12.5, 0.02),
        groups=[{"devices": node, **link(300, 0.005)} for node in nodes],
    )


def old_and_new() -> Json:
    """Two new GPUs, and four old ones: five times slower, with two thirds of the memory."""
    rates = {"new": 200e9, "old": 40e9}
    return request(
        decoder("decoder-24-layers", rates, layers=24, hidden=6656, tokens=1024, cached=196_608),
        [
            {"id": "new", "kind": "new", "count": 2, "memory_bytes": 48 * GIB},
            {"id": "old", "kind": "old", "count": 4, "memory_bytes": 32 * GIB},
        ],
        default=link(12.5, 0.02),
    )


def edge_and_server() -> Json:
    """A camera with a small computer, and a server behind 200 Mbit/s."""
    return request(
        detector(),
        [
            {"id": "camera", "kind": "edge", "memory_bytes": GIB},
            {"id": "server", "kind": "server", "memory_bytes": 16 * GIB},
        ],
        default=link(0.025, 5),
    )


EXAMPLES = {"two-nodes": two_nodes, "old-and-new": old_and_new, "edge-and-server": edge_and_server}


def main() -> None:
    """Write every example, one operator or edge a line."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, make in EXAMPLES.items():
        document = make()
        rows = {
            part: ",\n  ".join(json.dumps(row) for row in document["graph"][part]) for part in ("operators", "edges")
        }
        graph = f'{{"name": {json.dumps(document["graph"]["name"])}, "operators": [\n  {rows["operators"]}],'
        graph += f'\n "edges": [\n  {rows["edges"]}]}}'
        cluster = json.dumps(document["cluster"], indent=1)
        text = f'{{"schema_version": 1,\n"graph": {graph},\n"cluster": {cluster}}}\n'
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
