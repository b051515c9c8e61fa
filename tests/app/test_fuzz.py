"""A short version of what ``make test-fuzz`` does at length."""

from __future__ import annotations

from tests.app import fuzz


def test_mutated_documents_get_an_answer(start_server):
    live = start_server(MAX_TIME_LIMIT_S=0.05)
    statuses, faults = fuzz.run(live, 300, seed=1)
    assert faults == []
    assert {200, 202, 422} <= {status for _, status in statuses}
