"""Mutated documents against a real server: no 5xx, no hang, no job that ends as a defect (``make test-fuzz``)."""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.app.live_server import LiveServer

EXAMPLES = Path(__file__).parents[2] / "app" / "static" / "examples"
PATIENCE_S = 600
_ODD = (
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e-320, 1e308, 2**53, 2**63, 10**400, "", " ", "a", "gpu", "gpu:0",
    "gpu:-1", "\x00", "\ud800", "é" * 300, "x" * 2000,
    [], {}, [[]], {"": {}}, [None], {"a": None}, "NaN", "throughput", "free",
)  # fmt: skip


def mutate(document, draw):
    """A copy with one to four parts changed, dropped, doubled or exchanged."""
    document = copy.deepcopy(document)
    for _ in range(draw.randrange(1, 5)):
        places = list(_places(document))
        container, key = draw.choice(places)
        if key not in (container if isinstance(container, dict) else range(len(container))):
            continue
        match draw.randrange(6):
            case 0:
                del container[key]
            case 1:
                container[key] = copy.deepcopy(draw.choice(_ODD))
            case 2 if isinstance(container[key], int | float):
                container[key] = container[key] * draw.choice((-1, 0, 1e-9, 1e9, 1e300))
            case 3:
                other, other_key = draw.choice(places)
                if other_key in (other if isinstance(other, dict) else range(len(other))):
                    container[key] = copy.deepcopy(other[other_key])
            case 4 if isinstance(container, list):
                container.insert(key, copy.deepcopy(container[key]))
            case _ if isinstance(container, dict):
                container[str(key) + draw.choice(("", "x", "\x00"))] = copy.deepcopy(draw.choice(_ODD))
    return document


def spoil(text, draw):
    """The bytes of a document, now and then damaged as text."""
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if draw.random() < 0.1:
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def _places(value):
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def run(live, count, seed=0):
    """Send so many; the statuses, and what went wrong."""
    draw = random.Random(seed)
    originals = [json.loads((EXAMPLES / f"{name}.json").read_text()) for name in ("tiny", "transformer")]
    statuses, faults = Counter(), []
    for number in range(count):
        document = mutate(originals[number % 4 == 0], draw)
        path = draw.choice(("/placements", "/placements/validate", "/placements/evaluate"))
        if path.endswith("evaluate"):
            document = mutate(
                {"request": document, "placement": {"a": "gpu:0", "b": "cpu"}, "explain": draw.choice((True, "a"))},
                draw,
            )
        body = spoil(json.dumps(document), draw)
        headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
        answer = live.http.post(path, content=body, headers=headers)
        statuses[path.rpartition("/")[2], answer.status_code] += 1
        kind = answer.headers.get("Content-Type")
        if answer.status_code >= 500 or (answer.status_code >= 400) != (kind == "application/problem+json"):
            faults.append(f"{path} {answer.status_code} {kind} for {body!r}: {answer.text}"[:2000])
    faults += _drain(live.http)
    return statuses, faults


def _drain(http):
    """What became of the documents that were taken in."""
    deadline = time.monotonic() + PATIENCE_S
    while http.get("/metrics").text.count("\n") and time.monotonic() < deadline:
        waiting = [http.get("/placements", params={"state": s}).json()["placements"] for s in ("queued", "running")]
        if not any(waiting):
            failed = http.get("/placements", params={"state": "failed", "limit": 1000}).json()["placements"]
            return [f"failed: {job['error']}" for job in failed]
        time.sleep(0.2)
    return ["the jobs did not end"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.monotonic()
    folder = tempfile.TemporaryDirectory(prefix="placewright-fuzz-")
    with folder, LiveServer(folder.name, MAX_TIME_LIMIT_S=0.05) as live:
        statuses, faults = run(live, arguments.documents, arguments.seed)
        live.kill()
        left = live.wait_for_no_processes()
    print(f"{arguments.documents} documents, {time.monotonic() - began:.0f} s")
    for (path, status), count in sorted(statuses.items()):
        print(f"  {path}: {status}: {count}")
    print(f"5xx, other bodies, failed jobs: {len(faults)}; processes left: {len(left)}")
    for fault in faults[:20]:
        print(f"  {fault}")
    return 1 if faults or left else 0


if __name__ == "__main__":
    sys.exit(main())
