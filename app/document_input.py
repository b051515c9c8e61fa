"""The documents that a command reads, and what is wrong with them in words.

The formats take long to import, so that happens where they are used.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.display import printable
from app.exits import CommandError, reason_of
from solver.errors import InvalidInstance, Issue, UnreadableDocument
from solver.instance import Execution, ObjectiveKind, Partition, PipelineSchedule, Request

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from solver.result import Placement

MAX_ISSUES_NAMED = 20
OBJECTIVE_OPTIONS = {
    "objective": (ObjectiveKind, "kind", "what to minimise (latency is refused so far)"),
    "partition": (Partition, "partition", "which operators may share a device"),
    "schedule": (PipelineSchedule, "schedule", "how forward and backward passes share a device"),
    "execution": (Execution, "execution", "how a device executes its operators (for latency only)"),
}
"""Options of the command line that say what the document would say: their values, the field, and a word of help."""


def read_request(arguments: argparse.Namespace) -> Request:
    """The document's request, with what the command line says in place of what the document says.

    Raises:
        CommandError: with every fault of the document.
    """
    data = _read_bytes(arguments.file)

    from solver import formats

    try:
        request = formats.read(data, arguments.format)
    except InvalidInstance as error:
        raise CommandError(list_issues(arguments.file, error.issues)) from error
    except UnreadableDocument as error:
        raise CommandError(f"{shown(arguments.file)}: {error}") from error
    given = ((name, getattr(arguments, name)) for name in OBJECTIVE_OPTIONS)
    changes: dict[str, Any] = {
        OBJECTIVE_OPTIONS[name][1]: OBJECTIVE_OPTIONS[name][0](value) for name, value in given if value is not None
    }
    instance = request.instance
    return replace(request, instance=replace(instance, objective=replace(instance.objective, **changes)))


def read_question_and_placement(arguments: argparse.Namespace) -> tuple[Request, Placement]:
    """The request, and the placement that is asked about. Raises :class:`CommandError`."""
    if arguments.file == "-" and arguments.placement == "-":
        raise CommandError("FILE and PLACEMENT cannot both be standard input")
    return read_request(arguments), _read_placement(arguments.placement)


def _read_placement(path: str) -> Placement:
    data = _read_bytes(path)

    from solver import formats

    try:
        return formats.read_placement(data)
    except InvalidInstance as error:
        raise CommandError(list_issues(path, error.issues)) from error
    except UnreadableDocument as error:
        raise CommandError(f"{shown(path)}: {error}") from error


def _read_bytes(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise CommandError(f"cannot read {shown(path)}: {reason_of(error)}") from error
    except AttributeError as error:  # standard input was closed before Python started
        raise CommandError("cannot read standard input: it is closed") from error


def list_issues(path: str, issues: Sequence[Issue]) -> str:
    """The faults of a document, a line each."""
    lines = [f"{shown(path)}: {len(issues)} fault{'' if len(issues) == 1 else 's'}"]
    for issue in issues[:MAX_ISSUES_NAMED]:
        where = printable(issue.pointer) or "the document"
        hint = f" ({printable(issue.hint)})" if issue.hint else ""
        lines.append(f"  {where}: {printable(issue.message)} [{issue.code}]{hint}")
    if len(issues) > MAX_ISSUES_NAMED:
        lines.append(f"  … and {len(issues) - MAX_ISSUES_NAMED} more")
    return "\n".join(lines)


def shown(path: str) -> str:
    """How a message names a file."""
    return "standard input" if path == "-" else printable(path)
