"""Bodies and headers of answers about placements."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse, Response

from app.placement_records import Record, Summary
from app.schemas import Placement, PlacementStatus


class AsciiJSONResponse(JSONResponse):
    """JSON that survives half of a surrogate pair, and refuses NaN and infinities."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def answer_placement(record: Record, status: HTTPStatus, headers: dict[str, str]) -> Response:
    """The whole placement."""
    envelope = Placement.model_validate(_pick(record.summary, Placement) | {"result": None}).model_dump(mode="json")
    # The result was written by the solver's own format; it is passed on as it is.
    content = _without_empty_error_fields(envelope) | {"result": record.result}
    return AsciiJSONResponse(content, status, headers | {"ETag": tag_of(record.summary)})


def describe_status(summary: Summary) -> dict[str, Any]:
    """The placement without its documents."""
    status = PlacementStatus.model_validate(_pick(summary, PlacementStatus))
    return _without_empty_error_fields(status.model_dump(mode="json"))


def tag_of(summary: Summary) -> str:
    """A weak entity tag: it changes with everything that happens to the placement, but not with its heartbeat."""
    return f'W/"{summary.num_events}"'


def has_tag(summary: Summary, if_none_match: str | None) -> bool:
    """Whether the client has this state of the placement already (If-None-Match, compared weakly)."""
    if if_none_match is None:
        return False
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in known or tag_of(summary).removeprefix("W/") in known


def retry_after(summary: Summary) -> dict[str, str]:
    """Ask again soon for short solves, rarely for long ones."""
    return {"Retry-After": str(round(min(10.0, max(1.0, summary.time_limit_s / 10))))}


def _pick(summary: Summary, model: type[Placement | PlacementStatus]) -> dict[str, Any]:
    return {name: getattr(summary, name) for name in model.model_fields if hasattr(summary, name)}


def _without_empty_error_fields(envelope: dict[str, Any]) -> dict[str, Any]:
    if envelope["error"] is not None:
        envelope["error"] = {key: value for key, value in envelope["error"].items() if value is not None}
    return envelope
