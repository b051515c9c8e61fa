"""``placewright frontier``: the table, the document, the picture, the exit codes."""

import json
from pathlib import Path

import pytest

from app.cli import main
from app.frontier_plot import draw_frontier
from solver.result import Frontier, FrontierBound, FrontierPoint, SolverReport, Status, SweepStopReason

DOCUMENT = {
    "schema_version": 1,
    "graph": {
        "operators": [{"id": i, "compute_time_ms": {"new": 1.0, "old": 3.0}} for i in "abc"],
        "edges": [{"source": "a", "target": "b", "transfer_time_ms": 0.1}],
    },
    "cluster": {
        "devices": [
            {"id": "new", "kind": "new", "cost_per_hour": 4.0},
            {"id": "old", "kind": "old", "count": 2, "cost_per_hour": 1.0},
        ]
    },
}


@pytest.fixture
def run(tmp_path, capfd):
    """Run the command on the document with constraints; return its exit code, standard output and standard error."""

    def run(*arguments, document=DOCUMENT, constraints=None):
        path = tmp_path / "document.json"
        path.write_text(json.dumps({**document, "constraints": constraints or {}}))
        try:
            code = main(["frontier", str(path), "--workers", "1", *map(str, arguments)])
        except SystemExit as exit_:
            code = exit_.code
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def test_json_is_alone_on_standard_output_and_the_table_is_for_people(run):
    code, out, err = run("--json")
    answer = json.loads(out)
    assert code == 0
    assert (answer["status"], answer["stop_reason"]) == ("optimal", "proved")
    # One old device 9 ms, the new one 3 ms; two old ones share 6 + 3 (and c needs nothing of the others).
    worths = [(point["cost_per_hour"], point["period_ms"]) for point in answer["points"]]
    assert worths[:3] == [(1.0, 9.0), (2.0, pytest.approx(6.0)), (4.0, 3.0)]
    assert all(point["status"] == "optimal" for point in answer["points"])
    assert answer["bounds"][-1]["max_cost_per_hour"] == 6.0
    assert "OPTIMAL" in err
    assert "9.000" in err


def test_output_and_plot_are_written(run, tmp_path):
    pytest.importorskip("matplotlib")
    target, picture = tmp_path / "frontier.json", tmp_path / "frontier.svg"
    code, out, _ = run("--output", target, "--plot", picture)
    assert (code, out) == (0, "")
    assert json.loads(target.read_text())["status"] == "optimal"
    assert "<svg" in picture.read_text()
    assert "cost per hour of the devices used" in picture.read_text()


def test_fewer_points(run):
    cluster = {"devices": [{**device, "count": 3} for device in DOCUMENT["cluster"]["devices"]]}
    operators = [{"id": i, "compute_time_ms": {"new": 1.0, "old": 3.0}} for i in "abcdefg"]
    longer = {**DOCUMENT, "graph": {**DOCUMENT["graph"], "operators": operators}, "cluster": cluster}
    few, all_ = (json.loads(run("--json", *only, document=longer)[1]) for only in (["--points", 2], []))
    assert (few["stop_reason"], all_["stop_reason"]) == ("points_limit", "proved")
    assert few["num_searches"] < all_["num_searches"]
    assert run("--points", 0)[0] == 2


def test_exit_codes(run):
    code, out, err = run("--json", constraints={"max_cost_per_hour": 0.5})
    assert (code, json.loads(out)["points"]) == (1, [])
    assert "INFEASIBLE" in err
    unpriced = {**DOCUMENT, "cluster": {"devices": [{"id": "new", "kind": "new"}]}}
    code, out, err = run(document=unpriced)
    assert (code, out) == (2, "")
    assert "/cluster/devices/0/cost_per_hour" in err
    assert "'new'" in err


def test_a_plot_without_its_package_is_refused_before_the_search(run, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("app.commands.run_search", lambda *_: pytest.fail("the search began"))
    code, _, err = run("--plot", tmp_path / "frontier.svg")
    assert code == 2
    assert "placewright[plots]" in err


def test_plots_that_cannot_be_written_are_refused_before_the_search(run, monkeypatch):
    monkeypatch.setattr("app.commands.run_search", lambda *_: pytest.fail("the search began"))
    assert run("--plot", Path("nowhere") / "frontier.svg")[0] == 2


@pytest.mark.parametrize("bound", [None, 0.0, 2.0])
def test_any_frontier_with_a_point_can_be_drawn(bound):
    pytest.importorskip("matplotlib")
    frontier = Frontier(
        Status.FEASIBLE,
        SweepStopReason.TIME_LIMIT,
        (FrontierPoint(0.0, 2.0, 0.0, 0.0, {"a": "cpu"}, ()),),
        (FrontierBound(0.0, bound),),
        1.0,
        1,
        0.1,
        (),
        SolverReport(),
    )
    assert b"<svg" in draw_frontier(frontier)
