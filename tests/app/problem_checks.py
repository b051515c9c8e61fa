"""What every problem document has to be."""

from __future__ import annotations


def check(answer, status, kind):
    """The answer is the problem it should be; returned for a closer look."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"] == f"urn:placewright:problem:{kind}"
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    return problem
