"""The command line, called in this process: what each command says, prints and returns."""

import contextlib
import json
import os
import sys
import types
from copy import deepcopy
from pathlib import Path

import pytest

from app.cli import main
from solver.errors import Issue, UnsupportedInstance

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = json.loads((EXAMPLES / "tiny.json").read_text())


@pytest.fixture
def write(tmp_path):
    """Write a document (or raw bytes) to a file of its own and return the path."""

    def write(document, name="document.json"):
        path = tmp_path / name
        path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
        return str(path)

    return write


@pytest.fixture
def run(capfd, monkeypatch):
    """Run a command; return its exit code, standard output and standard error."""
    monkeypatch.delenv("COLUMNS", raising=False)  # which pytest hands to its workers

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:  # argparse: usage errors, --help, --version
            code = exit_.code
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def changed(**changes):
    """The tiny document with fields replaced; the name of a field leads to it with double underscores."""
    document = deepcopy(TINY)
    for name, value in changes.items():
        *parents, last = name.split("__")
        record = document
        for part in parents:
            record = record[int(part) if part.isdigit() else part]
        record[int(last) if last.isdigit() else last] = value
    return document


# --- solve ---------------------------------------------------------------------------------------------------------


def test_solve_prints_the_answer_alone_on_standard_output(run):
    code, out, err = run("solve", EXAMPLES / "tiny.json", "--json", "--workers", 1)
    answer = json.loads(out)
    assert code == 0
    assert (answer["status"], answer["stop_reason"]) == ("optimal", "proved")
    assert answer["objective_value"] == pytest.approx(3.5)
    assert answer["relative_gap"] == pytest.approx(0, abs=1e-6)
    assert answer["placement"]["a"] != answer["placement"]["b"]
    assert answer["solver"]["workers"] == 1
    assert "OPTIMAL" in err


def test_solve_without_json_keeps_standard_output_empty_and_shows_the_bottleneck(run):
    code, out, err = run("solve", EXAMPLES / "tiny.json", "--workers", 1)
    assert (code, out) == (0, "")
    assert "Period 3.500 ms = 285.71 samples a second" in err
    (bottleneck,) = [line for line in err.splitlines() if line.rstrip().endswith("bottleneck")]
    assert "3.000" in bottleneck
    assert "0.5000" in bottleneck


def test_options_override_the_document(run, write):
    document = changed(solver={"seed": 7, "workers": 2, "time_limit_s": 9})
    _, out, _ = run("solve", write(document), "--json", "--seed", 3)
    assert (json.loads(out)["solver"]["seed"], json.loads(out)["solver"]["workers"]) == (3, 2)


def test_partition_option_changes_the_problem(run, write):
    # a → b → c with a and c bound to one device: a circle of devices unless the partition is free.
    document = changed(
        graph={
            "operators": [{"id": i, "compute_time_ms": {"gpu": 1}} for i in "abc"],
            "edges": [{"source": "a", "target": "b"}, {"source": "b", "target": "c"}],
        },
        constraints={"pinned": {"a": "gpu:0", "b": "gpu:1", "c": "gpu:0"}},
    )
    path = write(document)
    assert run("solve", path, "--workers", 1)[0] == 1
    assert run("solve", path, "--workers", 1, "--partition", "free")[0] == 0
    placement = write(document["constraints"]["pinned"], "placement.json")
    assert run("verify", path, placement)[0] == 1
    assert run("verify", path, placement, "--partition", "free")[0] == 0


def test_proved_infeasible_is_1_with_reasons_in_words(run, write):
    document = changed(graph__operators__1__memory_bytes=10**12, graph__operators__1__compute_time_ms={"gpu": 1.0})
    code, out, err = run("solve", write(document), "--json", "--workers", 1)
    answer = json.loads(out)
    assert code == 1
    assert (answer["status"], answer["placement"]) == ("infeasible", None)
    assert answer["infeasibility"]
    assert "INFEASIBLE" in err
    assert answer["infeasibility"][0]["message"] in err


def test_output_is_written_in_one_step_and_keeps_its_mode(run, tmp_path):
    target, link = tmp_path / "answer.json", tmp_path / "link.json"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    code, out, _ = run("solve", EXAMPLES / "tiny.json", "--output", link, "--workers", 1)
    assert (code, out) == (0, "")
    assert json.loads(target.read_text())["status"] == "optimal"
    assert target.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.json", "link.json"]


