"""How the process is, for whoever runs it."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from app.identity import identify
from app.metrics import CONTENT_TYPE
from app.openapi import METRICS, document_problems
from app.problems import reject_not_ready
from app.routes.dependencies import RuntimeOf
from app.schemas import Health

router = APIRouter(tags=["operation"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="The process answers")
async def check_life() -> Health:
    """Asks nothing but the event loop, so that a long solve or a slow database never gets the service killed."""
    return Health(status="alive")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Placements get solved", responses=document_problems(503))
async def check_readiness(runtime: RuntimeOf) -> Health:
    """Asks the database, and for a live dispatcher."""
    await to_thread.run_sync(runtime.database.ping)
    if not await to_thread.run_sync(lambda: runtime.solves_jobs):
        raise reject_not_ready()
    return Health(status="ready")


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_model=None,
    responses={200: METRICS, **document_problems(503)},
    dependencies=[Depends(identify)],
)
async def read_metrics(runtime: RuntimeOf) -> Response:
    """Of this process; those of the queue are of the whole database."""
    return Response(await to_thread.run_sync(runtime.metrics.expose), media_type=CONTENT_TYPE)


@router.get("/", include_in_schema=False)
async def show_entrance(request: Request) -> Response:
    """People start at the documentation."""
    return RedirectResponse(request.url_for("show_docs").path)
