"""The routes: HTTP in, HTTP out, nothing decided."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from app.identity import IdentityOf
from app.openapi import (
    ACCEPTED,
    FINISHED,
    PREFER,
    READ,
    REQUEST_BODY,
    document_problems,
)
from app.placements import NewPlacement, PlacementNotFound, Record, Summary
from app.preferences import Preferences, parse_preferences
from app.problems import ProblemError, describe, reject_instance
from app.request_body import read_document
from app.runtime import Runtime
from app.schemas import Health, Placement
from app.settings import Settings
from solver.errors import InvalidInstance, UnreadableDocument, UnsupportedInstance
from solver.formats import native
from solver.solve import check_supported

router = APIRouter()
operation_router = APIRouter()
"""How the service is: every process of it answers these."""


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def _preferences(request: Request) -> Preferences:
    return parse_preferences(request.headers.getlist("prefer"))


SettingsOf = Annotated[Settings, Depends(_settings)]
RuntimeOf = Annotated[Runtime, Depends(_runtime)]
PreferencesOf = Annotated[Preferences, Depends(_preferences)]


@router.post(
    "/placements",
    summary="Solve a placement problem",
    tags=["placements"],
    response_model=None,
    responses={200: FINISHED, 202: ACCEPTED, **document_problems(400, 413, 415, 422, 503)},
    openapi_extra={"requestBody": REQUEST_BODY, "parameters": [PREFER]},
)
async def create_placement(
    request: Request, identity: IdentityOf, settings: SettingsOf, runtime: RuntimeOf, preferences: PreferencesOf
) -> Response:
    """Queue a solve and, unless told otherwise, wait for it.

    The answer is 200 with the finished placement, or 202 with its address when `Prefer: respond-async` was sent or
    the wait has run out. The job goes on in any case, also when the client hangs up. A proof that no placement exists
    and the best placement at the time limit are both `succeeded`; `result.status` says which.
    """
    document = await read_document(request, settings.max_body_bytes)
    # Few at a time: each holds a whole document in memory, and together they would starve the event loop.
    new = await to_thread.run_sync(_admit, document, identity.tenant, settings, limiter=_door(request))
    del document
    placement_id, _ = await to_thread.run_sync(runtime.placements.create, new)
    wait_s = preferences.choose_wait(settings.default_wait_s, settings.max_wait_s)
    await runtime.waiting.until(identity.tenant, placement_id, wait_s, _is_finished, request.is_disconnected)
    record = await to_thread.run_sync(runtime.placements.read, identity.tenant, placement_id)
    is_finished = record.summary.state.is_terminal
    headers = preferences.describe_applied(wait_s, is_async=not is_finished)
    if not is_finished:
        headers |= {"Location": request.url_for("read_placement", placement_id=placement_id).path} | _retry_after(
            record
        )
    status = HTTPStatus.OK if is_finished else HTTPStatus.ACCEPTED
    return await to_thread.run_sync(_respond, record, status, headers)


@router.get(
    "/placements/{placement_id}",
    summary="A placement and its result",
    tags=["placements"],
    response_model=None,
    responses={200: READ, **document_problems(404, 503)},
    openapi_extra={"parameters": [PREFER]},
)
async def read_placement(
    request: Request,
    placement_id: str,
    identity: IdentityOf,
    settings: SettingsOf,
    runtime: RuntimeOf,
    preferences: PreferencesOf,
) -> Response:
    """The placement as it stands; with `Prefer: wait=N` once it is finished, or after N seconds."""
    wait_s = preferences.choose_wait(0.0, settings.max_wait_s)
    try:
        if wait_s > 0:
            await runtime.waiting.until(identity.tenant, placement_id, wait_s, _is_finished, request.is_disconnected)
        record = await to_thread.run_sync(runtime.placements.read, identity.tenant, placement_id)
    except PlacementNotFound as error:
        detail = f"No placement has the id {placement_id!r}."
        raise ProblemError(describe("placement-not-found", detail, 404)) from error
    headers = preferences.describe_applied(wait_s, is_async=False)
    if not record.summary.state.is_terminal:
        headers |= _retry_after(record)
    return await to_thread.run_sync(_respond, record, HTTPStatus.OK, headers)


@operation_router.get("/livez", summary="The process answers", tags=["operation"])
async def check_life() -> Health:
    """Asks nothing but the event loop, so that a long solve or a slow database never gets the service killed."""
    return Health(status="alive")


@operation_router.get("/readyz", summary="Placements get solved", tags=["operation"], responses=document_problems(503))
async def check_readiness(runtime: RuntimeOf) -> Health:
    """Asks the database, and for a live dispatcher."""
    await to_thread.run_sync(runtime.database.ping)
    if not await to_thread.run_sync(lambda: runtime.solves_jobs):
        detail = "The service is stopping, or no dispatcher runs jobs."
        raise ProblemError(describe("not-ready", detail, HTTPStatus.SERVICE_UNAVAILABLE), {"Retry-After": "5"})
    return Health(status="ready")


@router.get("/", include_in_schema=False)
async def show_entrance(request: Request) -> Response:
    """People start at the documentation."""
    return RedirectResponse(request.url_for("show_docs").path)


def _is_finished(summary: Summary) -> bool:
    return summary.state.is_terminal


def _admit(document: bytes, tenant: str, settings: Settings) -> NewPlacement:
    """Check the document; the job for it."""
    try:
        request = native.read(document)
        check_supported(request.instance)
    except UnreadableDocument as error:
        raise ProblemError(describe("unreadable-document", str(error), HTTPStatus.BAD_REQUEST)) from error
    except UnsupportedInstance as error:
        raise reject_instance(error, "unsupported-instance", settings.max_issues) from error
    except InvalidInstance as error:
        raise reject_instance(error, "invalid-document", settings.max_issues) from error
    digest = hashlib.sha256(document).hexdigest()
    return NewPlacement(
        tenant=tenant,
        request=gzip.compress(document, compresslevel=3, mtime=0),
        digest=digest,
        fingerprint=digest,
        time_limit_s=min(request.options.time_limit_s, settings.max_time_limit_s),
        workers=settings.cap_workers(request.options.workers),
    )


def _door(request: Request) -> CapacityLimiter:
    limiter: CapacityLimiter = request.app.state.door
    return limiter


def _respond(record: Record, status: HTTPStatus, headers: dict[str, str]) -> Response:
    body = {key: value for key, value in asdict(record.summary).items() if key in Placement.model_fields}
    envelope = Placement.model_validate({**body, "result": None}).model_dump(mode="json")
    if envelope["error"] is not None:
        envelope["error"] = {key: value for key, value in envelope["error"].items() if value is not None}
    # The result was written by the solver's own format; it is passed on as it is.
    return _AsciiJSONResponse({**envelope, "result": record.result}, status_code=status, headers=headers)


class _AsciiJSONResponse(JSONResponse):
    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def _retry_after(record: Record) -> dict[str, str]:
    """Ask again soon for short solves, rarely for long ones."""
    return {"Retry-After": str(round(min(10.0, max(1.0, record.summary.time_limit_s / 10))))}
