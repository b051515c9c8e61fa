"""Making, reading, listing, cancelling and deleting placements."""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
from http import HTTPStatus
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from app.admission import admit, read_cancellation
from app.auth.allowance import QuotaExceeded
from app.identity import Identity, IdentityOf
from app.openapi import ACCEPTED, CANCELLATION_BODY, FINISHED, PREFER, READ, REQUEST_BODY, UNCHANGED, document_problems
from app.placement_records import (
    AlreadyFinished,
    KeyInFlight,
    KeyReused,
    NewPlacement,
    NoFreeSlots,
    NotFinished,
    PlacementNotFound,
    QueueFull,
    StartNotUsable,
    Summary,
)
from app.problems import ProblemError, describe, reject_parameter
from app.request_body import read_note
from app.request_options import IdempotencyKey, RequestOptions, RequestOptionsOf
from app.responses import AsciiJSONResponse, answer_placement, describe_status, has_tag, retry_after, tag_of
from app.routes.dependencies import (
    TAG_PATTERN,
    DoorOf,
    PlacementId,
    PreferencesOf,
    RuntimeOf,
    SettingsOf,
    reject_unknown,
)
from app.runtime import Runtime
from app.schemas import PlacementList, PlacementStatus, State
from app.settings import Settings
from app.threads import read
from app.tracing import current_parent
from app.waiting import ANSWERING_S
from app.webhooks import UnusableAddress, check_address

router = APIRouter(tags=["placements"])


