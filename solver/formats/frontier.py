"""The document of a frontier."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from solver.formats.native import reason_documents
from solver.result import Frontier


def frontier_document(frontier: Frontier) -> dict[str, Any]:
    """A frontier as JSON values: no infinities, no NaN, enums as text."""
    return {
        "status": frontier.status.value,
        "stop_reason": frontier.stop_reason.value,
        "relative_gap": frontier.relative_gap,
        "points": [
            {
                "cost_per_hour": point.cost_per_hour,
                "cost_bound_per_hour": point.cost_bound_per_hour,
                "period_ms": point.period_ms,
                "period_bound_ms": point.period_bound_ms,
                "relative_gap": point.relative_gap,
                "status": point.status.value,
                "placement": dict(point.placement),
                "stages": [asdict(stage) for stage in point.stages],
            }
            for point in frontier.points
        ],
        "bounds": [asdict(bound) for bound in frontier.bounds],
        "infeasibility": reason_documents(frontier.infeasibility),
        "num_searches": frontier.num_searches,
        "elapsed_s": round(frontier.elapsed_s, 6),
        "solver": {
            "versions": dict(frontier.solver.versions),
            "seed": frontier.solver.seed,
            "workers": frontier.solver.workers,
        },
    }
