"""The workloads to measure: every readable document below a folder, and synthetic transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.synthetic import transformer
from solver import formats
from solver.errors import PlacewrightError
from solver.formats import native
from solver.instance import Constraints, Instance, InterconnectModel, ObjectiveKind, Request


@dataclass(frozen=True, slots=True)
class Workload:
    """A document and what it says; ``name`` is its path below the folder, without the ending."""

    name: str
    path: Path
    instance: Instance

    @property
    def num_operators(self) -> int:
        """Number of operators."""
        return len(self.instance.graph.operators)

    @property
    def num_devices(self) -> int:
        """Number of devices, hosts included."""
        return len(self.instance.cluster.expand())

    @property
    def is_compared(self) -> bool:
        """Whether the alternatives are written for this question: throughput over ``host``, without limits."""
        objective, constraints = self.instance.objective, self.instance.constraints
        limits = replace(constraints, pinned={}, forbidden=(), previous_placement=None)
        is_host = self.instance.cluster.interconnect.model is InterconnectModel.HOST
        return objective.kind is ObjectiveKind.THROUGHPUT and is_host and limits == Constraints()


def find_workloads(folder: Path) -> tuple[list[Workload], dict[str, str]]:
    """The workloads below ``folder``, small ones first, and for every other JSON document why it is none."""
    workloads, not_read = [], {}
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix()
        try:
            instance = formats.read(path.read_bytes()).instance
        except PlacewrightError as error:
            not_read[name] = str(error)
        except OSError as error:
            not_read[name] = error.strerror or type(error).__name__
        else:
            workloads.append(Workload(name.removesuffix(".json"), path, instance))
    return sorted(workloads, key=lambda workload: (workload.num_operators, workload.name)), not_read


def synthetic_workload(num_layers: int, num_devices: int, folder: Path) -> Workload:
    """A transformer of 34 operators a layer, written to ``folder``."""
    instance = transformer(num_layers, num_devices)
    name = f"transformer-{num_layers}x{num_devices}"
    path = folder / f"{name}.json"
    path.write_text(json.dumps(native.request_document(Request(instance))), encoding="utf-8")
    return Workload(name, path, instance)
