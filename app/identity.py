"""Who is asking. Every route goes through :data:`IdentityOf`, and every read and write is for its tenant."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from app.auth.guard import Guard, Identity

__all__ = ["Identity", "IdentityOf", "identify"]

# For the documentation of the routes; what counts is the guard.
_in_the_documentation = HTTPBearer(
    scheme_name="key",
    description="An API key, or a token of the OpenID Connect issuer; needed where authentication is on.",
    auto_error=False,
)


async def identify(request: Request, _: Annotated[object, Depends(_in_the_documentation)]) -> Identity:
    """The caller, if the door opens for it; see :meth:`app.auth.guard.Guard.admit`."""
    guard: Guard = request.app.state.guard
    return await guard.admit(request)


IdentityOf = Annotated[Identity, Depends(identify)]
