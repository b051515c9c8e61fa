"""What the solver can do, found out by asking it: nothing here can be out of date."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from itertools import product
from typing import Any

from app.schemas import Solvers, SupportedQuestion
from solver.errors import UnsupportedInstance
from solver.instance import (
    Cluster,
    Constraints,
    DeviceSpec,
    Graph,
    Instance,
    Interconnect,
    InterconnectModel,
    Objective,
    ObjectiveKind,
    Operator,
    Partition,
)
from solver.solve import check_supported, report_versions

_SMALLEST = Instance(Graph((Operator("a", {"gpu": 1.0}),), ()), Cluster((DeviceSpec("gpu", "gpu"),)))


@cache
def describe_solver() -> Solvers:
    """Versions, and what is supported."""
    questions = []
    for kind, partition, model in product(ObjectiveKind, Partition, InterconnectModel):
        cluster = replace(_SMALLEST.cluster, interconnect=Interconnect(model=model))
        question = replace(_SMALLEST, cluster=cluster, objective=Objective(kind=kind, partition=partition))
        if not _is_supported(question):
            continue
        constraints = [
            limit.name
            for limit in fields(Constraints)
            if limit.default is not None or _is_supported(replace(question, constraints=_constrain(limit.name)))
        ]
        questions.append(
            SupportedQuestion(objective=kind, partition=partition, interconnect=model, constraints=constraints)
        )
    return Solvers(versions=report_versions(), questions=questions)


def _constrain(name: str) -> Constraints:
    values: dict[str, Any] = {name: 1}
    return Constraints(**values)


def _is_supported(instance: Instance) -> bool:
    try:
        check_supported(instance)
    except UnsupportedInstance:
        return False
    return True
