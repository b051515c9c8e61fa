"""The chart, rendered by Helm's own engine (which helm-python-sdk carries), and what Kubernetes would say of it."""

from __future__ import annotations

from pathlib import Path

import helm_python
import pytest
import yaml

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "placewright"


class UniqueKeys(yaml.SafeLoader):
    """Helm and Kubernetes would silently take the last of two equal keys."""

    def construct_mapping(self, node, deep=False):  # noqa: FBT002
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key twice in {node.start_mark}"
        return super().construct_mapping(node, deep)


@pytest.fixture(scope="session")
def render():
    """The objects of a release with these values."""
    with helm_python.Chart.load(CHART) as chart:

        def render(values=None, name="demo"):
            files = chart.render(values or {}, name=name, namespace="placement")
            texts = (text for path, text in files.items() if path.endswith(".yaml"))
            objects = [thing for text in texts for thing in yaml.load_all(text, UniqueKeys) if thing]
            assert objects
            return objects

        yield render
