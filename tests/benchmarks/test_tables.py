from __future__ import annotations

import json

import pytest

from benchmarks import tables
from benchmarks.gap_plots import draw_gaps, gap_series
from benchmarks.plan import PROGRAMS, comparisons, key_of
from benchmarks.records import PLACEWRIGHT, Campaign, Record, Step

HIGHS, SCIP = PROGRAMS


def record(workload="w", method=PLACEWRIGHT, value=None, bound=None, *, suite="free", partition="free", **fields):
    fields = {"wall_s": 1.0, "peak_memory_bytes": 2**20, "time_limit_s": 60.0, **fields}
    return Record(suite, workload, 3, 2, partition, method, objective_value=value, best_bound=bound, **fields)


def rows(markdown):
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in markdown.splitlines()[2:]]


def test_table_keeps_its_shape_whatever_the_cells_hold():
    markdown = tables.table(("a", "b"), [("x|y", 1)])
    assert markdown == "| a | b |\n|---|---|\n| x\\|y | 1 |"


def test_gaps_of_a_record():
    steps = (Step(0.1, None, 5.0), Step(0.2, 10.0, 5.0), Step(0.3, 10.0, 9.9), Step(0.4, 10.0, 10.0))
    run = record(value=10.0, bound=10.0, steps=steps)
    assert run.is_proved
    assert run.first_s == 0.2
    assert [run.reached_s(gap) for gap in (0.5, 0.05, 0.01, 0.0)] == [0.2, 0.3, 0.3, 0.4]
    assert record(value=10.0, bound=9.0).reached_s(0.5) is None
    assert not record(value=10.0).is_proved


def test_gap_series_only_falls_and_lasts_to_the_end():
    steps = [Step(0.1, None, 5.0), Step(0.2, 10.0, 5.0), Step(0.3, 10.0, 5.0), Step(0.4, 10.0, 8.0)]
    assert gap_series(steps, 60.0) == [(0.2, 0.5), (0.4, 0.2), (60.0, 0.2)]
    assert gap_series([*steps, Step(0.5, 10.0, 10.0 - 1e-7)], 0.5)[-1] == (0.5, 0.0)
    assert gap_series(steps[:1], 60.0) == []


def test_overview_counts():
    steps = (Step(0.1, None, 5.0), Step(0.25, 10.0, 9.95))
    some = [record(value=10.0, bound=10.0, wall_s=3.0), record(value=10.0, bound=9.95, steps=steps)]
    assert rows(tables.overview({"free": some, "convex": [*some, record()]})) == [
        ["free", "2", "1", "1", "2", "2", "0.50 %", "0.25", "3.0", "1"],
        ["convex", "3", "1", "1", "2", "2", "unknown", "0.25", "3.0", "1"],
    ]


def test_who_found_and_who_proved():
    records = [
        record(value=1.0, bound=1.0, found_by="segments", proved_by="ideals"),
        record(value=1.0, bound=0.9, found_by="segments", proved_by="cuts"),
        record(value=1.0, bound=1.0, found_by="ladder", proved_by="ideals"),
        record(),
    ]
    assert rows(tables.methods_table(records)) == [
        ["ideals", "0", "2", "2"],
        ["segments", "2", "0", "0"],
        ["cuts", "0", "1", "0"],
        ["ladder", "1", "0", "0"],
    ]


def test_wins_count_ties_for_all_and_false_bounds_for_none():
    records = [
        record("a", PLACEWRIGHT, 10.0, 9.0),
        record("a", HIGHS, 10.0 * (1 + 1e-9), 9.6),
        record("a", SCIP, 11.0, 10.5),  # above a verified value: no bound
        record("b", PLACEWRIGHT, 10.0, 10.0),
        record("b", HIGHS, None, 8.0, failure="no placement"),
    ]
    assert rows(tables.wins_table(records)) == [
        [PLACEWRIGHT, "2", "1", "1", "1", "1"],
        [HIGHS, "1", "1", "0", "0", "1"],
        [SCIP, "0", "0", "0", "0", "0"],
    ]


def test_a_bound_above_a_verified_value_is_told():
    one, other = record("a", PLACEWRIGHT, 10.0, 9.0), record("a", HIGHS, 12.0, 10.5)
    assert f"a, free: {HIGHS} claims a bound of 10.5 ms, a verified placement takes 10.0 ms." in tables.contradictions(
        [one, other]
    )
    elsewhere = record("a", HIGHS, 12.0, 10.5, partition="convex")
    assert tables.contradictions([one, elsewhere]).startswith("None")


def test_comparisons_take_ours_from_another_suite_but_not_from_another_limit():
    ours = record("a", PLACEWRIGHT, 10.0, 9.0)
    shorter = record("a", PLACEWRIGHT, 11.0, 8.0, time_limit_s=10.0)
    theirs = record("a", HIGHS, 10.0, 9.5, suite="programs")
    assert comparisons([ours, shorter, theirs]) == {("free", 60.0): [ours, theirs]}


def test_splits_are_multiples_of_ours_or_name_the_broken_rule():
    records = [
        record("a", PLACEWRIGHT, 10.0, 10.0, suite="acyclic", partition="acyclic"),
        record("a", "equal counts", 15.0, suite="splits", partition="acyclic"),
        record("a", "equal memory", suite="splits", partition="acyclic", failure="breaks memory"),
    ]
    markdown = tables.splits_table(records[1:], {key_of(r): r for r in records})
    assert rows(markdown) == [["a", "10.0000", "15.0000 (1.50×)", "breaks memory"]]


def test_report_holds_every_suite_and_survives_the_file():
    campaign = Campaign(
        {"commit": "abc", "dirty": True, "memory_bytes": 2**30},
        {"seed": 0},
        {"junk.json": "not JSON"},
        ["priced"],
        [
            record("a", PLACEWRIGHT, 10.0, 9.0, steps=(Step(0.1, 10.0, 9.0),)),
            record("a", HIGHS, 10.0, 9.5, suite="programs"),
            record("a", PLACEWRIGHT, suite="acyclic", partition="acyclic", failure="refused"),
        ],
    )
    again = Campaign.from_document(json.loads(json.dumps(campaign.to_document())))
    assert again == campaign
    text = tables.report(again, dict.fromkeys(tables.pictures(again.records), "picture.svg"))
    assert "commit: abc, with changes" in text
    assert "`junk.json`: not JSON" in text
    assert "refused" in text
    assert "without limits: `priced`." in text
    assert text.count("](picture.svg)") == 3
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Placewright in short",
        "## Acyclic, at most 60 s",
        "## Free, at most 60 s",
        "## The integer program of Tarnawski et al. (2020)",
        "## Contradictions",
    ]


@pytest.mark.parametrize(("gap", "text"), [(None, "unknown"), (0.0, "proved"), (5e-5, "< 0.01 %"), (0.123, "12.30 %")])
def test_gaps_in_words(gap, text):
    assert tables.percent(gap) == text


def test_pictures_are_the_same_for_the_same_records(tmp_path):
    records = [
        record("a", PLACEWRIGHT, 10.0, 9.0, steps=(Step(0.1, 12.0, 9.0), Step(2.0, 10.0, 9.0))),
        record("a", HIGHS, 10.0, 9.5, steps=(Step(30.0, 10.0, 9.5),)),
        record("unknown", PLACEWRIGHT),
    ]
    for name in ("one.svg", "other.svg"):
        draw_gaps(records, tmp_path / name)
    picture = (tmp_path / "one.svg").read_text()
    assert picture == (tmp_path / "other.svg").read_text()
    assert HIGHS in picture
    assert "unknown" in picture
