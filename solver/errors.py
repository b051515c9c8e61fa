"""What the library raises, and the :class:`Issue` records that say what is wrong and where."""

from __future__ import annotations

from dataclasses import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Issue:
    """One fault in a document, addressed to the person who has to mend it.

    ``code`` is stable and machine-readable, ``path`` leads from the root of the document to the fault,
    ``hint`` says what to do about it.
    """

    code: str
    message: str
    path: Path
    hint: str

    @property
    def pointer(self) -> str:
        """The path as a JSON pointer (RFC 6901); the empty string is the whole document."""
        return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in self.path)


class PlacewrightError(Exception):
    """Base of everything this library raises on purpose."""


class UnreadableDocument(PlacewrightError):
    """The bytes are not a document of any known format (broken JSON, wrong encoding, too deep)."""


class InvalidInstance(PlacewrightError):
    """The document can be read but is no valid instance; carries every fault that was found."""

    def __init__(self, issues: tuple[Issue, ...]) -> None:
        self.issues = issues
        first = issues[0]
        more = f" (and {len(issues) - 1} more)" if len(issues) > 1 else ""
        super().__init__(f"{first.pointer or '/'}: {first.message}{more}")


class UnsupportedInstance(InvalidInstance):
    """The instance is valid, but no method here can solve it as stated; nothing is dropped silently."""
