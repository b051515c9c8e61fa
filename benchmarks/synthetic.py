"""Transformer graphs of any size for measuring, drawn from a seed; no one's data."""

from __future__ import annotations

import random

from solver.instance import Cluster, DeviceSpec, Edge, Graph, Instance, Operator

NUM_HEADS = 4
NUM_BRANCHES = 8


def transformer(num_layers: int, num_devices: int, *, seed: int = 0, alike: bool = False) -> Instance:
    """A decoder of 34 operators a layer: residuals, four attention heads, an eight-wide MLP fan.

    ``alike`` gives all heads, and all branches of the fan, the same times, as real models have them; otherwise each
    operator's time varies by itself, which is harder.
    """
    source = random.Random(seed)  # noqa: S311  no secrets here
    operators: list[Operator] = []
    edges: list[Edge] = []

    def add(name: str, time_ms: float, inputs: list[str], transfer_ms: float, memory: int = 0) -> str:
        noise = 1.0 if alike else source.uniform(0.7, 1.3)
        operators.append(Operator(name, {"accelerator": time_ms * noise, "cpu": 12 * time_ms * noise}, memory))
        edges.extend(Edge(i, name, transfer_time_ms=sizes[i]) for i in inputs)
        sizes[name] = transfer_ms
        return name

    sizes: dict[str, float] = {}
    stream = add("embedding", 0.3, [], 0.4, 400_000_000)
    for layer in range(num_layers):
        p = f"layer{layer}."
        norm = add(p + "norm1", 0.02, [stream], 0.4)
        q, k, v = (add(p + part, 0.2, [norm], 0.4, 30_000_000) for part in ("query", "key", "value"))
        heads = []
        for head in range(NUM_HEADS):
            score = add(f"{p}head{head}.score", 0.05, [q, k], 0.15)
            weight = add(f"{p}head{head}.softmax", 0.02, [score], 0.15)
            heads.append(add(f"{p}head{head}.context", 0.05, [weight, v], 0.1))
        merged = add(p + "concat", 0.01, heads, 0.4)
        projected = add(p + "projection", 0.2, [merged], 0.4, 30_000_000)
        dropped = add(p + "dropout1", 0.01, [projected], 0.4)
        stream = add(p + "add1", 0.01, [stream, dropped], 0.4)
        norm = add(p + "norm2", 0.02, [stream], 0.4)
        branches = [add(f"{p}mlp{b}", 0.1, [norm], 0.2, 15_000_000) for b in range(NUM_BRANCHES)]
        joined = add(p + "gather", 0.02, branches, 0.8)
        down = add(p + "down", 0.8, [joined], 0.4, 120_000_000)
        biased = add(p + "bias", 0.01, [down], 0.4)
        dropped = add(p + "dropout2", 0.01, [biased], 0.4)
        stream = add(p + "add2", 0.01, [stream, dropped], 0.4)
    add("head", 1.2, [stream], 0.1, 400_000_000)
    devices = (DeviceSpec("accelerator", "accelerator", 32_000_000_000, num_devices),)
    return Instance(Graph(tuple(operators), tuple(edges), f"transformer-{num_layers}"), Cluster(devices))
