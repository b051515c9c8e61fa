"""The commands of ``placewright``: as thin as the routes of the service.

What takes long to import (the document formats, the service, the solver engines) is imported where it is used, so
that ``placewright --help`` and a mistyped option are answered at once.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from app.display import describe_search, open_console, printable
from app.document_input import OBJECTIVE_OPTIONS, list_issues, read_question_and_placement, read_request, shown
from app.document_output import check_writable, encode, write_file
from app.exits import (
    EXIT_BAD_INPUT,
    EXIT_DEFECT,
    EXIT_FOUND,
    EXIT_INFEASIBLE,
    EXIT_NOTHING_FOUND,
    EXIT_UNAVAILABLE,
    CommandError,
    reason_of,
)
from app.frontier_summary import describe_sweep, print_frontier
from app.search import run_search, search_here, sweep_here
from app.service_commands import add_service_commands
from app.standard_streams import check_standard_output, write_standard_output
from app.summary import print_result, print_verification
from solver.errors import InvalidInstance
from solver.instance import Request, SolverOptions
from solver.result import Status
from solver.validation import validate_options
from solver.verification import verify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from app.remote import RemoteAnswer
    from solver.result import Frontier

_SOLVER_OPTIONS = {
    "time_limit_s": ("--time-limit", float, "SECONDS", "how long to search (default: 30)"),
    "relative_gap": ("--gap", float, "RATIO", "stop at this relative gap, e.g. 0.01 (default: 0, a full proof)"),
    "workers": ("--workers", int, "N", "threads to use (default: every core)"),
    "seed": ("--seed", int, "N", "seed of every random choice (default: 0)"),
    "memory_limit_bytes": ("--memory-limit", int, "BYTES", "end when the process holds more (default: no limit)"),
}


def run_command(argv: Sequence[str] | None) -> int:
    """Run one command and return its exit code. Raises :class:`CommandError`."""
    arguments = _parser().parse_args(argv)
    code: int = arguments.run(arguments)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="placewright",
        allow_abbrev=False,
        description="Places the operators of a neural network on devices, with a certified optimality gap.",
        epilog="Exit codes: 0 a placement was found, 1 proved infeasible or verification failed, "
        "2 bad input or usage, 3 nothing found in time.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add_command(name: str, run: object, help: str) -> argparse.ArgumentParser:  # noqa: A002  argparse's own word
        command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", allow_abbrev=False)
        command.set_defaults(run=run)
        return command

    solve = add_command("solve", _solve, "find the best placement and prove how good it is")
    _add_question(solve)
    for name, (flag, kind, metavar, text) in _SOLVER_OPTIONS.items():
        solve.add_argument(flag, dest=name, type=kind, metavar=metavar, help=text)
    solve.add_argument("--server", metavar="URL", help="let this service solve it; the key is PLACEWRIGHT_API_KEY")
    _add_json(solve)
    _add_output(solve)

    frontier = add_command("frontier", _frontier, "find what throughput costs: the least period at every price")
    _add_question(frontier)
    for name, (flag, kind, metavar, text) in _SOLVER_OPTIONS.items():
        frontier.add_argument(flag, dest=name, type=kind, metavar=metavar, help=text)
    points = "look for no more points than this (default: 20)"
    frontier.add_argument("--points", type=_positive, default=20, metavar="N", help=points)
    frontier.add_argument("--plot", type=_file_name, metavar="FILE.svg", help="draw the frontier and its bounds")
    _add_json(frontier)
    _add_output(frontier)

    verify = add_command("verify", _verify, "recompute the objective of a placement and name every violation")
    _add_question(verify)
    text = "an answer, or {operator: device}; - is standard input"
    verify.add_argument("placement", type=_file_name, metavar="PLACEMENT", help=text)
    _add_json(verify)

    explain = add_command("explain", _explain, "say what binds a placement, what moves would do and what would help")
    _add_question(explain)
    explain.add_argument("placement", type=_file_name, metavar="PLACEMENT", help="as for verify; - is standard input")
    explain.add_argument("--operator", metavar="ID", help="move this one (default: those that matter most)")
    _add_json(explain)

    convert = add_command("convert", _convert, "rewrite a document as a request of the HTTP service")
    _add_question(convert)
    convert.add_argument("--to", required=True, choices=["native"], help="the format to write")
    _add_output(convert)

    add_service_commands(add_command)
    return parser


def _add_question(command: argparse.ArgumentParser) -> None:
    text = "the document with graph and cluster; - is standard input"
    command.add_argument("file", type=_file_name, metavar="FILE", help=text)
    command.add_argument("--format", default="auto", choices=["auto", "native", "msr"], help="of FILE (default: auto)")
    for name, (choices, _, text) in OBJECTIVE_OPTIONS.items():
        command.add_argument(f"--{name}", choices=[choice.value for choice in choices], help=text)


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print the answer as JSON on standard output")


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--output", type=_file_name, metavar="OUT", help="write the JSON document to this file, in one step"
    )


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        write_standard_output(f"placewright {version('placewright')}\n".encode())
        parser.exit()


def _file_name(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return text


def _positive(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def _solve(arguments: argparse.Namespace) -> int:
    request = _read_search(arguments, arguments.output)
    console, words = open_console(sys.stderr), describe_search(request.instance.objective.kind)
    try:
        if arguments.server is None:
            from solver.formats.native import result_document

            result = run_search(search_here(request), words, console)
            document = result_document(result)
        else:
            answer = _solve_there(arguments.server, request, console)
            result, document = answer.result, answer.document
    except InvalidInstance as error:
        raise CommandError(list_issues(arguments.file, error.issues)) from error
    print_result(console, request.instance, result)
    _deliver(document, arguments.output, to_standard_output=arguments.json)
    return _exit_code(result.status, found=result.placement is not None)


def _solve_there(url: str, request: Request, console: Console) -> RemoteAnswer:
    try:
        from app.remote import RemoteError, WrongAnswer, search_there
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise CommandError("--server needs the package httpx: pip install 'placewright[client]'") from error
    try:
        return run_search(
            search_there(url, request, console), describe_search(request.instance.objective.kind), console
        )
    except RemoteError as error:
        code = EXIT_UNAVAILABLE if error.is_unavailable else EXIT_BAD_INPUT
        raise CommandError(f"{printable(url)}: {error}", code) from error
    except WrongAnswer as error:
        raise CommandError(f"{printable(url)}: the answer does not hold: {error}", EXIT_DEFECT) from error


def _frontier(arguments: argparse.Namespace) -> int:
    request = _read_search(arguments, arguments.output, arguments.plot)
    if arguments.plot is not None:
        _check_plots()

    from solver.formats.frontier import frontier_document

    console = open_console(sys.stderr)
    try:
        frontier = run_search(sweep_here(request, arguments.points), describe_sweep, console)
    except InvalidInstance as error:
        raise CommandError(list_issues(arguments.file, error.issues)) from error
    print_frontier(console, frontier)
    _deliver(frontier_document(frontier), arguments.output, to_standard_output=arguments.json)
    if arguments.plot is not None and frontier.points:
        _draw(frontier, arguments.plot)
    return _exit_code(frontier.status, found=bool(frontier.points))


def _read_search(arguments: argparse.Namespace, *outputs: str | None) -> Request:
    """What to search for, once it is known that the answer can be written."""
    changes = {name: value for name in _SOLVER_OPTIONS if (value := getattr(arguments, name)) is not None}
    _check_options(SolverOptions(**changes))
    request = read_request(arguments)
    for output in outputs:
        if output is not None:
            _check_output(output)
    if arguments.json:
        check_standard_output()
    return replace(request, options=replace(request.options, **changes))


def _exit_code(status: Status, *, found: bool) -> int:
    if found:
        return EXIT_FOUND
    return EXIT_INFEASIBLE if status is Status.INFEASIBLE else EXIT_NOTHING_FOUND


def _check_plots() -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise CommandError("--plot needs the package matplotlib: pip install 'placewright[plots]'")


def _draw(frontier: Frontier, path: str) -> None:
    from app.frontier_plot import draw_frontier

    try:
        write_file(Path(path), draw_frontier(frontier))
    except (OSError, ValueError) as error:
        raise CommandError(f"cannot write {shown(path)}: {reason_of(error)}") from error


def _verify(arguments: argparse.Namespace) -> int:
    request, placement = read_question_and_placement(arguments)

    from solver.formats.native import verification_document

    try:
        verification = verify(request.instance, placement)
    except InvalidInstance as error:
        raise CommandError(list_issues(arguments.file, error.issues)) from error
    print_verification(open_console(sys.stderr), request.instance, verification)
    if arguments.json:
        _deliver(verification_document(verification), None, to_standard_output=True)
    return EXIT_INFEASIBLE if verification.violations else EXIT_FOUND


def _explain(arguments: argparse.Namespace) -> int:
    request, placement = read_question_and_placement(arguments)
    instance, operator = request.instance, arguments.operator
    if operator is not None and operator not in {o.id for o in instance.graph.operators}:
        raise CommandError(f"argument --operator: {shown(arguments.file)} has no operator {printable(operator)!r}")

    from app.explanation_report import print_explanation
    from solver.explanation import explain
    from solver.formats.native import explanation_document

    try:
        verification = verify(instance, placement)
        explanation = explain(instance, placement, operator)
    except InvalidInstance as error:
        raise CommandError(list_issues(arguments.file, error.issues)) from error
    console = open_console(sys.stderr)
    print_verification(console, instance, verification)
    if explanation is not None:
        print_explanation(console, instance, verification.stages, explanation)
    if arguments.json:
        _deliver(explanation_document(verification, explanation), None, to_standard_output=True)
    return EXIT_INFEASIBLE if verification.violations else EXIT_FOUND


def _convert(arguments: argparse.Namespace) -> int:
    request = read_request(arguments)
    if arguments.output is not None:
        _check_output(arguments.output)

    from solver.formats.native import request_document

    _deliver(request_document(request), arguments.output, to_standard_output=arguments.output is None)
    return EXIT_FOUND


def _check_options(options: SolverOptions) -> None:
    issues = validate_options(options)
    if issues:
        faults = (
            f"argument {_SOLVER_OPTIONS[str(issue.path[-1])][0]}: {issue.message}; {issue.hint}" for issue in issues
        )
        raise CommandError("\n  ".join(faults))


def _check_output(output: str) -> None:
    try:
        check_writable(Path(output))
    except (OSError, ValueError) as error:
        raise CommandError(f"cannot write {shown(output)}: {reason_of(error)}") from error


def _deliver(document: dict[str, Any], output: str | None, *, to_standard_output: bool) -> None:
    """Write the document where it was asked for; what cannot be written there goes to standard output instead."""
    data = encode(document)
    if output is not None:
        try:
            write_file(Path(output), data)
        except (OSError, ValueError) as error:
            fault = f"cannot write {shown(output)}: {reason_of(error)}"
            try:
                write_standard_output(data)
            except CommandError as other:
                raise CommandError(f"{fault}\n  {other}") from error
            raise CommandError(f"{fault}; the document is on standard output") from error
    if to_standard_output:
        write_standard_output(data)
