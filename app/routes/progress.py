"""How a placement gets on: its status, its incumbents, its events as they come, and its log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from app.identity import IdentityOf
from app.openapi import EVENTS, LOG, document_problems
from app.placement_records import PlacementNotFound
from app.problems import ProblemError, describe
from app.responses import AsciiJSONResponse, describe_status, retry_after
from app.routes.dependencies import ExistingPlacement, PlacementId, RuntimeOf, reject_unknown
from app.schemas import IncumbentList, PlacementStatus, format_time

router = APIRouter(tags=["progress"])
_MOST = 2**31 - 1
_LOG_PIECE_BYTES = 1 << 20

AfterSequence = Annotated[int, Query(ge=0, le=_MOST, description="Only those with a larger sequence number.")]


@router.get(
    "/placements/{placement_id}/status",
    summary="How a placement gets on",
    response_model=None,
    responses={200: {"model": PlacementStatus}, **document_problems(404, 503)},
)
async def read_status(placement: ExistingPlacement) -> Response:
    """Small and cheap: where the job stands, what it is worth so far, and its place in the queue."""
    headers = {} if placement.state.is_terminal else retry_after(placement)
    return AsciiJSONResponse(describe_status(placement), headers=headers)


@router.get(
    "/placements/{placement_id}/incumbents",
    summary="The steps of the search",
    response_model=None,
    responses={200: {"model": IncumbentList}, **document_problems(404, 422, 503)},
)
async def list_incumbents(
    placement_id: PlacementId,
    identity: IdentityOf,
    runtime: RuntimeOf,
    after: AfterSequence = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most incumbents of one answer.")] = 100,
) -> Response:
    """Better values and bounds as they came, in all attempts. Reading takes nothing away."""
    try:
        events = await to_thread.run_sync(
            lambda: runtime.placements.list_events(
                identity.tenant, placement_id, after=after, limit=limit, kind="incumbent"
            )
        )
    except PlacementNotFound as error:
        raise reject_unknown(placement_id) from error
    incumbents = [
        {"sequence": event.sequence, "created_at": format_time(event.created_at), **event.data} for event in events
    ]
    return AsciiJSONResponse({"incumbents": incumbents})


@router.get(
    "/placements/{placement_id}/events",
    summary="What happens to a placement, as it happens",
    response_class=EventSourceResponse,
    response_model=None,
    responses={200: EVENTS, **document_problems(404, 422, 503)},
)
async def stream_events(
    placement: ExistingPlacement,
    identity: IdentityOf,
    runtime: RuntimeOf,
    after: AfterSequence = 0,
    last_event_id: Annotated[
        str | None, Header(description="Where an earlier stream broke off; sent by browsers by themselves.")
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events from the first one, or from behind `Last-Event-ID`, until `end`.

    `state` tells a change of state, `incumbent` a step of the search, `end` the outcome. Ids are the sequence numbers.
    """
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
        after = max(after, int(last_event_id[:10]))
    async for event in runtime.waiting.follow(identity.tenant, placement.id, after):
        data = {"created_at": format_time(event.created_at), **event.data}
        yield ServerSentEvent(data=data, event=event.kind, id=str(event.sequence))


@router.get(
    "/placements/{placement_id}/log",
    summary="What the solving process has written",
    response_model=None,
    responses={200: LOG, **document_problems(404, 416, 422, 503)},
)
async def read_log(
    placement_id: PlacementId,
    identity: IdentityOf,
    runtime: RuntimeOf,
    from_byte: Annotated[int, Query(ge=0, le=_MOST, description="Where to go on reading.")] = 0,
) -> Response:
    """A piece of the log as text; ask again from `Next-Byte` for more. 416 from behind its end."""
    try:
        content, size = await to_thread.run_sync(
            lambda: runtime.placements.read_log(
                identity.tenant, placement_id, from_byte=from_byte, max_bytes=_LOG_PIECE_BYTES
            )
        )
    except PlacementNotFound as error:
        raise reject_unknown(placement_id) from error
    if from_byte > size:
        detail = f"The log has {size} bytes so far."
        raise ProblemError(describe("log-out-of-range", detail, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE))
    headers = {"Next-Byte": str(from_byte + len(content)), "X-Content-Type-Options": "nosniff"}
    return Response(content, media_type="text/plain; charset=utf-8", headers=headers)
