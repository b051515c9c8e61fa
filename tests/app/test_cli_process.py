"""The command line as a process of its own: streams, signals, pipes, terminals, and how fast it starts."""

import json
import os
import pty
import random
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
COMMAND = [sys.executable, "-m", "app"]
INSTALLED = Path(sys.executable).with_name("placewright")
PATIENCE_S = 180


def run(*arguments, command=COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options):
    return subprocess.run(
        [*command, *map(str, arguments)],
        stdout=stdout,
        stderr=stderr,
        cwd=ROOT,
        timeout=PATIENCE_S,
        check=False,
        **options,
    )


@pytest.fixture(scope="session")
def hard(tmp_path_factory):
    """A document that finds placements at once and is not proved within minutes."""
    source = random.Random(1)
    size = 160
    operators = [
        {"id": f"o{i}", "compute_time_ms": {"gpu": source.uniform(1, 10)}, "memory_bytes": source.randrange(1, 99)}
        for i in range(size)
    ]
    edges = [
        {"source": f"o{i}", "target": f"o{j}", "transfer_time_ms": round(source.uniform(0.5, 4), 3), "tensor": f"t{j}"}
        for j in range(1, size)
        for i in source.sample(range(max(0, j - 25), j), min(j, 3))
    ]
    document = {
        "graph": {"operators": operators, "edges": edges},
        "cluster": {"devices": [{"id": "gpu", "kind": "gpu", "count": 9, "memory_bytes": 1000}]},
        "objective": {"partition": "free"},
    }
    path = tmp_path_factory.mktemp("hard") / "hard.json"
    path.write_text(json.dumps(document))
    return path