def test_output_and_json_together(run, tmp_path):
    code, out, _ = run("solve", EXAMPLES / "tiny.json", "--output", tmp_path / "a.json", "--json", "--workers", 1)
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "a.json").read_text())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_does_not_lose_the_answer(run):
    code, out, err = run("solve", EXAMPLES / "tiny.json", "--output", "/dev/full", "--workers", 1)
    assert code == 2
    assert json.loads(out)["status"] == "optimal"
    assert "cannot write /dev/full: No space left on device" in err


def test_a_disk_that_fills_up_leaves_the_old_file_and_no_rubbish(run, tmp_path, monkeypatch):
    target = tmp_path / "answer.json"
    target.write_text("old")

    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    code, out, err = run("solve", EXAMPLES / "tiny.json", "--output", target, "--workers", 1)
    assert code == 2
    assert json.loads(out)["status"] == "optimal"
    assert "No space left" in err
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["answer.json"]


@pytest.mark.parametrize(
    ("output", "reason"),
    [(".", "Is a directory"), ("missing/answer.json", "No such file or directory"), ("nu\0ll", "null")],
)
def test_an_impossible_output_is_refused_before_the_search(run, tmp_path, monkeypatch, output, reason):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("app.commands.run_search", lambda *_: pytest.fail("the search began"))
    code, out, err = run("solve", EXAMPLES / "tiny.json", "--output", output)
    assert (code, out) == (2, "")
    assert reason in err


def test_unicode_ids_come_out_as_they_went_in(run, write):
    document = changed(graph__operators__0__id="Wärme→層", graph__edges=[])
    code, out, _ = run("solve", write(document), "--json", "--workers", 1)
    assert code == 0
    assert "Wärme→層" in out
    assert set(json.loads(out)["placement"]) == {"Wärme→層", "b"}


def test_control_characters_of_a_document_do_not_reach_the_terminal(run, write):
    document = changed(graph__operators__0__id="a\x1b[31m", graph__edges=[], cluster__devices__0__id="gpu\x07[bold]")
    code, _, err = run("solve", write(document), "--workers", 1)
    assert code == 0
    assert "gpu\\x07[bold]:" in err
    assert "\x1b" not in err
    assert "\x07" not in err


def test_a_defect_is_not_mistaken_for_an_answer(capfd, monkeypatch):
    def fail(*_):
        raise RuntimeError("boom")

    monkeypatch.setattr("app.commands.run_search", fail)
    code = main(["solve", str(EXAMPLES / "tiny.json"), "--json"])
    out, err = capfd.readouterr()
    assert (code, out) == (70, "")
    assert "defect of Placewright" in err


# --- verify --------------------------------------------------------------------------------------------------------


def test_verify_recomputes_the_objective(run, write):
    placement = write({"placement": {"a": "gpu:0", "b": "gpu:1"}}, "placement.json")
    code, out, err = run("verify", EXAMPLES / "tiny.json", placement, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["valid"], found["objective_value"], found["violations"]) == (True, 3.5, [])
    assert [stage["load_ms"] for stage in found["stages"]] == [2.5, 3.5]
    assert "VALID" in err


def test_verify_names_every_violation(run, write):
    document = changed(constraints={"pinned": {"a": "gpu:0"}}, cluster__devices__0__memory_bytes=1500)
    placement = write({"a": "gpu:1", "b": "gpu:1"}, "placement.json")
    code, out, err = run("verify", write(document), placement, "--json")
    assert code == 1
    assert {v["code"] for v in json.loads(out)["violations"]} == {"pinned", "memory"}
    assert "2 violations" in err
    assert "[pinned]" in err
    assert "[memory]" in err


def test_verify_without_json_prints_nothing_on_standard_output(run, write):
    code, out, err = run("verify", EXAMPLES / "tiny.json", write({"a": "gpu:0"}, "placement.json"))
    assert (code, out) == (1, "")
    assert "operator 'b' is not placed" in err


