"""How both clients connect."""

from __future__ import annotations

from typing import Any

import httpx

DEFAULT_TIMEOUT_S = 30.0
EVENT_SILENCE_S = 60.0
"""A stream that is silent for so long is dead: the service sends comments in between."""


def connection_options(url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """The arguments of ``httpx.Client`` and ``httpx.AsyncClient``.

    Raises:
        ValueError: the address or the key can be none.
    """
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no address: {error}") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise ValueError(f"{url!r} is no address of a service; example: https://placewright.example.org")
    headers = {"Accept": "application/json", "User-Agent": "placewright-client"}
    if api_key is not None:
        if not api_key.isascii() or not api_key.isprintable():
            raise ValueError("the API key has characters that no API key has")
        headers["Authorization"] = f"Bearer {api_key}"
    # No redirects: the key is for this address, and a POST would be repeated as a GET.
    return {
        "base_url": address,
        "headers": headers,
        "timeout": timeout_s,
        "follow_redirects": False,
        # An event stream holds its connection; a hundred of them must not keep a request waiting.
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=20),
    }
