"""Compares the locked dependencies with known weaknesses; see docs/decisions/dependency-audit.md.

A known weakness ends with 1. When the advisories cannot be had nothing is known, and that is said, not passed over:
it ends with 0 on a developer's machine, and with 1 where AUDIT=required says that the advisories can be had.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKS = sorted(path.name for path in Path(__file__).parents[1].glob("requirements*.lock"))
# Weaknesses that do not concern this project: id -> why. Each is looked at again with every release.
ACCEPTED: dict[str, str] = {}
PATIENCE_S = 60


def read_report(lock: str) -> dict[str, Any] | None:
    """What pip-audit says of a lock; None when it says nothing."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", lock, "--disable-pip", "--require-hashes"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)  # noqa: S603
        report: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None
    return report


def count_checked(report: dict[str, Any] | None) -> int:
    """How many packages were really compared with the advisories."""
    return 0 if report is None else sum("skip_reason" not in entry for entry in report["dependencies"])


def judge(lock: str, report: dict[str, Any] | None, *, is_required: bool) -> tuple[bool, list[str]]:
    """Whether the build may go on, and what to tell."""
    entries = [] if report is None else report["dependencies"]
    skipped = [entry["name"] for entry in entries if "skip_reason" in entry]
    known = [
        (entry, weakness)
        for entry in entries
        for weakness in entry.get("vulns", ())
        if not {weakness["id"], *weakness.get("aliases", ())} & ACCEPTED.keys()
    ]
    lines = [
        f"{lock}: {entry['name']} {entry['version']} has {weakness['id']}; "
        f"{'fixed in ' + ', '.join(weakness['fix_versions']) if weakness['fix_versions'] else 'there is no fix yet'}"
        for entry, weakness in known
    ]
    num_checked = count_checked(report)
    if num_checked == 0:
        lines.append(f"{lock}: NOT AUDITED: the advisories of the package index cannot be had from here")
    elif skipped:
        lines.append(f"{lock}: NOT AUDITED: {', '.join(skipped)}: the package index does not know them")
    if not known and num_checked:
        lines.append(f"{lock}: {num_checked} packages have no known weakness")
    is_complete = num_checked > 0 and not skipped
    return not known and (is_complete or not is_required), lines


def main() -> int:
    """Audit every lock, until it turns out that the advisories cannot be had."""
    is_required = os.environ.get("AUDIT") == "required"
    is_good = True
    for lock in LOCKS:
        report = read_report(lock)
        may_go_on, lines = judge(lock, report, is_required=is_required)
        is_good = is_good and may_go_on
        print(*lines, sep="\n")  # noqa: T201
        if not count_checked(report):
            print("The other locks: NOT AUDITED either")  # noqa: T201
            break
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
