"""Every code that a document, a placement or an answer can earn stands in docs/documents.md, and no other."""

import ast
import re
from pathlib import Path

import pytest

from solver import relaxations
from solver.formats import document_faults

ROOT = Path(__file__).parents[2]
SECTIONS = {
    "Issue": "### Faults of a document",
    "Violation": "### Violations of a placement",
    "InfeasibilityReason": "### Reasons of infeasibility",
}


def codes_of(record):
    """First arguments of every construction of the record; of a variable, the texts that look like a code nearby."""
    codes = set()
    for path in (ROOT / "solver").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and getattr(call.func, "id", None) == record and call.args:
                    codes |= {
                        node.value
                        for node in ast.walk(call.args[0])
                        if isinstance(node, ast.Constant) and isinstance(node.value, str)
                    }
    return codes


def documented(heading):
    text = (ROOT / "docs/documents.md").read_text()
    section = text.split(heading)[1].split("\n#")[0]
    return {code for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for code in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize("record", SECTIONS)
def test_codes_are_documented(record):
    found = codes_of(record)
    assert found, "no code was found in the sources"
    if record == "Issue":
        # Named in tables rather than in the call.
        found |= set(document_faults.CODES.values()) | {"tensor_bytes_mismatch", "tensor_transfer_time_mismatch"}
    if record == "InfeasibilityReason":
        found |= {rule.code for rule in relaxations.RULES}
    assert found == documented(SECTIONS[record])
