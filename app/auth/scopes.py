"""What a key or a token allows."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """One kind of permission."""

    READ = "read"
    """See placements, validate, evaluate."""
    WRITE = "write"
    """Make, cancel and delete placements."""
    METRICS = "metrics"
    """Scrape /metrics, which counts the jobs of all tenants."""
    ADMIN = "admin"
    """Everything, and for any tenant."""


ALL_SCOPES = frozenset(Scope)
_READING_POSTS = frozenset({"/placements/validate", "/placements/evaluate"})


def scope_needed(method: str, path: str) -> Scope:
    """What a request to the route ``path`` (with its parameters unfilled) takes.

    A new route that changes things needs ``write`` without anybody thinking of it.
    """
    if path == "/metrics":
        return Scope.METRICS
    if method in ("GET", "HEAD") or path in _READING_POSTS:
        return Scope.READ
    return Scope.WRITE
