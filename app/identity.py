"""Who is asking. Every route goes through :data:`IdentityOf`, and every read and write is for its tenant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.tables import DEFAULT_TENANT

ALL_SCOPES = frozenset({"read", "write"})


@dataclass(frozen=True, slots=True)
class Identity:
    """The tenant, the key it showed, and what it may do: ``read`` placements, ``write`` (make, cancel, delete) them."""

    tenant: str = DEFAULT_TENANT
    key_id: str | None = None
    scopes: frozenset[str] = ALL_SCOPES


async def identify(request: Request) -> Identity:  # noqa: ARG001
    """The default identity: nobody has to show anything."""
    return Identity()


IdentityOf = Annotated[Identity, Depends(identify)]
