"""Compiled loops work also where their cache cannot be written, and all are loaded before the first question."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from solver import kernels

SOLVE_EVERYTHING = """
import itertools
from dataclasses import replace
from solver.instance import *
from solver.kernels import KERNELS
from solver.solve import solve
from solver.warm_up import warm_up

warm_up()
loaded = [list(kernel.signatures) for kernel in KERNELS]
operators = tuple(Operator(f"o{i}", {"gpu": 1.0 + i % 3, "cpu": 9.0}, 100 * (i % 4)) for i in range(12))
edges = tuple(Edge(f"o{i}", f"o{j}", bytes=1000 * i + 1000) for i in range(12) for j in (i + 1, i + 3) if j < 12)
devices = (DeviceSpec("gpu", "gpu", 900, 3), DeviceSpec("cpu", "cpu"), DeviceSpec("small", "gpu", 500))
over_host = Interconnect(host_bandwidth_bytes_per_s=1e7)
over_links = Interconnect(
    model=InterconnectModel.LINKS, default=Link(1e7), groups=(LinkGroup(("gpu:0", "gpu:1"), Link(1e8)),)
)
constraints = (Constraints(), Constraints(max_devices=3, pinned={"o3": "small"}))
choices = itertools.product((over_host, over_links), Partition, PipelineSchedule, constraints)
for (wires, partition, schedule, limits), overlap in zip(choices, itertools.cycle(Overlap)):
    instance = Instance(
        Graph(operators, edges),
        Cluster(devices, replace(wires, overlap=overlap)),
        Objective(partition=partition, schedule=schedule),
        limits,
    )
    solve(instance, SolverOptions(time_limit_s=0.2, workers=1, seed=1))
late = [kernel for kernel, known in zip(KERNELS, loaded, strict=True) if list(kernel.signatures) != known]
assert any(loaded)
assert not late, [(kernel, kernel.signatures) for kernel in late]
"""


def test_a_kernel_where_no_cache_can_be_written():
    # Not by permissions: those do not bind the superfluous rights of whoever runs the tests in a container.
    nowhere = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator", "NUMBA_CACHE_DIR": os.devnull}
    code = (
        "import solver.solve\n"
        "from solver.stage_costs import ADDED, load\n"
        "assert load(ADDED, 1.0, 2.0, 3.0) == 6.0\n"
        "assert load.stats.cache_path is None, load.stats\n"
        "assert load.signatures"
    )
    assert _run(code, **nowhere) == (0, "")


@pytest.fixture
def package(tmp_path):
    """A package `solver` with nothing in it but how kernels are compiled, to be imported by :func:`_run`."""
    package = tmp_path / "solver"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "kernels.py").write_bytes(Path(kernels.__file__).read_bytes())
    return package


def test_a_change_in_any_kernel_is_a_new_cache(package):
    """Numba by itself goes on with the old kernel where only one that it calls has changed."""
    caller = "from solver.kernels import kernel\nfrom solver.called import called\n\n@kernel\ndef caller():\n"
    (package / "caller.py").write_text(caller + "    return called()\n", encoding="utf-8")
    printed = []
    for number in ("10", "20"):
        source = f"from solver.kernels import kernel\n\n@kernel\ndef called():\n    return {number}\n"
        (package / "called.py").write_text(source, encoding="utf-8")
        printed.append(_run("from solver.caller import caller; import sys; print(caller(), file=sys.stderr)", package))
    assert printed == [(0, "10\n"), (0, "20\n")]


CALL_ONE = """
import sys
from solver.one import one
print(one(), "from the cache" if one.stats.cache_hits else "compiled", file=sys.stderr)
"""
NO_ROOM = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"


def _kept(package, suffix):
    (kept,) = package.rglob(f"one.one-*{suffix}")
    return kept


@pytest.fixture
def one(package):
    """The package, with a kernel."""
    source = "from solver.kernels import kernel\n\n@kernel\ndef one():\n    return 1\n"
    (package / "one.py").write_text(source, encoding="utf-8")
    return package


@pytest.mark.parametrize("size", [0, 20])
@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_a_damaged_cache_is_compiled_anew(one, suffix, size):
    assert _run(CALL_ONE, one) == (0, "1 compiled\n")
    os.truncate(_kept(one, suffix), size)
    assert _run(CALL_ONE, one) == (0, "1 compiled\n")
    assert _run(CALL_ONE, one) == (0, "1 from the cache\n")


def test_a_kernel_where_the_disk_is_full(one):
    """As many bytes may be written to any file as there are left on a full disk."""
    assert _run(NO_ROOM + CALL_ONE, one) == (0, "1 compiled\n")
    assert _run(CALL_ONE, one) == (0, "1 compiled\n")
    os.truncate(_kept(one, ".nbi"), 0)
    assert _run(NO_ROOM + CALL_ONE, one) == (0, "1 compiled\n")


def test_no_solve_waits_for_a_kernel_after_the_warm_up():
    assert _run(SOLVE_EVERYTHING) == (0, "")


def _run(code: str, package: Path | None = None, **environment: str) -> tuple[int, str]:
    if package is not None:
        environment |= {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    return process.returncode, process.stderr
