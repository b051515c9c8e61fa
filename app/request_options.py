"""What a request for a solve may carry beside its document."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

from fastapi import Header, Query
from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.routes.dependencies import ID_PATTERN, TAG_PATTERN

MAX_TAGS = 20
MAX_PRIORITY = 100
_MONTH_S = 30 * 86_400.0


class RequestOptions(BaseModel):
    """Query parameters of POST /placements."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tag: list[Annotated[str, Field(pattern=TAG_PATTERN)]] = Field(
        default=[], max_length=MAX_TAGS, description="A word to find the placement by; may be given several times."
    )
    priority: int = Field(
        default=0, ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="Higher ones start first, equal ones in their order."
    )
    max_wait_s: float | None = Field(
        default=None,
        ge=0,
        le=_MONTH_S,
        allow_inf_nan=False,
        description="A placement not started after that long expires. 0: 429 at once unless it can start now.",
    )
    warm_start: str | None = Field(
        default=None, pattern=f"^{ID_PATTERN}$", description="Id of an earlier placement to start the search from."
    )

    webhook_url: str | None = Field(
        default=None, max_length=2048, description="Told once the placement has ended (Standard Webhooks, signed)."
    )

    @field_validator("tag")
    @classmethod
    def _drop_repetitions(cls, tags: list[str]) -> list[str]:
        return sorted(set(tags))

    def digest(self, document_digest: str) -> str:
        """What tells this request from another one with the same idempotency key."""
        everything = [document_digest, self.model_dump(mode="json")]
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


RequestOptionsOf = Annotated[RequestOptions, Query()]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key with the same request leads to the first placement instead of a new one.",
    ),
]
