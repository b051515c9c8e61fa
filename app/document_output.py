"""The command line's JSON documents, and the files they go to, which are replaced in one step."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any


def encode(document: dict[str, Any]) -> bytes:
    """The document as indented UTF-8 JSON with a final newline. Raises :class:`ValueError` for NaN and infinities."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair, from a document that was not well-formed, comes out as the JSON escape it came in as.
    return (text + "\n").encode("utf-8", "backslashreplace")


def check_writable(path: Path) -> None:
    """Find the common mistakes in an output path before a long search. Raises :class:`OSError`."""
    if path.is_dir():
        raise IsADirectoryError(21, os.strerror(21), str(path))
    parent = Path(os.path.realpath(path)).parent
    if not parent.is_dir():
        raise FileNotFoundError(2, os.strerror(2), str(parent))
    if not os.access(path if path.exists() else parent, os.W_OK):
        raise PermissionError(13, os.strerror(13), str(path))


def write_file(path: Path, data: bytes) -> None:
    """Replace ``path`` in one step: readers see the old document or the whole new one. Raises :class:`OSError`."""
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    mode = None
    with contextlib.suppress(FileNotFoundError):
        found = target.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe, /dev/stdout: nothing to replace there
            target.write_bytes(data)
            return
        mode = stat.S_IMODE(found.st_mode)
    temporary = target.with_name(f".placewright-{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