@pytest.mark.parametrize(
    ("placement", "words"),
    [(b"[", "not JSON"), ([], "no placement"), ({}, "no placement"), ({"a": 1}, "expected the name of a device")],
)
def test_verify_refuses_what_is_no_placement(run, write, placement, words):
    code, out, err = run("verify", EXAMPLES / "tiny.json", write(placement, "placement.json"))
    assert (code, out) == (2, "")
    assert words in err
    assert "placement.json" in err


@pytest.mark.parametrize("command", ["verify", "explain"])
def test_only_one_document_can_be_standard_input(run, command):
    assert run(command, "-", "-")[::2] == (2, "error: FILE and PLACEMENT cannot both be standard input\n")


# --- explain -------------------------------------------------------------------------------------------------------


def test_explain_adds_why_to_what_verify_says(run, write):
    placement = write({"a": "gpu:0", "b": "gpu:0"}, "placement.json")
    code, out, err = run("explain", EXAMPLES / "tiny.json", placement, "--json")
    document = json.loads(out)
    found = document.pop("explanation")
    assert code == 0
    assert document == json.loads(run("verify", EXAMPLES / "tiny.json", placement, "--json")[1])
    assert found["period_ms"] == document["objective_value"] == 5.0
    assert found["loads"][0]["bound_by"] == ["compute"]
    assert {tuple(move["operators"]) for move in found["moves"]} == {("a",), ("b",)}
    for words in ("VALID", "What binds it", "Moving a from gpu:0", "Where help would matter most", "not solved again"):
        assert words in err


def test_explain_looks_at_the_operator_it_is_asked_about(run, write):
    placement = write({"a": "gpu:0", "b": "gpu:1"}, "placement.json")
    code, out, err = run("explain", EXAMPLES / "tiny.json", placement, "--operator", "a")
    assert (code, out) == (0, "")
    assert "Moving a from gpu:0" in err
    assert "Moving b" not in err
    assert "Tensors that cost most, of 1 that travel" in err


def test_explain_also_explains_what_breaks_rules(run, write):
    document = changed(constraints={"pinned": {"a": "gpu:0"}}, objective__schedule="gpipe")
    placement = write({"a": "gpu:1", "b": "gpu:1"}, "placement.json")
    code, out, err = run("explain", write(document), placement, "--json", "--operator", "a")
    assert code == 1
    destinations = json.loads(out)["explanation"]["moves"][0]["destinations"]
    assert destinations[0]["device"] == "gpu:0"
    assert destinations[0]["violations"] == []
    assert [v["code"] for v in destinations[1]["violations"]] == ["pinned"]
    assert "forward" in err


def test_explain_shows_what_moves_cost(run, write):
    document = changed(objective={"kind": "cost"}, cluster__devices__0__cost_per_hour=2.5)
    placement = write({"a": "gpu:0", "b": "gpu:0"}, "placement.json")
    code, out, err = run("explain", write(document), placement, "--json", "--operator", "a")
    found = json.loads(out)["explanation"]
    assert (code, found["cost_per_hour"], found["period_ms"]) == (0, 2.5, 5.0)
    prices = {d["device"]: d["cost_per_hour"] for d in found["moves"][0]["destinations"]}
    assert prices == {"gpu:1": 5.0, "cpu": 2.5}
    assert "cost an hour" in err


def test_explain_of_an_incomplete_placement_names_what_is_missing(run, write):
    placement = write({"a": "gpu:0"}, "placement.json")
    code, out, err = run("explain", EXAMPLES / "tiny.json", placement, "--json")
    assert (code, json.loads(out)["explanation"]) == (1, None)
    assert "operator 'b' is not placed" in err


def test_explain_refuses_what_it_cannot_explain(run, write):
    placement = write({"a": "gpu:0", "b": "gpu:0"}, "placement.json")
    code, out, err = run("explain", EXAMPLES / "tiny.json", placement, "--operator", "ghost")
    assert (code, out) == (2, "")
    assert "argument --operator" in err
    assert "no operator 'ghost'" in err
    code, out, err = run("explain", EXAMPLES / "tiny.json", placement, "--objective", "latency")
    assert (code, out) == (2, "")
    assert "unsupported_objective" in err
    assert run("explain", EXAMPLES / "tiny.json", "nowhere.json")[:2] == (2, "")


