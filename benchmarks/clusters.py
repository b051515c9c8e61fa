"""Real clusters: workloads on twelve unlike accelerators in two nodes, a language model on 24 devices in three sites.

``python -m benchmarks.clusters --workloads FOLDER`` measures every workload of the folder that has host transfer times,
and the language model. Every run is a process of its own, and every placement is verified here. ``--only splits``
compares Placewright with the splits of other tools.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.measured import Settings, carry_out
from benchmarks.mixed_splits import SPLITS, try_split
from benchmarks.origin import ROOT
from benchmarks.plan import Run
from benchmarks.records import PLACEWRIGHT, Record
from benchmarks.tables import number, percent, table
from benchmarks.workloads import Workload, find_workloads
from solver.formats import native
from solver.instance import (
    Cluster,
    DeviceSpec,
    Edge,
    Graph,
    Instance,
    Interconnect,
    InterconnectModel,
    Link,
    LinkGroup,
    Operator,
    Overlap,
    Partition,
    Request,
)

NVLINK, PCIE, NETWORK = Link(300e9), Link(25e9), Link(12.5e9)
WIDE_AREA = Link(1.25e9, 1.0)
SLOWNESS = {"big": 1.0, "medium": 1.6, "small": 3.0}
"""Time of an operator against the accelerator of the workload, on average; it varies by an eighth either way."""
SHARES = {"big": 10, "medium": 3, "small": 1}
"""Memory of a device, in parts; as 80, 24 and 8 GB."""
FILLED = 0.7
"""Memory needed, as a part of all there is."""


def two_nodes(instance: Instance) -> Instance:
    """The operators of a host workload on 4 big, 4 medium and 4 small accelerators, half of them in each of two nodes.

    The two big ones of a node are joined by 300 GB/s, all of a node by 25 GB/s, the nodes by 12.5 GB/s. Sizes are such
    that a transfer between the nodes takes the workload's host transfer time.
    """
    source = random.Random(0)  # noqa: S311  no secrets here
    operators = tuple(
        replace(
            operator,
            compute_time_ms={
                kind: operator.compute_time_ms["accelerator"] * factor * source.uniform(0.875, 1.125)
                for kind, factor in SLOWNESS.items()
            }
            if "accelerator" in operator.compute_time_ms
            else {},
        )
        for operator in instance.graph.operators
    )
    edges = tuple(
        replace(
            edge,
            bytes=round((edge.transfer_time_ms or 0.0) / 1000 * NETWORK.bandwidth_bytes_per_s),
            transfer_time_ms=None,
        )
        for edge in instance.graph.edges
    )
    need = sum(operator.memory_bytes for operator in operators)
    part = need / FILLED / (4 * sum(SHARES.values()))
    devices = tuple(DeviceSpec(kind, kind, int(part * share), 4) for kind, share in SHARES.items())
    groups = []
    for first in (0, 2):
        groups.append(LinkGroup((f"big:{first}", f"big:{first + 1}"), NVLINK))
        groups.append(LinkGroup(tuple(f"{kind}:{first + i}" for kind in SHARES for i in (0, 1)), PCIE))
    wires = Interconnect(model=InterconnectModel.LINKS, overlap=Overlap.FULL, default=NETWORK, groups=tuple(groups))
    return Instance(Graph(operators, edges, instance.graph.name), Cluster(devices, wires))


def language_model(num_layers: int = 80) -> Instance:
    """About ten operators a layer, a heavy embedding and head, on 24 devices of five kinds in three sites.

    The devices of a site are joined by 25 GB/s, the sites by 1.25 GB/s and a millisecond.
    """
    source = random.Random(1)  # noqa: S311  no secrets here
    slowness = {"h": 1.0, "a": 1.7, "l": 2.6, "v": 3.4, "t": 5.0}
    operators: list[Operator] = []
    edges: list[Edge] = []
    sizes: dict[str, int] = {}

    def add(name: str, time_ms: float, inputs: list[str], num_bytes: int, memory: float) -> str:
        times = {kind: time_ms * factor * source.uniform(0.9, 1.1) for kind, factor in slowness.items()}
        operators.append(Operator(name, times, int(memory)))
        edges.extend(Edge(i, name, sizes[i]) for i in inputs)
        sizes[name] = num_bytes
        return name

    hidden = 8_000_000
    stream = add("embedding", 2.0, [], hidden, 4.2e9)
    for layer in range(num_layers):
        p = f"layer{layer}."
        norm = add(p + "norm1", 0.05, [stream], hidden, 1e6)
        q, k, v = (add(p + part, 0.35, [norm], hidden, 0.15e9) for part in ("query", "key", "value"))
        score = add(p + "attention", 0.6, [q, k, v], hidden, 0.4e9)
        out = add(p + "output", 0.35, [score], hidden, 0.15e9)
        stream = add(p + "add1", 0.03, [stream, out], hidden, 1e6)
        norm = add(p + "norm2", 0.05, [stream], hidden, 1e6)
        up = add(p + "up", 1.1, [norm], 4 * hidden, 0.45e9)
        down = add(p + "down", 1.1, [up], hidden, 0.45e9)
        stream = add(p + "add2", 0.03, [stream, down], hidden, 1e6)
    add("head", 8.0, [stream], 1000, 4.2e9)
    gigabytes = {"h": 16, "a": 9, "l": 7, "v": 6, "t": 5}
    need = sum(operator.memory_bytes for operator in operators)
    counts = {"h": 4, "a": 6, "l": 4, "v": 6, "t": 4}
    unit = need / FILLED / sum(gigabytes[kind] * counts[kind] for kind in counts)
    devices = tuple(DeviceSpec(kind, kind, int(unit * gigabytes[kind]), counts[kind]) for kind in counts)
    sites = (
        [f"h:{i}" for i in range(4)] + [f"a:{i}" for i in range(2)] + ["t:0", "t:1"],
        [f"a:{i}" for i in range(2, 6)] + [f"l:{i}" for i in range(2)] + ["v:0", "v:1"],
        [f"l:{i}" for i in range(2, 4)] + [f"v:{i}" for i in range(2, 6)] + ["t:2", "t:3"],
    )
    wires = Interconnect(
        model=InterconnectModel.LINKS,
        overlap=Overlap.FULL,
        default=WIDE_AREA,
        groups=tuple(LinkGroup(tuple(site), PCIE) for site in sites),
    )
    return Instance(Graph(tuple(operators), tuple(edges), f"language-model-{num_layers}"), Cluster(devices, wires))


def cluster_workloads(folder: Path, scratch: Path, match: Sequence[str] = ()) -> list[Workload]:
    """Everything this benchmark measures, or what has one of ``match`` in its name, written to ``scratch``."""
    named = [
        (f"{workload.name} in two nodes", two_nodes(workload.instance))
        for workload in find_workloads(folder)[0]
        if all("accelerator" in o.compute_time_ms for o in workload.instance.graph.operators)
    ]
    named.append(("language model in three sites", language_model()))
    found = []
    for index, (name, instance) in enumerate(named):
        if not match or any(part in name for part in match):
            path = scratch / f"cluster-{index}.json"
            path.write_text(json.dumps(native.request_document(Request(instance))), encoding="utf-8")
            found.append(Workload(name, path, instance))
    return found


def main() -> int:
    """Run what the arguments ask for and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clusters", description=__doc__, allow_abbrev=False)
    folder = Path(os.environ.get("PLACEWRIGHT_WORKLOADS") or ROOT / "examples")
    parser.add_argument("--workloads", type=Path, default=folder, metavar="FOLDER")
    parser.add_argument(
        "--match", action="append", default=[], metavar="TEXT", help="only workloads with TEXT in their name"
    )
    parser.add_argument("--only", choices=TABLES, default="search", help="what the table is about")
    parser.add_argument("--time-limit", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--workers", type=int, metavar="N")
    parser.add_argument("--partition", type=Partition, choices=list(Partition), default=Partition.ACYCLIC)
    arguments = parser.parse_args()
    header, row_of = TABLES[arguments.only]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(arguments.workers, 0, Path(scratch))
        for workload in cluster_workloads(arguments.workloads, settings.scratch, arguments.match):
            run = Run("clusters", workload, arguments.partition, PLACEWRIGHT, arguments.time_limit)
            rows.append(row_of(workload, carry_out(run, settings)))
            print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    print(table(header, rows))
    return 0


def _search_row(_: Workload, record: Record) -> tuple[object, ...]:
    return (
        *(record.workload, record.num_operators, number(record.objective_value), number(record.best_bound)),
        *(percent(record.gap), number(record.first_s, 2), number(record.wall_s, 1)),
        *(record.found_by or "–", record.proved_by or "–", record.failure or ""),
    )


def _splits_row(workload: Workload, record: Record) -> tuple[object, ...]:
    ours = record.failure or f"{number(record.objective_value)}, gap {percent(record.gap)}"
    trials = (try_split(workload.instance, name) for name in SPLITS)
    return workload.name, ours, *(trial.cell(record.objective_value) for trial in trials)


TABLES = {
    "search": (
        ("workload", "operators", "period ms", "bound ms", "gap", "first s", "whole s", "found by", "proved by", ""),
        _search_row,
    ),
    "splits": (("workload", f"{PLACEWRIGHT} ms", *SPLITS), _splits_row),
}


if __name__ == "__main__":
    sys.exit(main())
