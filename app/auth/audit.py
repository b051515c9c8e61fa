"""The audit log: a line for everything that changed something, and for everybody who was turned away."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.routes.dependencies import ID_PATTERN

if TYPE_CHECKING:
    from app.auth.guard import Identity

_TURNED_AWAY = frozenset({401, 403, 429})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_ID = re.compile(ID_PATTERN)
_log = logging.getLogger("placewright.audit")


class AuditLog:
    """Writes the line when the answer begins, with what was decided about the request until then."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                _note(scope, message["status"])
            await send(message)

        await self._app(scope, receive, send_and_note)


def _note(scope: Scope, status: int) -> None:
    if scope["method"] in _READING and status not in _TURNED_AWAY:
        return
    identity: Identity | None = scope["state"].get("identity")
    facts = {
        "tenant": identity.tenant if identity else None,
        "key": identity.key_id if identity else None,
        "client": scope["client"][0] if scope.get("client") else None,
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", None),
        "placement": _find_placement(scope),
        "status": status,
    }
    word = "turned away" if status in _TURNED_AWAY else "answered"
    _log.info(word, extra={name: value for name, value in facts.items() if value is not None})


def _find_placement(scope: Scope) -> str | None:
    """The id in the address, or of the placement that was made."""
    placement: str = scope.get("path_params", {}).get("placement_id", scope["state"].get("placement", ""))
    return placement if _ID.fullmatch(placement) else None  # anything may stand in an address, also lines of a log
