"""Short notation for instances made by hand."""

from __future__ import annotations

from solver.instance import (
    Cluster,
    Constraints,
    DeviceSpec,
    Edge,
    Execution,
    Graph,
    Instance,
    Interconnect,
    InterconnectModel,
    Objective,
    ObjectiveKind,
    Operator,
    Overlap,
    Partition,
    PipelineSchedule,
)


def gpus(count=2, memory_bytes=None, **fields):
    """Alike devices ``gpu:0`` …"""
    return DeviceSpec("gpu", "gpu", memory_bytes, count, **fields)


def host(count=None, **fields):
    """The host ``cpu``."""
    return DeviceSpec("cpu", "cpu", None, count, is_host=True, **fields)


def op(name, time=1.0, memory_bytes=0, **fields):
    """An operator; a plain number is its time on kind ``gpu``."""
    times = time if isinstance(time, dict) else {"gpu": time}
    return Operator(name, times, memory_bytes, **fields)


def ops(**times):
    """One operator per keyword."""
    return tuple(op(name, time) for name, time in times.items())


def edges(**costs):
    """``ab=0.5``: an edge from ``a`` to ``b`` whose transfer takes 0.5 ms."""
    return tuple(Edge(name[0], name[1], transfer_time_ms=cost) for name, cost in costs.items())


def make(operators, connections=(), devices=None, *, wires=None, constraints=None, **objective):
    """An instance; without ``devices`` it has two alike ones. Enums may be given by their text."""
    enums = {"kind": ObjectiveKind, "partition": Partition, "schedule": PipelineSchedule, "execution": Execution}
    objective = {key: enums.get(key, type(value))(value) for key, value in objective.items()}
    enums = {"model": InterconnectModel, "overlap": Overlap}
    wires = {key: enums[key](value) if key in enums else value for key, value in (wires or {}).items()}
    devices = (gpus(),) if devices is None else devices
    return Instance(
        Graph(tuple(operators), tuple(connections)),
        Cluster(tuple(devices), Interconnect(**wires)),
        Objective(**objective),
        Constraints(**(constraints or {})),
    )
