from __future__ import annotations

import pytest

from tests.checked import solve_checked


@pytest.fixture(scope="session")
def solve():
    """Solve with one worker and a fixed seed; every placement is verified before the test sees it."""
    return solve_checked
