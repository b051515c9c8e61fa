"""Validating and evaluating: what is answered without a solve."""

from __future__ import annotations

import pytest

from app.schemas import (
    Evaluation,
    Explanation,
    Validation,
)
from tests.app.problem_checks import check


def test_validation_lists_faults_as_an_answer(client, tiny):
    good = client.post("/placements/validate", json=tiny).json()
    Validation.model_validate(good)
    assert good == {
        "valid": True,
        "issues": [],
        "num_issues": 0,
        "supported": True,
        "size": {"num_operators": 2, "num_edges": 1, "num_devices": 3, "num_assignments": 6},
    }
    tiny["graph"]["edges"][0]["target"] = "ghost"
    bad = client.post("/placements/validate", json=tiny)
    assert bad.status_code == 200
    assert not bad.json()["valid"]
    assert [issue["pointer"] for issue in bad.json()["issues"]] == ["/graph/edges/0/target"]
    check(
        client.post("/placements/validate", content=b"{", headers={"Content-Type": "application/json"}),
        400,
        "unreadable-document",
    )
    check(client.post("/placements/validate", content=b"{}"), 415, "unsupported-media-type")


def test_evaluation_recomputes(client, tiny):
    def evaluate(placement):
        return client.post("/placements/evaluate", json={"request": tiny, "placement": placement})

    answer = evaluate({"a": "gpu:0", "b": "gpu:1"}).json()
    Evaluation.model_validate(answer)
    assert (answer["valid"], answer["objective_value"]) == (True, pytest.approx(3.5))
    assert [stage["load_ms"] for stage in answer["stages"]] == pytest.approx([2.5, 3.5])
    broken = evaluate({"a": "gpu:0", "b": "gpu:9"})
    assert broken.status_code == 200
    assert not broken.json()["valid"]
    assert broken.json()["violations"][0]["code"]


def test_evaluation_says_why_when_asked(client, tiny):
    def evaluate(placement, **fields):
        answer = client.post("/placements/evaluate", json={"request": tiny, "placement": placement, **fields})
        assert answer.status_code == 200, answer.text
        Evaluation.model_validate(answer.json())
        return answer.json()

    together = {"a": "gpu:0", "b": "gpu:0"}
    plain = evaluate(together)
    assert "explanation" not in plain
    assert evaluate(together, explain=False) == plain
    answer = evaluate(together, explain=True)
    found = answer.pop("explanation")
    assert answer == plain
    Explanation.model_validate(found)
    assert found["period_ms"] == 5.0
    assert [load["is_bottleneck"] for load in found["loads"]] == [True]
    assert {tuple(move["operators"]) for move in found["moves"]} == {("a",), ("b",)}
    [move] = evaluate(together, explain="b")["explanation"]["moves"]
    for destination in move["destinations"]:
        then = evaluate(together | {"b": destination["device"]})
        assert (destination["period_ms"], destination["violations"]) == (then["objective_value"], then["violations"])
    assert evaluate({"a": "gpu:0"}, explain=True)["explanation"] is None


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        (lambda d: d.pop("placement"), ["/placement"]),
        (lambda d: d.update(explain=1), ["/explain"]),
        (lambda d: d.update(explain="ghost"), ["/explain"]),
        (lambda d: d.pop("request"), ["/request"]),
        (lambda d: d.update(extra=1), ["/extra"]),
        (lambda d: d["placement"].update(a=1), ["/placement/a"]),
        (lambda d: d.update(placement=[]), ["/placement"]),
        (lambda d: d["request"]["graph"]["edges"][0].update(target="ghost"), ["/request/graph/edges/0/target"]),
    ],
)
def test_evaluation_names_every_fault(client, tiny, change, pointers):
    document = {"request": tiny, "placement": {"a": "gpu:0", "b": "gpu:0"}}
    change(document)
    problem = check(client.post("/placements/evaluate", json=document), 422, "invalid-document")
    assert [issue["pointer"] for issue in problem["issues"]] == pointers