def start_search(hard, *arguments, **options):
    """Start a long search and wait until it has a placement."""
    process = subprocess.Popen(
        [*COMMAND, "solve", str(hard), "--time-limit", "300", "--workers", "1", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        **options,
    )
    seen = b""
    deadline = time.monotonic() + PATIENCE_S
    while b" ms  bound" not in seen:
        ready, _, _ = select.select([process.stderr], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"no placement in time: {seen}"
        chunk = os.read(process.stderr.fileno(), 65_536)
        assert chunk, f"the search ended by itself: {seen}"
        seen += chunk
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_search_with_its_best_placement(hard, tmp_path, number):
    process = start_search(hard, "--json")
    try:
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 0
    answer = json.loads(out)
    assert (answer["status"], answer["stop_reason"]) == ("feasible", "cancelled")
    assert 0 < answer["best_bound"] < answer["objective_value"]
    assert "it was interrupted" in err.decode()
    assert b"Traceback" not in err
    saved = tmp_path / "answer.json"
    saved.write_bytes(out)
    verified = run("verify", hard, saved, "--json")
    assert verified.returncode == 0
    assert json.loads(verified.stdout)["objective_value"] == answer["objective_value"]


def test_a_second_interrupt_quits_at_once(tmp_path):
    # A search that never listens; only the second interrupt can end it.
    script = tmp_path / "deaf.py"
    script.write_text(
        "import sys, time, solver.solve\n"
        "def solve(*_, **__):\n"
        "    print('searching', flush=True)\n"
        "    time.sleep(300)\n"
        "solver.solve.solve = solve\n"
        "from app.cli import main\n"
        f"sys.exit(main(['solve', {str(EXAMPLES / 'tiny.json')!r}]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout.readline() == b"searching\n"
        process.send_signal(signal.SIGINT)
        assert b"interrupt once more" in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE_S) == 128 + signal.SIGINT
    finally:
        process.kill()
        process.communicate()


def test_an_interrupt_before_the_search_has_no_traceback():
    process = subprocess.Popen(
        [*COMMAND, "solve", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        # A shell that runs the tests in the background has SIGINT ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  no thread runs here
    )
    try:
        # Whoever reads standard input has finished starting up.
        deadline = time.monotonic() + PATIENCE_S
        while not is_reading(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (128 + signal.SIGINT, b"", b"interrupted\n")


def test_an_interrupt_while_the_command_is_loaded_has_no_traceback(tmp_path):
    # A package in the place of one that the commands need, which takes long to load.
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(300)\n")
    process = subprocess.Popen(
        [*COMMAND, "solve", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  no thread runs here
    )
    try:
        assert process.stdout.readline() == b"loading\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (128 + signal.SIGINT, b"", b"interrupted\n")


def is_reading(pid):
    wait_channel = Path(f"/proc/{pid}/wchan")
    if not wait_channel.exists():  # not Linux: give it a moment instead
        time.sleep(1)
        return True
    return "pipe" in wait_channel.read_text() or Path(f"/proc/{pid}/syscall").read_text().startswith("0 ")


def test_documents_on_standard_input():
    tiny = (EXAMPLES / "tiny.json").read_bytes()
    solved = run("solve", "-", "--json", "--workers", 1, input=tiny)
    assert solved.returncode == 0
    assert json.loads(solved.stdout)["status"] == "optimal"
    verified = run("verify", EXAMPLES / "tiny.json", "-", input=solved.stdout)
    assert (verified.returncode, verified.stdout) == (0, b"")
    converted = run("convert", "-", "--to", "native", input=tiny)
    assert json.loads(converted.stdout)["graph"]["name"] == "tiny"


def test_closed_standard_input():
    process = run("solve", "-", preexec_fn=lambda: os.close(0))
    assert process.returncode == 2
    assert b"cannot read standard input" in process.stderr


def test_nothing_found_in_time_is_3(tmp_path):
    # No cut of the chain fits into the memory of two devices, though the sum does; to prove it takes a search.
    needs = {"a": 2, "b": 3, "c": 3}
    operators = [{"id": name, "compute_time_ms": {"gpu": 1}, "memory_bytes": need} for name, need in needs.items()]
    edges = [{"source": "a", "target": "b"}, {"source": "b", "target": "c"}]
    devices = [{"id": "gpu", "kind": "gpu", "count": 2, "memory_bytes": 4}]
    path = tmp_path / "tight.json"
    path.write_text(json.dumps({"graph": {"operators": operators, "edges": edges}, "cluster": {"devices": devices}}))
    assert run("solve", path, "--json", "--workers", 1).returncode == 1
    process = run("solve", path, "--json", "--time-limit", "0.000001", "--workers", 1)
    answer = json.loads(process.stdout)
    assert (answer["status"], answer["objective_value"], answer["placement"]) == ("unknown", None, None)
    assert process.returncode == 3


def test_a_reader_that_leaves_gets_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    process = run("convert", EXAMPLES / "demo.json", "--to", "native", stdout=writing)
    os.close(writing)
    assert (process.returncode, process.stderr) == (128 + signal.SIGPIPE, b"")


def test_broken_standard_error_does_not_cost_the_answer():
    reading, writing = os.pipe()
    os.close(reading)
    process = run("solve", EXAMPLES / "tiny.json", "--json", "--workers", "1", stderr=writing)
    os.close(writing)
    assert process.returncode == 0
    assert json.loads(process.stdout)["status"] == "optimal"


def test_closed_standard_error_does_not_cost_the_answer(tmp_path):
    solved = run("solve", EXAMPLES / "tiny.json", "--json", "--workers", "1", preexec_fn=lambda: os.close(2))
    assert (solved.returncode, solved.stderr) == (0, b"")
    assert json.loads(solved.stdout)["status"] == "optimal"
    answer = tmp_path / "answer.json"
    answer.write_bytes(solved.stdout)
    verified = run("verify", EXAMPLES / "tiny.json", answer, preexec_fn=lambda: os.closerange(1, 3))
    assert verified.returncode == 0


@pytest.mark.parametrize("command", ["solve", "frontier"])
def test_closed_standard_output_is_refused_before_the_search(hard, command):
    process = run(command, hard, "--json", "--time-limit", "300", preexec_fn=lambda: os.close(1))
    assert process.returncode == 2
    assert process.stderr == b"error: cannot write to standard output: it is closed\n"


def test_an_answer_that_nothing_takes_is_2_with_both_reasons(tmp_path):
    arguments = ("convert", EXAMPLES / "tiny.json", "--to", "native", "--output", tmp_path / "answer.json")
    process = run(*arguments, preexec_fn=lambda: (os.close(1), resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))))
    assert process.returncode == 2
    assert b"answer.json: File too large" in process.stderr
    assert b"standard output: it is closed" in process.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["convert", EXAMPLES / "tiny.json", "--to", "native"], ["--version"]])
def test_a_full_standard_output_is_2_with_one_message(arguments):
    with Path("/dev/full").open("wb") as full:
        process = run(*arguments, stdout=full)
    assert process.returncode == 2
    assert process.stderr == b"error: cannot write to standard output: No space left on device\n"


def test_ascii_terminals_are_spared_other_characters(tmp_path):
    placement = tmp_path / "placement.json"
    placement.write_text('{"a": "gpu:0", "b": "gpu:1"}')
    process = run("verify", EXAMPLES / "tiny.json", placement, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert process.returncode == 0
    assert "####" in process.stderr.decode("ascii")


def test_a_terminal_gets_a_live_line_and_its_cursor_back():
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "solve", str(EXAMPLES / "demo.json"), "--json", "--workers", "1", "--time-limit", "30"],
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
        cwd=ROOT,
    )
    os.close(follower)
    seen = b""
    try:
        while chunk := read_terminal(leader):
            seen += chunk
        out, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        os.close(leader)
    assert process.returncode == 0
    assert json.loads(out)["placement"]
    assert b"\x1b[?25l" in seen  # the cursor is hidden while the line lives ...
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")  # ... and shown again
    assert b"bound" in seen
    assert "bottleneck" in seen.decode()


def read_terminal(leader):
    try:
        return os.read(leader, 65_536)
    except OSError:  # the other side is closed
        return b""


def test_help_loads_nothing_slow():
    code = (
        "import sys\n"
        "from app.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "slow = {'ortools', 'numba', 'numpy', 'pandas', 'pydantic', 'fastapi', 'sqlalchemy'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {slow}' if slow else 0)\n"
    )
    process = run(command=[sys.executable, "-c", code])
    assert process.returncode == 0, process.stderr


@pytest.mark.skipif(not INSTALLED.exists(), reason="the command is not installed beside this Python")
def test_the_installed_command_is_this_one():
    process = run("--version", command=[INSTALLED])
    assert process.returncode == 0
    assert process.stdout.startswith(b"placewright ")


def test_native_libraries_cannot_write_into_the_answer():
    """They print to file descriptor 1 by themselves, some of it only when the process ends."""
    program = (
        "import ctypes, sys\n"
        "from app.search import mute_native_output\n"
        "mute_native_output()\n"
        "ctypes.CDLL(None).puts(b'noise from C')\n"
        "print('the answer')\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert done.stdout == "the answer\n"
