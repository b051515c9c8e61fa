"""Numbers of things, in words."""

from __future__ import annotations


def counted(count: int, thing: str) -> str:
    """How many of a thing there are: ``1 device``, ``2,000 devices``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
