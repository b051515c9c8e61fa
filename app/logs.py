"""The log of the service: for people, or a JSON object a line for machines. Both name the placement a line is about."""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any, Literal

from app.routes.dependencies import ID_PATTERN

_OURS = ("tenant", "key", "client", "method", "route", "placement", "attempt", "delivery", "status")
"""What a line may carry beside its message, given as ``extra``."""
_ADDRESS = re.compile(f"/placements/({ID_PATTERN})")
_ACCESS = ("client", "method", "path", "http_version", "status")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        named = " ".join(f"{name}={value}" for name, value in _extras(record).items())
        line = super().format(record)
        head, separator, traceback = line.partition("\n")
        return f"{head} [{named}]{separator}{traceback}" if named else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.name == "uvicorn.access" and isinstance(record.args, tuple) and len(record.args) == len(_ACCESS):
            line |= dict(zip(_ACCESS, record.args, strict=True))
        if "placement" not in line and (named := _ADDRESS.search(line["message"])):
            line["placement"] = named[1]
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _drop_query(record: logging.LogRecord) -> bool:
    """An address is logged without its query: there may be a secret in the address of a webhook."""
    if record.name == "uvicorn.access" and isinstance(record.args, tuple) and len(record.args) == len(_ACCESS):
        client, method, path, *rest = record.args
        record.args = (client, method, str(path).partition("?")[0], *rest)
    return True


def configure_logs(kind: Literal["text", "json"]) -> None:
    """Send everything to standard error in that form; the server's own lines too."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if kind == "json" else _Text("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_drop_query)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _OURS if hasattr(record, name)}
