"""What /openapi.json and /docs say beyond what FastAPI finds out by itself. Both work without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from app.problems import describe, describe_issues
from app.schemas import Cancellation, Placement, Problem
from solver.errors import Issue
from solver.formats.native import RequestDocument

STATIC = Path(__file__).parent / "static"
_REF = "#/components/schemas/{model}"

EXAMPLES = {
    "tiny": "Two operators, two GPUs and a host",
    "transformer": "A decoder of twelve blocks on four GPUs of 8 GB",
}

PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`wait=N`: wait N seconds for the result. `respond-async`: do not wait (RFC 7240).",
    "schema": {"type": "string"},
    "examples": {"wait": {"value": "wait=30"}, "async": {"value": "respond-async"}},
}
_RETRY_AFTER = {"description": "When to ask again, in seconds.", "schema": {"type": "integer"}}
_ETAG = {"description": "Changes with whatever happens to the placement.", "schema": {"type": "string"}}
_APPLIED = {"description": "The preferences that were followed.", "schema": {"type": "string"}}

FINISHED: dict[str, Any] = {
    "model": Placement,
    "description": "The finished placement. Its `state` may be `failed`; `error` then says why.",
    "headers": {"Preference-Applied": _APPLIED, "ETag": _ETAG},
}
ACCEPTED: dict[str, Any] = {
    "model": Placement,
    "description": "The solve goes on; ask at Location.",
    "headers": {
        "Location": {"description": "Address of the placement.", "schema": {"type": "string"}},
        "Retry-After": _RETRY_AFTER,
        "Preference-Applied": _APPLIED,
        "ETag": _ETAG,
    },
}
READ: dict[str, Any] = {
    "model": Placement,
    "description": "The placement as it stands.",
    "headers": {"Retry-After": _RETRY_AFTER, "Preference-Applied": _APPLIED, "ETag": _ETAG},
}
UNCHANGED: dict[str, Any] = {"description": "Nothing has happened since.", "headers": {"ETag": _ETAG}}
EVENTS: dict[str, Any] = {
    "description": "The events; a comment every 15 seconds while there are none.",
}
LOG: dict[str, Any] = {
    "description": "A piece of the log.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
    "headers": {"Next-Byte": {"description": "Where to go on.", "schema": {"type": "integer"}}},
}
METRICS: dict[str, Any] = {
    "description": "The Prometheus text format.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}
_PROBLEMS = {
    400: ("The body is not JSON, or not valid gzip.", "unreadable-document"),
    401: ("A key is needed, or the one sent is not good.", "not-authenticated"),
    403: ("The key does not allow this.", "not-allowed"),
    404: ("There is no such placement.", "placement-not-found"),
    409: ("The placement, or the request of this key, is in another state than that needs.", "not-finished"),
    413: ("The body is too large.", "body-too-large"),
    415: ("The body is not application/json, or is encoded in an unknown way.", "unsupported-media-type"),
    416: ("The log is not that long.", "log-out-of-range"),
    422: (
        "The document breaks rules, all of them listed, or asks for what nothing here can solve.",
        "invalid-document",
    ),
    429: (
        "The key asks too often or has all it may have, the queue is full, or no core is free for what must not wait.",
        "rate-limited",
    ),
    503: ("The job database or the dispatcher is not available, or too much waits to be read.", "database-unavailable"),
}
_FAULT = Issue("missing_field", "the field 'graph' is missing", ("graph",), "add the field")


def document_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` entries of these problems."""
    documented: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        description, code = _PROBLEMS[status]
        example = describe_issues(code, (_FAULT,), 1) if status == 422 else describe(code, description, status)
        content = {
            "schema": {"$ref": _REF.format(model="Problem")},
            "example": example.model_dump(exclude_none=True),
        }
        documented[status] = {"description": description, "content": {"application/problem+json": content}}
    return documented


def read_example(name: str) -> dict[str, Any]:
    """The example request document of that name."""
    document: dict[str, Any] = json.loads((STATIC / "examples" / f"{name}.json").read_text(encoding="utf-8"))
    return document


REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "The native request document. `Content-Encoding: gzip` is accepted.",
    "content": {
        "application/json": {
            "schema": {"$ref": _REF.format(model=RequestDocument.__name__)},
            "examples": {name: {"summary": text, "value": read_example(name)} for name, text in EXAMPLES.items()},
        }
    },
}


_TINY = read_example("tiny")
EVALUATION_BODY: dict[str, Any] = {
    "required": True,
    "description": "A request document, and a placement of its operators.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "request": {"$ref": _REF.format(model=RequestDocument.__name__)},
                    "placement": {"type": "object", "additionalProperties": {"type": "string"}},
                    "explain": {
                        "description": "Say why as well; an operator's id: with the moves of that operator.",
                        "type": ["boolean", "string"],
                        "default": False,
                    },
                },
                "required": ["request", "placement"],
                "additionalProperties": False,
            },
            "examples": {
                "tiny": {
                    "summary": "Both operators on one GPU",
                    "value": {"request": _TINY, "placement": {"a": "gpu:0", "b": "gpu:0"}},
                },
                "explained": {
                    "summary": "Both operators on one GPU, and why that is slow",
                    "value": {"request": _TINY, "placement": {"a": "gpu:0", "b": "gpu:0"}, "explain": True},
                },
            },
        }
    },
}
CANCELLATION_BODY: dict[str, Any] = {
    "required": False,
    "description": "At most 4096 bytes.",
    "content": {
        "application/json": {
            "schema": {"$ref": _REF.format(model=Cancellation.__name__)},
            "example": {"mode": "keep_best"},
        }
    },
}


def _drop_framework_errors(document: dict[str, Any]) -> None:
    """FastAPI adds its own 422 wherever a route has a parameter; this service never answers with that."""
    for path in document["paths"].values():
        for operation in path.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _document_doors(document: dict[str, Any]) -> None:
    """Whatever needs a key may be refused for want of it."""
    for path in document["paths"].values():
        for operation in path.values():
            if "security" in operation:
                refusals = {str(status): entry for status, entry in document_problems(401, 403, 429, 503).items()}
                operation["responses"] = dict(sorted((refusals | operation["responses"]).items()))


_BODIES = {
    "/placements": REQUEST_BODY,
    "/placements/validate": REQUEST_BODY,
    "/placements/evaluate": EVALUATION_BODY,
}


def install_documentation(app: FastAPI) -> None:
    """Serve /docs from the files of this package, and complete /openapi.json."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            # FastAPI leaves out every null, also those an example means.
            for path, body in _BODIES.items():
                document["paths"][path]["post"]["requestBody"] = body
            schemas = document["components"]["schemas"]
            _drop_framework_errors(document)
            _document_doors(document)
            for model in (RequestDocument, Cancellation, Problem):
                schema = model.model_json_schema(ref_template=_REF)
                schemas.update(schema.pop("$defs", {}))
                schemas[model.__name__] = schema
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/docs", include_in_schema=False)
    async def show_docs(request: Request) -> HTMLResponse:
        files = request.url_for("static", path="swagger").path
        return get_swagger_ui_html(
            openapi_url=request.url_for("openapi").path,
            title=f"{app.title} {app.version}",
            swagger_js_url=f"{files}/swagger-ui-bundle.js",
            swagger_css_url=f"{files}/swagger-ui.css",
            swagger_favicon_url=f"{files}/favicon-32x32.png",
            # Its validator and its "try it out" must not call out either.
            swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True},
        )
