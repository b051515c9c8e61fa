"""What routes have in common: their parts of the running service, and what a request may carry."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Path, Request

from app.identity import IdentityOf
from app.placement_records import PlacementNotFound, Summary
from app.preferences import Preferences, parse_preferences
from app.problems import ProblemError, describe
from app.request_body import Door
from app.runtime import Runtime
from app.settings import Settings
from app.threads import read

ID_PATTERN = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
TAG_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@+=-]{0,63}$"


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def _preferences(request: Request) -> Preferences:
    return parse_preferences(request.headers.getlist("prefer"))


def _door(request: Request) -> Door:
    door: Door = request.app.state.door
    return door


def reject_unknown(placement_id: str) -> ProblemError:
    """The 404 for an id that this tenant has no placement of."""
    return ProblemError(
        describe("placement-not-found", f"No placement has the id {placement_id!r}.", HTTPStatus.NOT_FOUND)
    )


def _placement_id(
    placement_id: Annotated[str, Path(description="The id that POST /placements gave.")],
) -> str:
    if not re.fullmatch(ID_PATTERN, placement_id):
        raise reject_unknown(placement_id)
    return placement_id


SettingsOf = Annotated[Settings, Depends(_settings)]
RuntimeOf = Annotated[Runtime, Depends(_runtime)]
PreferencesOf = Annotated[Preferences, Depends(_preferences)]
DoorOf = Annotated[Door, Depends(_door)]
PlacementId = Annotated[str, Depends(_placement_id)]


async def _existing(placement_id: PlacementId, identity: IdentityOf, runtime: RuntimeOf) -> Summary:
    try:
        return await read(runtime.placements.read_summary, identity.tenant, placement_id)
    except PlacementNotFound as error:
        raise reject_unknown(placement_id) from error


ExistingPlacement = Annotated[Summary, Depends(_existing)]
"""The placement of the address, as it stands when the request comes in."""
