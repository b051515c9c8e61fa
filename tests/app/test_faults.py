"""A short version of what ``make test-faults`` does at length."""

from __future__ import annotations

from tests.app.faults import Round


def test_killing_at_random_moments_loses_nothing(tmp_path):
    report = Round(tmp_path, seed=5, num_jobs=6, num_kills=3).run()
    assert report.faults == []
    assert sum(report.kills.values()) == 3
    assert sum(report.attempts.values()) == 6
