"""Make examples/demo.json: a 24-layer transformer decoder at operator granularity on a mixed cluster.

The graph is our own. Times follow the roofline model: an operator takes the longer of its arithmetic (FLOPs ÷ sustained
FLOP rate) and its memory traffic (bytes ÷ memory bandwidth), plus the overhead of one kernel launch. The rates are
round numbers of the order of present hardware, not measurements of a product. There is nothing random in it: the same
script writes the same bytes.

Usage:
    python examples/generate_demo.py [OUT]        default: demo.json beside this script
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LAYERS = 24
HIDDEN = 4096
HEADS = 32
MLP = 4 * HIDDEN
VOCABULARY = 100_000
SEQUENCE = 1024
MICRO_BATCH = 4
TOKENS = MICRO_BATCH * SEQUENCE
CACHED_TOKENS = 32_768  # whose keys and values each layer keeps for the decoding that follows
BYTES = 2  # of a number in half precision

ACTIVATION = TOKENS * HIDDEN * BYTES  # the tensor that runs from layer to layer
SCORES = MICRO_BATCH * HEADS * SEQUENCE * SEQUENCE * BYTES

GIB = 2**30


@dataclass(frozen=True)
class Kind:
    """What one kind of device sustains."""

    flops_per_s: float
    bytes_per_s: float
    launch_ms: float

    def time_ms(self, flops: float, traffic: float) -> float:
        """Roofline time of one operator."""
        return round(1000 * max(flops / self.flops_per_s, traffic / self.bytes_per_s) + self.launch_ms, 4)


KINDS = {
    "gpu-fast": Kind(160e12, 1500e9, 0.005),
    "gpu-small": Kind(60e12, 600e9, 0.005),
    "cpu": Kind(1.5e12, 150e9, 0.001),
}


@dataclass
class Decoder:
    """The graph while it grows."""

    operators: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)
    output_bytes: dict[str, int] = field(default_factory=dict)

    def add(
        self, name: str, inputs: list[str], output: int, *, flops: float = 0.0, weights: int = 0, kept: int = 0
    ) -> str:
        """Add an operator; its weights, its ``kept`` bytes and its output occupy the device that holds it."""
        traffic = sum(self.output_bytes[source] for source in inputs) + output + weights
        self.operators.append(
            {
                "id": name,
                "compute_time_ms": {kind: speed.time_ms(flops, traffic) for kind, speed in KINDS.items()},
                "memory_bytes": weights + kept + output,
            }
        )
        self.edges += [{"source": s, "target": name, "bytes": self.output_bytes[s]} for s in inputs]
        self.output_bytes[name] = output
        return name

    def multiply(self, name: str, source: str, width_in: int, width_out: int, *, kept: int = 0) -> str:
        """Add a product of the tokens with a weight matrix."""
        return self.add(
            name,
            [source],
            TOKENS * width_out * BYTES,
            flops=2.0 * TOKENS * width_in * width_out,
            weights=width_in * width_out * BYTES,
            kept=kept,
        )

    def layer(self, index: int, stream: str) -> str:
        """Add one pre-norm decoder layer on the residual ``stream``; return the new end of the stream."""
        p = f"layer{index:02d}."
        cache = CACHED_TOKENS * HIDDEN * BYTES
        attention_flops = 2.0 * MICRO_BATCH * SEQUENCE * SEQUENCE * HIDDEN
        norm = self.add(p + "attention.norm", [stream], ACTIVATION)
        query = self.multiply(p + "attention.query", norm, HIDDEN, HIDDEN)
        key = self.multiply(p + "attention.key", norm, HIDDEN, HIDDEN, kept=cache)
        value = self.multiply(p + "attention.value", norm, HIDDEN, HIDDEN, kept=cache)
        scores = self.add(p + "attention.scores", [query, key], SCORES, flops=attention_flops)
        weights = self.add(p + "attention.softmax", [scores], SCORES)
        context = self.add(p + "attention.context", [weights, value], ACTIVATION, flops=attention_flops)
        output = self.multiply(p + "attention.output", context, HIDDEN, HIDDEN)
        stream = self.add(p + "attention.residual", [stream, output], ACTIVATION)
        norm = self.add(p + "mlp.norm", [stream], ACTIVATION)
        wide = self.multiply(p + "mlp.up", norm, HIDDEN, MLP)
        active = self.add(p + "mlp.gelu", [wide], TOKENS * MLP * BYTES)
        narrow = self.multiply(p + "mlp.down", active, MLP, HIDDEN)
        return self.add(p + "mlp.residual", [stream, narrow], ACTIVATION)


def build_document() -> dict[str, Any]:
    """The whole request."""
    decoder = Decoder()
    tokens = decoder.add("tokens", [], TOKENS * 4)
    # A look-up touches one row per token, not the whole table.
    table = VOCABULARY * HIDDEN * BYTES
    embedded = decoder.add("embedding.tokens", [tokens], ACTIVATION, kept=table)
    positions = decoder.add("embedding.positions", [tokens], ACTIVATION, kept=SEQUENCE * HIDDEN * BYTES)
    stream = decoder.add("embedding.sum", [embedded, positions], ACTIVATION)
    for index in range(LAYERS):
        stream = decoder.layer(index, stream)
    norm = decoder.add("head.norm", [stream], ACTIVATION)
    logits = decoder.multiply("head.logits", norm, HIDDEN, VOCABULARY)
    decoder.add("head.top_k", [logits], TOKENS * 64 * 4)
    return {
        "schema_version": 1,
        "graph": {
            "name": f"decoder-{LAYERS}-layers",
            "operators": decoder.operators,
            "edges": decoder.edges,
        },
        "cluster": {
            "devices": [
                {"id": "fast", "kind": "gpu-fast", "count": 2, "memory_bytes": 16 * GIB},
                {"id": "small", "kind": "gpu-small", "count": 4, "memory_bytes": 8 * GIB},
                {"id": "host", "kind": "cpu", "is_host": True},
            ],
            "interconnect": {"model": "host", "host_bandwidth_bytes_per_s": 24e9, "host_latency_ms": 0.02},
        },
        "objective": {"kind": "throughput", "partition": "acyclic"},
        "solver": {"time_limit_s": 30},
    }


def write_lines(document: dict[str, Any]) -> str:
    """JSON with one operator, edge or device a line, so that the file can be read and compared."""
    parts = []
    for name, section in document.items():
        if isinstance(section, dict):
            fields = []
            for key, value in section.items():
                if isinstance(value, list):
                    rows = ",\n".join("      " + json.dumps(row) for row in value)
                    fields.append(f'    "{key}": [\n{rows}\n    ]')
                else:
                    fields.append(f'    "{key}": {json.dumps(value)}')
            parts.append(f'  "{name}": {{\n' + ",\n".join(fields) + "\n  }")
        else:
            parts.append(f'  "{name}": {json.dumps(section)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Write the document."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("demo.json")
    path.write_text(write_lines(build_document()), encoding="utf-8")


if __name__ == "__main__":
    main()
