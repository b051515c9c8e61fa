"""``python -m app.openapi_file`` prints the OpenAPI document as it is committed: a change of it is seen in a review."""

from __future__ import annotations

import json
import sys

from app.main import create_app
from app.settings import Settings


def render() -> str:
    """The document, whatever the environment says."""
    return json.dumps(create_app(Settings.model_construct()).openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