# --- convert -------------------------------------------------------------------------------------------------------

MSR = {
    "maxFPGAs": 2,
    "maxCPUs": 1,
    "maxSizePerFPGA": 100.0,
    "nodes": [
        {"id": 1, "supportedOnFpga": 1, "cpuLatency": 20.0, "fpgaLatency": 2.0, "isBackwardNode": 0, "size": 10.0},
        {"id": 2, "supportedOnFpga": 0, "cpuLatency": 3.0, "fpgaLatency": 1.0, "isBackwardNode": 0, "size": 10.0},
    ],
    "edges": [{"sourceId": 1, "destId": 2, "cost": 0.5, "size": 8.0}],
}


def test_convert_gives_a_document_with_the_same_optimum(run, write, tmp_path):
    path, converted = write(MSR), tmp_path / "native.json"
    code, out, _ = run("convert", path, "--to", "native")
    assert code == 0
    assert json.loads(out)["schema_version"] == 1
    assert run("convert", path, "--to", "native", "--output", converted)[:2] == (0, "")
    assert converted.read_text() == out
    values = [json.loads(run("solve", p, "--json", "--workers", 1)[1])["objective_value"] for p in (path, converted)]
    assert values == [3.0, 3.0]


def test_convert_needs_a_target(run):
    assert run("convert", EXAMPLES / "tiny.json")[0] == 2
    assert run("convert", EXAMPLES / "tiny.json", "--to", "msr")[0] == 2


# --- bad input -----------------------------------------------------------------------------------------------------

OPERATOR = {"id": "a", "compute_time_ms": {"gpu": 1}}
FAULTS = {
    "broken JSON": (b'{"graph": ', "not JSON"),
    "nothing": (b"", "not JSON"),
    "binary": (bytes(range(256)), "not UTF-8"),
    "deep": (b"[" * 200_000, "deeply"),
    "a list": (b"[]", "the document"),
    "null": (b"null", "the document"),
    "NaN": (changed(graph__operators__0__memory_bytes=float("nan")), "/graph/operators/0/memory_bytes"),
    "infinity": (changed(graph__operators__0__compute_time_ms={"gpu": float("inf")}), "not_finite"),
    "negative": (changed(graph__operators__0__compute_time_ms={"gpu": -1}), "/graph/operators/0/compute_time_ms/gpu"),
    "wrong type": (changed(graph__operators="none"), "wrong_type"),
    "text for a number": (changed(graph__operators__0__memory_bytes="1000"), "wrong_type"),
    "unknown field": (changed(graph__operators__0__memory=1), "unknown_field"),
    "unknown value": (changed(objective__kind="speed"), "unknown_value"),
    "schema version": (changed(schema_version=2), "/schema_version"),
    "no graph": ({"cluster": TINY["cluster"]}, "missing_field"),
    "empty graph": (changed(graph__operators=[], graph__edges=[]), "empty_graph"),
    "no devices": (changed(cluster__devices=[]), "no_devices"),
    "zero devices": (changed(cluster__devices=[{"id": "gpu", "kind": "gpu", "count": 0}]), "no_devices"),
    "duplicate operator": (changed(graph__operators=[OPERATOR, OPERATOR], graph__edges=[]), "duplicate_operator_id"),
    "duplicate device": (changed(cluster__devices=[{"id": "gpu", "kind": "gpu"}] * 2), "duplicate_device_id"),
    "duplicate key": (b'{"graph": {}, "graph": {}}', "duplicate_key"),
    "unknown operator": (changed(graph__edges__0__target="c"), "/graph/edges/0/target"),
    "unknown device": (changed(constraints={"pinned": {"a": "tpu"}}), "/constraints/pinned/a"),
    "self-loop": (changed(graph__edges__0__target="a"), "self_loop"),
    "cycle": (changed(graph__edges=[{"source": "a", "target": "b"}, {"source": "b", "target": "a"}]), "cycle"),
    "half a surrogate": (json.dumps(changed(graph__operators__0__id="\ud800")).encode(), "invalid_text"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_named_on_standard_error_alone(run, write, fault):
    document, words = FAULTS[fault]
    for arguments in (("solve", write(document), "--json"), ("convert", write(document), "--to", "native")):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert words in err
        assert "document.json" in err


def test_what_no_method_can_solve_is_refused_in_words(run, monkeypatch):
    def refuse(*_):
        issue = Issue("unsupported_objective", "no method for it", ("objective", "kind"), "use 'throughput'")
        raise UnsupportedInstance((issue,))

    monkeypatch.setattr("app.commands.run_search", refuse)
    code, out, err = run("solve", EXAMPLES / "tiny.json", "--json")
    assert (code, out) == (2, "")
    assert "/objective/kind: no method for it [unsupported_objective] (use 'throughput')" in err


def test_a_thousand_faults_are_counted_and_twenty_shown(run, write):
    operators = [{"id": f"o{i}", "compute_time_ms": {"gpu": -1}} for i in range(1000)]
    code, _, err = run("solve", write(changed(graph__operators=operators, graph__edges=[])))
    assert code == 2
    assert "1000 faults" in err
    assert "… and 980 more" in err
    assert len(err.splitlines()) == 22


def test_every_fault_is_named_at_once(run, write):
    document = changed(graph__edges__0__source="x", cluster__devices__0__count=-1, solver__seed="s")
    _, _, err = run("solve", write(document))
    for pointer in ("/graph/edges/0/source", "/cluster/devices/0/count", "/solver/seed"):
        assert pointer in err


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing.json", "No such file"), (".", "Is a directory"), ("nu\0ll", "null"), ("x" * 5000, "too long")],
)
def test_a_file_that_cannot_be_read(run, tmp_path, monkeypatch, path, reason):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("solve", path)
    assert (code, out) == (2, "")
    assert "cannot read" in err
    assert reason in err


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["solve", ""], "FILE"),
        (["verify", "tiny.json", ""], "PLACEMENT"),
        (["solve", "tiny.json", "--output", ""], "--output"),
        (["frontier", "tiny.json", "--plot", ""], "--plot"),
    ],
)
def test_an_empty_file_name_is_called_so(run, monkeypatch, arguments, name):
    monkeypatch.chdir(EXAMPLES)
    code, _, err = run(*arguments)
    assert code == 2
    assert f"argument {name}: the name is empty" in err


