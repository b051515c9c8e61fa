"""What examples/ promises."""

import json
import subprocess
import sys
from pathlib import Path

from app.openapi import EXAMPLES as EXAMPLES_OF_OPENAPI
from solver import formats

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_generator_writes_the_demo_as_it_is_committed(tmp_path):
    subprocess.run([sys.executable, EXAMPLES / "generate_demo.py", tmp_path / "demo.json"], check=True, timeout=60)
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
