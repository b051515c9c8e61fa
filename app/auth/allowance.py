"""What a caller may ask for, the note of what it has used, and the check of both."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Self

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.schemas import ACTIVE
from app.tables import PlacementRow, UsageRow

_WINDOW = timedelta(days=1)
_JOBS_RETRY_S = 10
_LONGEST_RETRY_S = 3600


@dataclass(frozen=True, slots=True)
class Allowance:
    """Bounds for one caller; None: no bound."""

    requests_per_minute: int | None = None
    max_jobs: int | None = None
    """Queued and running at once."""
    cpu_seconds_per_day: float | None = None
    """Seconds times workers, in any 24 hours. What is queued or running counts with its whole time limit."""

    def filled_from(self, other: Self) -> Self:
        """These bounds, and those of ``other`` where there are none."""
        mine = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(other, **{name: value for name, value in mine.items() if value is not None})


NO_BOUNDS = Allowance()


class QuotaExceeded(Exception):
    """The caller has all it may have; the message is for it."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def check_quota(
    session: Session,
    now: datetime,
    *,
    tenant: str,
    key_id: str | None,
    allowance: Allowance,
    workers: int,
    time_limit_s: float,
) -> None:
    """Refuse a job that is more than the key may have.

    Raises:
        QuotaExceeded: with the time after which it may be worth trying again.
    """
    mine = (PlacementRow.tenant == tenant) & (PlacementRow.key_id == key_id)
    is_active = PlacementRow.state.in_(ACTIVE)
    if allowance.max_jobs is not None:
        jobs = session.scalar(select(func.count()).where(mine, is_active)) or 0
        if jobs >= allowance.max_jobs:
            message = f"This key has {jobs} placements queued or running, and may have {allowance.max_jobs}."
            raise QuotaExceeded(message, _JOBS_RETRY_S)
    if allowance.cpu_seconds_per_day is not None:
        wanted = workers * time_limit_s
        left = allowance.cpu_seconds_per_day - wanted
        if left < 0:
            message = (
                f"{workers} workers for {time_limit_s:g} s are {wanted:g} CPU-seconds; this key may use "
                f"{allowance.cpu_seconds_per_day:g} in 24 hours. Ask for less time or fewer workers."
            )
            raise QuotaExceeded(message, _LONGEST_RETRY_S)
        # In this order: a job that ends in between is counted twice, not overlooked.
        reserved = func.sum(PlacementRow.time_limit_s * PlacementRow.workers)
        used = session.scalar(select(reserved).where(mine, is_active)) or 0.0
        spent = select(func.sum(UsageRow.cpu_seconds), func.min(UsageRow.finished_at)).where(
            UsageRow.tenant == tenant, UsageRow.key_id == key_id, UsageRow.finished_at > now - _WINDOW
        )
        cpu_seconds, oldest = session.execute(spent).one()
        used += cpu_seconds or 0.0
        if used > left:
            wait = _LONGEST_RETRY_S if oldest is None else math.ceil((oldest + _WINDOW - now).total_seconds())
            message = (
                f"This key has used or reserved {used:g} CPU-seconds of the {allowance.cpu_seconds_per_day:g} it may "
                f"use in 24 hours; this placement may take {wanted:g} more."
            )
            raise QuotaExceeded(message, max(1, min(wait, _LONGEST_RETRY_S)))


def note_usage(session: Session, placement: PlacementRow, now: datetime) -> None:
    """Write down what a job took that ends now."""
    session.add(
        UsageRow(
            placement_id=placement.id,
            tenant=placement.tenant,
            key_id=placement.key_id,
            finished_at=now,
            cpu_seconds=placement.spent_s * placement.workers,
        )
    )


def forget_usage(session: Session, now: datetime) -> None:
    """Delete the notes that count no more."""
    session.execute(delete(UsageRow).where(UsageRow.finished_at <= now - _WINDOW))
