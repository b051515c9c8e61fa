"""What the service can do, before anybody asks it to."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from anyio import to_thread
from fastapi import APIRouter
from starlette.responses import Response

from app.capabilities import describe_solver
from app.identity import IdentityOf
from app.openapi import EXAMPLES, document_problems, read_example
from app.problems import ProblemError, describe
from app.request_options import MAX_PRIORITY, MAX_TAGS
from app.responses import AsciiJSONResponse
from app.routes.dependencies import RuntimeOf, SettingsOf
from app.schemas import Limits, Solvers
from solver.validation import MAX_DEVICES

router = APIRouter(tags=["guide"])


@router.get("/limits", summary="What a request may ask for", responses=document_problems(503))
async def read_limits(identity: IdentityOf, settings: SettingsOf, runtime: RuntimeOf) -> Limits:
    """Larger wishes for time, workers and memory are cut to these; larger bodies and longer tags are refused."""
    most_slots = await to_thread.run_sync(runtime.count_most_slots)
    return Limits(
        **asdict(identity.allowance),
        max_body_bytes=settings.max_body_bytes,
        max_issues=settings.max_issues,
        max_devices=MAX_DEVICES,
        max_time_limit_s=settings.max_time_limit_s,
        max_workers=settings.cap_workers(most_slots, most_slots),
        default_workers=settings.cap_workers(None, most_slots),
        memory_limit_bytes=settings.memory_limit_bytes,
        default_wait_s=settings.default_wait_s,
        max_wait_s=settings.max_wait_s,
        max_queued=settings.max_queued,
        max_priority=MAX_PRIORITY,
        max_tags=MAX_TAGS,
        retention_days=settings.retention_days,
        slots=await to_thread.run_sync(runtime.placements.count_slots),
    )


@router.get("/solvers", summary="What can be solved here")
async def read_solvers(identity: IdentityOf) -> Solvers:
    """Versions, and the questions there is a method for; any other question is refused with a code."""
    del identity
    return await to_thread.run_sync(describe_solver)


@router.get(
    "/examples/{name}",
    summary="A request to try",
    response_model=None,
    responses={200: {"content": {"application/json": {}}}, **document_problems(404)},
)
async def read_example_document(name: str, identity: IdentityOf) -> Response:
    """A document that POST /placements takes as it is."""
    del identity
    if name not in EXAMPLES:
        detail = f"There is no example {name!r}. There are: {', '.join(EXAMPLES)}."
        raise ProblemError(describe("example-not-found", detail, HTTPStatus.NOT_FOUND))
    example: dict[str, Any] = await to_thread.run_sync(read_example, name)
    return AsciiJSONResponse(example)
