"""The routes: HTTP in, HTTP out, nothing decided."""

from __future__ import annotations

from fastapi import APIRouter

from app.routes import evaluation, guide, operation, placements, progress

operation_router = operation.router
"""How the process is: every process of the service answers these."""

placements_router = APIRouter()
"""Everything that the clients of the service use."""
for _part in (evaluation, placements, progress, guide):
    placements_router.include_router(_part.router)
