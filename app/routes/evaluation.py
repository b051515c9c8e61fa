"""Looking at documents without solving anything."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.admission import evaluate, list_issues
from app.identity import IdentityOf
from app.openapi import EVALUATION_BODY, REQUEST_BODY, document_problems
from app.problems import list_issue_records
from app.responses import AsciiJSONResponse
from app.routes.dependencies import DoorOf, SettingsOf
from app.schemas import Evaluation, Validation
from solver.instance import Instance

router = APIRouter(tags=["documents"])


@router.post(
    "/placements/validate",
    summary="Check a request without solving it",
    response_model=None,
    responses={200: {"model": Validation}, **document_problems(400, 413, 415, 422, 503)},
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def validate_document(request: Request, identity: IdentityOf, settings: SettingsOf, door: DoorOf) -> Response:
    """Every fault of the document, and how large the problem is. A faulty document is a 200 with `valid: false`."""
    del identity  # anybody may ask

    def check(document: bytes) -> dict[str, Any]:
        instance, issues, is_supported = list_issues(document)
        return {
            "valid": not issues,
            "issues": list_issue_records(issues[: settings.max_issues]),
            "num_issues": len(issues),
            "supported": is_supported,
            "size": None if instance is None else _measure(instance),
        }

    return AsciiJSONResponse(await door.read(request, check))


@router.post(
    "/placements/evaluate",
    summary="What a placement is worth",
    response_model=None,
    responses={200: {"model": Evaluation}, **document_problems(400, 413, 415, 422, 503)},
    openapi_extra={"requestBody": EVALUATION_BODY},
)
async def evaluate_placement(request: Request, identity: IdentityOf, settings: SettingsOf, door: DoorOf) -> Response:
    """The objective value and the load of every device, recomputed, and every rule that the placement breaks.

    With `explain` also why: what binds it, the dearest tensors, what moving operators would do, what would help.
    """
    del identity

    def run(document: bytes) -> Response:
        return AsciiJSONResponse(evaluate(document, settings.max_issues))

    return await door.read(request, run)


def _measure(instance: Instance) -> dict[str, int]:
    num_operators, num_devices = len(instance.graph.operators), len(instance.cluster.expand())
    return {
        "num_operators": num_operators,
        "num_edges": len(instance.graph.edges),
        "num_devices": num_devices,
        "num_assignments": num_operators * num_devices,
    }