@router.post(
    "/placements",
    summary="Solve a placement problem",
    response_model=None,
    responses={200: FINISHED, 202: ACCEPTED, **document_problems(400, 409, 413, 415, 422, 429, 503)},
    openapi_extra={"requestBody": REQUEST_BODY, "parameters": [PREFER]},
)
async def create_placement(
    request: Request,
    options: RequestOptionsOf,
    identity: IdentityOf,
    settings: SettingsOf,
    runtime: RuntimeOf,
    preferences: PreferencesOf,
    door: DoorOf,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Queue a solve and, unless told otherwise, wait for it.

    The answer is 200 with the finished placement, or 202 with its address when `Prefer: respond-async` was sent or
    the wait has run out. The job goes on in any case, also when the client hangs up. A proof that no placement exists
    and the best placement at the time limit are both `succeeded`; `result.status` says which.
    """
    new = await door.read(request, lambda document: _prepare(document, options, identity, runtime, idempotency_key))
    try:
        placement_id, _is_new = await to_thread.run_sync(runtime.placements.create, new)
    except (KeyInFlight, KeyReused, NoFreeSlots, QueueFull, QuotaExceeded, StartNotUsable) as error:
        raise _refuse(error) from error
    del new  # the document need not wait for the answer
    request.state.placement = placement_id  # for the audit log
    wait_s = preferences.choose_wait(settings.default_wait_s, settings.max_wait_s)
    async with runtime.waiting.answering(placement_id, has_key=idempotency_key is not None):
        try:
            await runtime.waiting.until(identity.tenant, placement_id, wait_s, _is_finished, request.is_disconnected)
            record = await read(runtime.placements.read, identity.tenant, placement_id)
        except PlacementNotFound as error:  # somebody has deleted it meanwhile
            raise reject_unknown(placement_id) from error
    is_finished = record.summary.state.is_terminal
    headers = preferences.describe_applied(wait_s, is_async=not is_finished)
    if not is_finished:
        headers |= {"Location": _address(request, placement_id)} | retry_after(record.summary)
    status = HTTPStatus.OK if is_finished else HTTPStatus.ACCEPTED
    return await to_thread.run_sync(answer_placement, record, status, headers)


@router.get(
    "/placements",
    summary="The newest placements",
    response_model=None,
    responses={200: {"model": PlacementList}, **document_problems(422, 503)},
)
async def list_placements(
    identity: IdentityOf,
    runtime: RuntimeOf,
    state: Annotated[State | None, Query(description="Only those in this state.")] = None,
    tag: Annotated[str | None, Query(description="Only those with this tag.", pattern=TAG_PATTERN)] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most placements of one page.")] = 100,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
) -> Response:
    """Newest first, without their results."""
    before = None if cursor is None else _read_cursor(cursor)
    summaries, following = await read(
        runtime.placements.list_newest, identity.tenant, state=state, tag=tag, limit=limit, before=before
    )
    content = {
        "placements": [describe_status(summary) for summary in summaries],
        "next_cursor": None if following is None else _write_cursor(following),
    }
    return AsciiJSONResponse(content)


@router.get(
    "/placements/{placement_id}",
    summary="A placement and its result",
    response_model=None,
    responses={200: READ, 304: UNCHANGED, **document_problems(404, 422, 503)},
    openapi_extra={"parameters": [PREFER]},
)
async def read_placement(
    request: Request,
    placement_id: PlacementId,
    identity: IdentityOf,
    settings: SettingsOf,
    runtime: RuntimeOf,
    preferences: PreferencesOf,
    if_none_match: Annotated[
        str | None, Header(description="The `ETag` already known: 304 while nothing has happened since.")
    ] = None,
) -> Response:
    """The placement as it stands; with `Prefer: wait=N` once it is finished, or after N seconds.

    With `If-None-Match` the wait ends as soon as anything has happened to the placement.
    """
    wait_s = preferences.choose_wait(0.0, settings.max_wait_s)

    def is_worth_telling(summary: Summary) -> bool:
        return summary.state.is_terminal or (if_none_match is not None and not has_tag(summary, if_none_match))

    try:
        summary = await runtime.waiting.until(
            identity.tenant, placement_id, wait_s, is_worth_telling, request.is_disconnected
        )
        headers = preferences.describe_applied(wait_s, is_async=False)
        if has_tag(summary, if_none_match):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers | {"ETag": tag_of(summary)})
        record = await read(runtime.placements.read, identity.tenant, placement_id)
    except PlacementNotFound as error:
        raise reject_unknown(placement_id) from error
    if not record.summary.state.is_terminal:
        headers |= retry_after(record.summary)
    return await to_thread.run_sync(answer_placement, record, HTTPStatus.OK, headers)


@router.post(
    "/placements/{placement_id}/cancel",
    summary="Cancel a placement",
    status_code=HTTPStatus.ACCEPTED,
    response_model=None,
    responses={
        202: {"model": PlacementStatus, "description": "It is cancelled, or will be once its process has ended."},
        **document_problems(400, 404, 409, 413, 415, 422, 503),
    },
    openapi_extra={"requestBody": CANCELLATION_BODY},
)
async def cancel_placement(
    request: Request,
    placement_id: PlacementId,
    identity: IdentityOf,
    runtime: RuntimeOf,
    settings: SettingsOf,
) -> Response:
    """A queued placement is `cancelled` at once. A running one is `cancelling` until its process has ended.

    `keep_best` (the default) keeps the best placement found, with its bound; `discard` drops it and is faster.
    Cancelling again changes nothing; 409 when the placement has ended by itself.
    """
    mode = read_cancellation(await read_note(request), settings.max_issues).mode

    def cancel() -> Summary:
        runtime.placements.cancel(identity.tenant, placement_id, mode)
        return runtime.placements.read_summary(identity.tenant, placement_id)

    try:
        summary = await to_thread.run_sync(cancel)
    except PlacementNotFound as error:
        raise reject_unknown(placement_id) from error
    except AlreadyFinished as error:
        detail = f"The placement is {error.state} and can no longer be cancelled."
        raise ProblemError(describe("already-finished", detail, HTTPStatus.CONFLICT)) from error
    headers = {"Location": _address(request, placement_id)}
    if not summary.state.is_terminal:
        headers["Retry-After"] = "1"
    return AsciiJSONResponse(describe_status(summary), HTTPStatus.ACCEPTED, headers)


@router.delete(
    "/placements/{placement_id}",
    summary="Forget a placement",
    status_code=HTTPStatus.NO_CONTENT,
    response_model=None,
    responses=document_problems(404, 409, 503),
)
async def delete_placement(placement_id: PlacementId, identity: IdentityOf, runtime: RuntimeOf) -> Response:
    """Delete its documents, events and log. 409 while it is going on: cancel it first."""
    try:
        await to_thread.run_sync(runtime.placements.delete, identity.tenant, placement_id)
    except PlacementNotFound as error:
        raise reject_unknown(placement_id) from error
    except NotFinished as error:
        detail = "The placement is still going on. Cancel it, and delete it once it has ended."
        raise ProblemError(describe("not-finished", detail, HTTPStatus.CONFLICT)) from error
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _prepare(
    document: bytes, options: RequestOptions, identity: Identity, runtime: Runtime, idempotency_key: str | None
) -> NewPlacement:
    """Check the document; the job for it."""
    settings = runtime.settings
    if options.webhook_url is not None:
        _check_webhook(options.webhook_url, settings)
    asked = admit(document, settings.max_issues)
    digest = hashlib.sha256(document).hexdigest()
    return NewPlacement(
        tenant=identity.tenant,
        request=gzip.compress(document, compresslevel=3, mtime=0),
        digest=digest,
        fingerprint=options.digest(digest),
        time_limit_s=min(asked.time_limit_s, settings.max_time_limit_s),
        workers=settings.cap_workers(asked.workers, runtime.count_most_slots()),
        priority=options.priority,
        tags=tuple(options.tag),
        max_wait_s=options.max_wait_s,
        warm_start=options.warm_start,
        webhook_url=options.webhook_url,
        trace_parent=current_parent(),
        idempotency_key=idempotency_key,
        answering_s=ANSWERING_S,
        key_id=identity.key_id,
        allowance=identity.allowance,
    )


def _check_webhook(url: str, settings: Settings) -> None:
    if settings.webhook_secret is None:
        hint = "Ask the operator of the service, or follow the placement's events."
        raise reject_parameter("webhook_url", "webhooks are not set up here", hint)
    try:
        check_address(url, may_be_private=settings.webhook_allow_private)
    except UnusableAddress as error:
        raise reject_parameter("webhook_url", str(error), "Give the https:// address of a public host.") from error


def _is_finished(summary: Summary) -> bool:
    return summary.state.is_terminal


def _address(request: Request, placement_id: str) -> str:
    return request.url_for("read_placement", placement_id=placement_id).path


def _refuse(error: Exception) -> ProblemError:
    match error:
        case StartNotUsable():
            return reject_parameter("warm_start", str(error), "Name a placement that has a result.")
        case KeyReused():
            detail = "This Idempotency-Key came with another request before. Use a new key for a new request."
            return ProblemError(describe("idempotency-key-reused", detail, HTTPStatus.UNPROCESSABLE_ENTITY))
        case KeyInFlight():
            detail = "The first request with this Idempotency-Key is still waiting for its answer."
            problem = describe("request-in-flight", detail, HTTPStatus.CONFLICT)
        case QuotaExceeded():
            problem = describe("quota-exceeded", str(error), HTTPStatus.TOO_MANY_REQUESTS)
            return ProblemError(problem, {"Retry-After": str(error.retry_after_s)})
        case QueueFull():
            detail = "Too many placements are queued."
            problem = describe("queue-full", detail, HTTPStatus.TOO_MANY_REQUESTS)
        case _:
            detail = "All cores are taken, and the request must not wait (max_wait_s=0)."
            problem = describe("no-free-slots", detail, HTTPStatus.TOO_MANY_REQUESTS)
    return ProblemError(problem, {"Retry-After": "5"})


def _write_cursor(sequence: int) -> str:
    return base64.urlsafe_b64encode(str(sequence).encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        sequence = int(text) if text.isdigit() and len(text) <= 18 else -1
    except (binascii.Error, ValueError):
        sequence = -1
    if sequence < 0:
        raise reject_parameter("cursor", "not a cursor of this service", "Use next_cursor of the page before.")
    return sequence