def test_a_placement_that_is_none_is_told_in_the_words_of_the_document(run, write):
    placement = write({"a": None, "b": {}, "c": [], "d": 3}, "placement.json")
    _, _, err = run("verify", EXAMPLES / "tiny.json", placement)
    assert [line.split("[")[0] for line in err.splitlines()[1:]] == [
        f"  /{name}: expected the name of a device, found {found} "
        for name, found in [("a", "null"), ("b", "an object"), ("c", "an array"), ("d", "3")]
    ]


def test_a_period_too_short_for_a_number_of_samples(run, write):
    operators = [{"id": "a", "compute_time_ms": {"gpu": 1e-310}}]
    code, _, err = run("solve", write(changed(graph={"operators": operators})), "--workers", 1)
    assert code == 0
    assert "Period 1.000e-310 ms; 1 operator on 1 device" in err


def test_whole_things_are_counted_as_such(run, write):
    operators = [{"id": name, "compute_time_ms": {"gpu": 1}, "memory_bytes": 2} for name in "ab"]
    devices = [{"id": "gpu", "kind": "gpu", "memory_bytes": 3}]
    _, _, err = run(
        "solve", write({"graph": {"operators": operators}, "cluster": {"devices": devices}}), "--workers", 1
    )
    assert "2 operators that can only sit on 1 device need 4 bytes together, 1 more than the 3 there are" in err
    assert "needed 4 bytes, available 3 bytes" in err
    assert "1 byte on 'gpu'; less will not do" in err
    assert "needed 1 byte, available 0 bytes" in err


def test_a_file_without_permission(run, write, monkeypatch):
    path = write(TINY)

    def refuse(_self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)  # the super-user of a container may read everything
    code, _, err = run("solve", path)
    assert code == 2
    assert "Permission denied" in err


