"""The Prefer header (RFC 7240): what the client would like, as far as this service knows it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,9})\"?")


@dataclass(frozen=True, slots=True)
class Preferences:
    """Whether to answer at once, and how long to wait at most; None: nothing was said."""

    respond_async: bool = False
    wait_s: int | None = None

    def choose_wait(self, default_s: float, most_s: float) -> float:
        """Seconds to wait for a finished job."""
        if self.wait_s is not None:
            return min(self.wait_s, most_s)
        return 0.0 if self.respond_async else min(default_s, most_s)

    def describe_applied(self, wait_s: float, *, is_async: bool) -> dict[str, str]:
        """The Preference-Applied header, if any preference was followed."""
        applied = ["respond-async"] if self.respond_async and is_async else []
        if self.wait_s is not None and self.wait_s == wait_s:
            applied.append(f"wait={self.wait_s}")
        return {"Preference-Applied": ", ".join(applied)} if applied else {}


def parse_preferences(headers: Iterable[str]) -> Preferences:
    """The preferences of all Prefer headers. Of two that say the same the first counts; unknown ones are ignored."""
    respond_async, wait_s = False, None
    for preference in ",".join(headers).split(","):
        name = preference.partition(";")[0].strip().lower()
        respond_async = respond_async or name == "respond-async"
        if wait_s is None and (match := _WAIT.fullmatch(name)):
            wait_s = int(match[1])
    return Preferences(respond_async, wait_s)
