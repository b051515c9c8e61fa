"""The ``placewright`` command as its caller sees it: how it ends, whatever happens.

The commands are imported where an interrupt is heard already: that takes them a moment.
"""

from __future__ import annotations

import signal
import traceback
from typing import TYPE_CHECKING

from app.exits import EXIT_DEFECT, EXIT_SIGNAL, CommandError
from app.standard_streams import complain, occupy_closed_streams

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        occupy_closed_streams()

        from app.commands import run_command

        return run_command(argv)
    except CommandError as error:
        complain(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        complain("interrupted")
        return EXIT_SIGNAL + signal.SIGINT
    except BrokenPipeError:
        return EXIT_SIGNAL + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001  a defect: it ends with its own exit code, not Python's 1 = "infeasible"
        complain("".join(traceback.format_exception(error)))
        complain(f"internal error: this is a defect of Placewright, not of your document ({type(error).__name__})")
        return EXIT_DEFECT