# --- usage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("improve",),
        ("solve",),
        ("solve", "tiny.json", "--partition", "cyclic"),
        ("solve", "tiny.json", "--time-limit", "soon"),
        ("solve", "tiny.json", "--part", "free"),
        ("serve", "--port", "65536"),
        ("serve", "--port", "http"),
    ],
)
def test_usage_errors_are_2(run, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "usage: placewright" in err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--time-limit", "0"),
        ("--time-limit", "-1"),
        ("--time-limit", "nan"),
        ("--time-limit", "inf"),
        ("--gap", "-0.1"),
        ("--gap", "1.5"),
        ("--workers", "0"),
        ("--seed", "-1"),
    ],
)
def test_options_out_of_range_are_2_and_named(run, option, value):
    code, out, err = run("solve", EXAMPLES / "tiny.json", f"{option}={value}")
    assert (code, out) == (2, "")
    assert f"argument {option}:" in err


def test_version(run):
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("placewright 0.")


def test_serve_says_which_package_is_missing(run, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("app.main")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "app.main", None)

    class Missing:
        @staticmethod
        def find_spec(name, *_):
            if name == "app.main":
                raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")

    monkeypatch.delitem(sys.modules, "app.main")
    monkeypatch.setattr(sys, "meta_path", [Missing, *sys.meta_path])
    code, _, err = run("serve")
    assert code == 2
    assert "pip install 'placewright[service]'" in err


def test_serve_passes_host_and_port_on(run, monkeypatch):
    calls = []
    module = types.ModuleType("app.main")
    module.serve = lambda *arguments, **options: calls.append((*arguments, options))
    monkeypatch.setitem(sys.modules, "app.main", module)
    with contextlib.suppress(AttributeError):
        monkeypatch.delattr("app.main")
    assert run("serve", "--host", "0.0.0.0", "--port", "8123")[0] == 0
    assert run("dispatch")[0] == 0
    assert calls == [
        ("0.0.0.0", 8123, {"has_placements": True}),
        ("127.0.0.1", 8001, {"has_placements": False}),
    ]


def test_serve_names_a_setting_that_is_wrong(run, monkeypatch):
    monkeypatch.setenv("PLACEWRIGHT_SLOTS", "many")
    monkeypatch.setenv("PLACEWRIGHT_MAX_ATTEMPTS", "0")
    code, out, err = run("serve")
    assert (code, out) == (2, "")
    assert "PLACEWRIGHT_SLOTS: " in err
    assert "PLACEWRIGHT_MAX_ATTEMPTS: " in err
    monkeypatch.undo()
    monkeypatch.setenv("PLACEWRIGHT_DATABASE_URL", "nonsense")
    code, _, err = run("serve")
    assert code == 2
    assert err.startswith("error: database_url must name a SQLite file or a PostgreSQL database")


def test_serve_names_every_setting_that_is_misspelt_or_cannot_be_read(run, monkeypatch):
    monkeypatch.setenv("PLACEWRIGHT_MAX_WORKER", "1")
    monkeypatch.setenv("PLACEWRIGHT_CORS_ORIGINS", "https://app.example.org")
    monkeypatch.setenv("PLACEWRIGHT_WEBHOOK_SECRET", "whsec_abc")
    monkeypatch.setenv("PLACEWRIGHT_SERVICE_PORT_HTTP", "8000")  # of somebody else
    code, out, err = run("serve")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: PLACEWRIGHT_MAX_WORKER: there is no such setting; is PLACEWRIGHT_MAX_WORKERS meant?",
        '  PLACEWRIGHT_CORS_ORIGINS: give a JSON list; example: ["https://app.example.org"]',
        "  PLACEWRIGHT_WEBHOOK_SECRET: a webhook secret is whsec_ and at least 24 random bytes in base64",
    ]


def test_a_missing_webhook_secret_says_what_one_is(run):
    code, _, err = run("webhook-secret")
    assert code == 2
    assert "PLACEWRIGHT_WEBHOOK_SECRET is not set: set it to whsec_ and at least 24 random bytes in base64" in err


def test_serve_on_a_port_in_use(run, monkeypatch):
    def serve(_host, _port, **_options):
        raise OSError(98, "Address already in use")

    module = types.ModuleType("app.main")
    module.serve = serve
    monkeypatch.setitem(sys.modules, "app.main", module)
    code, _, err = run("serve")
    assert code == 2
    assert "cannot serve on 127.0.0.1:8000: Address already in use" in err
