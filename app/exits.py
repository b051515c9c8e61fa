"""How a command ends: its exit code, and what is said when it cannot do its work."""

from __future__ import annotations

EXIT_FOUND = 0
EXIT_INFEASIBLE = 1
EXIT_BAD_INPUT = 2
EXIT_NOTHING_FOUND = 3
# Beyond the four of the manual. The service that should solve cannot; an interrupt before there is anything to show,
# and a reader that went away, end as the shell expects of a signal. A defect must never look like "proved
# infeasible", Python's own exit code.
EXIT_UNAVAILABLE = 69
EXIT_DEFECT = 70
EXIT_SIGNAL = 128


class CommandError(Exception):
    """Bad input or usage, in words for the person who typed the command."""

    def __init__(self, message: str, exit_code: int = EXIT_BAD_INPUT) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def reason_of(error: Exception) -> str:
    """What went wrong, without the number and the path that Python adds."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
