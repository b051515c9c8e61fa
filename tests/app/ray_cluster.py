"""A Ray cluster of several nodes on this machine."""

from __future__ import annotations

import os


class RayCluster:
    """A head without cores of its own, and nodes of one core each; ray is imported only where it is used."""

    def __init__(self, nodes, cpus=1):
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        self._cpus = cpus
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._nodes = [self._add() for _ in range(nodes)]
        self._cluster.wait_for_nodes()
        self.address = self._cluster.address

    def _add(self):
        return self._cluster.add_node(num_cpus=self._cpus)

    def add_node(self):
        """A node more."""
        self._nodes.append(self._add())

    def kill_node(self):
        """A node goes without a word, with everything on it."""
        self._cluster.remove_node(self._nodes.pop(0), allow_graceful=False)

    def stop(self):
        """Nothing is left."""
        self._cluster.shutdown()
