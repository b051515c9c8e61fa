"""How many random instances the property tests draw: as many as a change should wait for, or many times as many."""

from __future__ import annotations

import os

DEPTH = int(os.environ.get("PLACEWRIGHT_TEST_DEPTH", "1"))
"""``make test-deep`` sets it. Every test draws so many times its usual number; seeds are never drawn twice."""


def chunks(usual: int) -> range:
    """Numbers of the chunks of seeds that a test is parametrized with."""
    return range(usual * DEPTH)
