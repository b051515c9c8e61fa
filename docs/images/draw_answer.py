"""Draw the stages of an answer as SVG: what each device spends per sample, against the proved bound.

Usage:
    placewright solve examples/demo.json --output answer.json
    python docs/images/draw_answer.py answer.json docs/images/demo.svg
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

WIDTH, ROW, BAR = 920, 44, 22
LEFT, RIGHT, TOP, BOTTOM = 110, 110, 74, 58
PARTS = (
    ("compute_time_ms", "compute", "#2f6f9f"),
    ("transfer_in_ms", "transfer in", "#e0a030"),
    ("transfer_out_ms", "transfer out", "#c8602a"),
)
INK, FAINT, BOUND = "#1f2933", "#6b7785", "#b00020"


def text(x: float, y: float, content: str, *, size: int = 13, colour: str = INK, anchor: str = "start") -> str:
    """One line of text."""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"'
    return f"<text {place}>{escape(content)}</text>"


def bar(x: float, y: float, width: float, colour: str) -> str:
    """One part of a stage."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'


def draw(answer: dict[str, Any]) -> str:
    """The picture of an answer of the throughput objective."""
    stages, bound, period = answer["stages"], answer["best_bound"], answer["objective_value"]
    height = TOP + ROW * len(stages) + BOTTOM
    scale = (WIDTH - LEFT - RIGHT) / max(stage["load_ms"] for stage in stages)
    operators = sum(len(stage["operators"]) for stage in stages)
    title = (
        f"{operators} operators on {len(stages)} devices: period {period:.2f} ms, {1000 / period:.2f} samples a second"
    )
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(20, 30, title, size=17),
    ]
    x = float(LEFT)
    for _, label, colour in PARTS:
        shapes += [bar(x, 42, 14, colour).replace(f'height="{BAR}"', 'height="12"'), text(x + 20, 53, label, size=12)]
        x += 120
    for index, stage in enumerate(stages):
        y = TOP + ROW * index
        x = float(LEFT)
        shapes.append(text(LEFT - 12, y + 15, stage["device"], anchor="end"))
        for key, _, colour in PARTS:
            shapes.append(bar(x, y, stage[key] * scale, colour))
            x += stage[key] * scale
        shapes.append(text(WIDTH - RIGHT + 10, y + 15, f"{stage['load_ms']:.2f} ms"))
        first, last = stage["operators"][0], stage["operators"][-1]
        shapes.append(text(LEFT, y + BAR + 12, f"{len(stage['operators'])}: {first} … {last}", size=11, colour=FAINT))
    edge, end = LEFT + bound * scale, TOP + ROW * len(stages)
    line = f'x1="{edge:.1f}" y1="{TOP - 8}" x2="{edge:.1f}" y2="{end + 6}" stroke="{BOUND}" stroke-dasharray="5 4"'
    words = f"proved: no placement has a period below {bound:.2f} ms"
    shapes += [f"<line {line}/>", text(edge, end + 24, words, size=12, colour=BOUND, anchor="end"), "</svg>"]
    return "\n".join(shapes) + "\n"


def main() -> None:
    """Read an answer, write its picture."""
    answer, picture = Path(sys.argv[1]), Path(sys.argv[2])
    picture.write_text(draw(json.loads(answer.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
