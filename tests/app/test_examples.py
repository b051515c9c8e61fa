"""What examples/ promises."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.openapi import EXAMPLES as EXAMPLES_OF_OPENAPI
from solver import formats

EXAMPLES = Path(__file__).parents[2] / "examples"
CLUSTERS = Path(__file__).parents[2] / "docs" / "clusters.md"
PRINTED = re.compile(r"solve examples/(\S+)\.json.*?^Period (\S+) ms", re.MULTILINE | re.DOTALL)
"""Each worked example and the period that its output shows."""


def test_the_generator_writes_the_demo_as_it_is_committed(tmp_path):
    subprocess.run([sys.executable, EXAMPLES / "generate_demo.py", tmp_path / "demo.json"], check=True, timeout=180)
    assert (tmp_path / "demo.json").read_bytes() == (EXAMPLES / "demo.json").read_bytes()


def test_every_example_is_a_valid_request():
    for path in EXAMPLES.glob("*.json"):
        assert formats.read(path.read_bytes()).instance.graph.operators


def test_the_demo_has_the_size_the_documentation_speaks_of():
    request = formats.read((EXAMPLES / "demo.json").read_bytes())
    assert len(request.instance.graph.operators) == 343
    assert len(request.instance.cluster.expand()) == 7
    assert json.loads((EXAMPLES / "demo.json").read_text())["graph"]["name"] == "decoder-24-layers"


def test_the_examples_of_the_package_are_the_same_files():
    packaged = Path(__file__).parents[2] / "app" / "static" / "examples"
    names = {path.name for path in packaged.iterdir()}
    assert names == {f"{name}.json" for name in EXAMPLES_OF_OPENAPI}
    assert all((EXAMPLES / name).samefile(packaged / name) for name in names)


def test_the_generator_writes_the_clusters_as_they_are_committed(tmp_path):
    subprocess.run([sys.executable, EXAMPLES / "generate_clusters.py", tmp_path], check=True, timeout=180)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written.keys() == {"two-nodes.json", "old-and-new.json", "edge-and-server.json"}
    assert written == {name: (EXAMPLES / name).read_bytes() for name in written}


@pytest.mark.parametrize(("name", "period_ms"), PRINTED.findall(CLUSTERS.read_text(encoding="utf-8")))
def test_worked_examples_are_solved_as_the_documentation_shows(solve, name, period_ms):
    instance = formats.read((EXAMPLES / f"{name}.json").read_bytes()).instance
    result = solve(instance, relative_gap=0.001, time_limit_s=120)
    assert result.relative_gap <= 0.001
    assert result.objective_value == pytest.approx(float(period_ms), rel=0.001)
