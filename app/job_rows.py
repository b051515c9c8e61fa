"""What every writer of job rows shares: events, results, and the one way to a terminal state.

Each function takes a row that its transaction has locked.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app.auth.allowance import note_usage
from app.schemas import CancelMode, State
from app.tables import DeliveryRow, DocumentRow, EventRow, PlacementRow
from solver.result import StopReason, relative_gap

REQUEST, START, RESULT = "request", "start", "result"
"""Kinds of documents: what was asked, a placement to start from, and the answer."""


def pack(document: Mapping[str, Any]) -> bytes:
    """The document as it is stored."""
    return gzip.compress(json.dumps(document, allow_nan=False).encode(), compresslevel=1)


def unpack(content: bytes) -> dict[str, Any]:
    """The document that was stored."""
    document: dict[str, Any] = json.loads(gzip.decompress(content))
    return document


def add_event(session: Session, row: PlacementRow, now: datetime, kind: str, data: Mapping[str, Any]) -> None:
    """Append to what happened to the job."""
    row.num_events += 1
    session.add(EventRow(placement_id=row.id, sequence=row.num_events, kind=kind, created_at=now, data=dict(data)))


def change_state(session: Session, row: PlacementRow, now: datetime, state: State) -> None:
    """Move a job that goes on to another state."""
    row.state = state
    if state is State.QUEUED:
        row.owner = row.lease_until = None
    add_event(session, row, now, "state", {"state": state, "attempt": row.attempt})


def end(
    session: Session, row: PlacementRow, now: datetime, state: State, error: Mapping[str, Any] | None = None
) -> None:
    """Bring the job to a terminal state, count what it took, and tell whoever wants to know."""
    change_state(session, row, now, state)
    row.finished_at, row.owner, row.lease_until = now, None, None
    row.error = None if error is None else dict(error)
    summary = {
        "state": state,
        "objective_value": row.objective_value,
        "best_bound": row.best_bound,
        "relative_gap": relative_gap(row.objective_value, row.best_bound),
    }
    add_event(session, row, now, "end", summary)
    note_usage(session, row, now)
    if row.webhook_url is not None:
        session.add(DeliveryRow.announce(row, summary, now))


def end_cancelled(session: Session, row: PlacementRow, now: datetime) -> None:
    """End a job as its client asked: with the best placement found, or without any."""
    document = session.get(DocumentRow, (row.id, RESULT))
    if row.cancel_mode == CancelMode.DISCARD:
        row.objective_value = row.best_bound = None
        if document is not None:
            session.delete(document)
    elif document is not None:
        result = unpack(document.content)
        if result["stop_reason"] is None:
            document.content = pack(result | {"stop_reason": StopReason.CANCELLED})
    end(session, row, now, State.CANCELLED)


def raise_bound(row: PlacementRow, bounds: Iterable[float | None]) -> None:
    """Keep the best of the bounds proved so far."""
    row.best_bound = max((b for b in (row.best_bound, *bounds) if b is not None), default=None)


def store_result(session: Session, row: PlacementRow, result: Mapping[str, Any]) -> None:
    """Make this the result."""
    raise_bound(row, [result["best_bound"]])
    row.objective_value = result["objective_value"]
    session.merge(DocumentRow(placement_id=row.id, kind=RESULT, content=pack(result)))


def keep_better(session: Session, row: PlacementRow, result: Mapping[str, Any]) -> None:
    """Make this the result unless a better one is there."""
    raise_bound(row, [result["best_bound"]])
    value = result["objective_value"]
    if value is not None and (row.objective_value is None or value <= row.objective_value):
        store_result(session, row, result)
