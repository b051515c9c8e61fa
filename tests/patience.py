"""Waiting in tests: for what happens, never for a time."""

from __future__ import annotations

import time

PATIENCE_S = 120
"""Far longer than anything here takes, also on a machine that does much else."""


def wait_until(look, patience_s=PATIENCE_S):
    """What ``look`` gives, once that is true; what it last gave, when the patience ends."""
    deadline = time.monotonic() + patience_s
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return seen
