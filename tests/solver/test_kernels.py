"""Compiled loops work also where their cache cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys


def test_a_solve_where_no_cache_can_be_written():
    # Not by permissions: those do not bind the superfluous rights of whoever runs the tests in a container.
    environment = os.environ | {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "NUMBA_CACHE_DIR": ""}
    code = (
        "from solver.solve import warm_up; warm_up()\n"
        "from solver.exact.ideal_kernel import explore\n"
        "assert explore.stats.cache_path is None, explore.stats\n"
        "assert explore.signatures"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert (process.returncode, process.stderr) == (0, "")
