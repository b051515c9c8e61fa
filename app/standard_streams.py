"""The standard streams of the process, which whoever started it may have closed or broken."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.exits import CommandError, reason_of

if TYPE_CHECKING:
    from typing import TextIO


class Forgiving(io.TextIOBase):
    """A stream that drops what it cannot write: messages must never cost anybody the answer."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream behind."""
        return getattr(self._stream, "encoding", None) or "ascii"

    def isatty(self) -> bool:
        """Whether a person watches."""
        try:
            return self._stream.isatty()
        except ValueError:  # closed
            return False

    def fileno(self) -> int:
        """The descriptor of the stream behind."""
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write ``text``, or nothing."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            return self.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        """Flush, or do nothing."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return


def occupy_closed_streams() -> None:
    """Lead streams that were closed before Python started to nowhere.

    A file opened later would get the descriptor, and with it what native libraries print there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for as long as the process lives


def complain(message: str) -> None:
    """Say what went wrong, on standard error."""
    stream = Forgiving(sys.stderr)
    stream.write(message.rstrip("\n") + "\n")
    stream.flush()


def check_standard_output() -> None:
    """Refuse what would be lost, before a long search. Raises :class:`CommandError`."""
    if sys.stdout is None:
        raise CommandError("cannot write to standard output: it is closed")


def write_standard_output(data: bytes) -> None:
    """Write to standard output and wait until it is out.

    Raises:
        BrokenPipeError: the reader has left.
        CommandError: it is closed, or cannot be written.
    """
    check_standard_output()
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        # What is left in the buffer would fail once more, with a traceback, when the interpreter exits.
        with contextlib.suppress(OSError, ValueError):
            descriptor = sys.stdout.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            raise
        raise CommandError(f"cannot write to standard output: {reason_of(error)}") from error
