"""The frontier as a picture. Needs matplotlib, the extra ``plots``."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from solver.result import Frontier

MARGIN = 0.08


def draw_frontier(frontier: Frontier) -> bytes:
    """A picture as SVG of a frontier with points: the points, the steps between them, and where nothing can lie."""
    costs = [point.cost_per_hour for point in frontier.points]
    periods = [point.period_ms for point in frontier.points]
    right = costs[-1] + MARGIN * (costs[-1] - costs[0] or costs[-1] or 1.0)
    top = (periods[0] or 1.0) * (1 + MARGIN)
    # Text stays text, and the same frontier gives the same file.
    with mpl.rc_context({"svg.hashsalt": "placewright", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        ends = [0.0, *(bound.max_cost_per_hour for bound in frontier.bounds[:-1]), right]
        heights = [math.inf if b.least_period_ms is None else b.least_period_ms for b in frontier.bounds]
        floor = [min(height, top) for height in (heights[0], *heights)]
        axes.fill_between(ends, floor, step="pre", color="0.88", linewidth=0, label="nothing can lie here (proved)")
        axes.step([*costs, right], [*periods, periods[-1]], where="post", color="C0", linewidth=1.0)
        axes.plot(costs, periods, "o", color="C0", markersize=4, label="placements")
        axes.set_xlim(0, right)
        axes.set_ylim(0, top)
        axes.set_xlabel("cost per hour of the devices used")
        axes.set_ylabel("period, ms")
        axes.legend(loc="upper right")
        picture = io.BytesIO()
        figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()
