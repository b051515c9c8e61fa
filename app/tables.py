"""The tables of the job database. Times are UTC without a time zone: SQLite would drop it anyway."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self
from uuid import uuid4

from sqlalchemy import JSON, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DEFAULT_TENANT = "default"


class Base(DeclarativeBase):
    """All tables."""


class PlacementRow(Base):
    """A job. Small, so that a heartbeat is cheap; its documents are elsewhere."""

    __tablename__ = "placements"
    __table_args__ = (
        Index("ix_placements_queue", "state", "priority", "sequence"),
        Index("ix_placements_tenant", "tenant", "sequence"),
        Index("ux_placements_idempotency", "tenant", "idempotency_key", unique=True),
        Index("ix_placements_key", "tenant", "key_id", "state"),
        {"sqlite_autoincrement": True},
    )

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(36), unique=True)
    tenant: Mapped[str] = mapped_column(String(64), server_default=DEFAULT_TENANT)
    key_id: Mapped[str | None] = mapped_column(String(64))
    """The API key or the token's subject that made the job."""
    state: Mapped[str] = mapped_column(String(16))
    priority: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime]
    start_before: Mapped[datetime | None]
    """A job not started by then expires."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    owner: Mapped[str | None] = mapped_column(String(36))
    """The dispatcher that holds the lease."""
    fence: Mapped[int] = mapped_column(server_default="0")
    """Grows with every lease; a write that carries an older one changes nothing."""
    lease_until: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    attempt: Mapped[int]
    cancel_mode: Mapped[str | None] = mapped_column(String(16))

    time_limit_s: Mapped[float]
    spent_s: Mapped[float] = mapped_column(server_default="0")
    """How long earlier attempts have solved."""
    workers: Mapped[int]

    request_digest: Mapped[str] = mapped_column(String(64))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    """Digest of everything the request asked for; a repeated key must come with the same."""
    answering_until: Mapped[datetime | None]
    """While this lies ahead, the request with the key is still waiting for its answer."""

    objective_value: Mapped[float | None]
    best_bound: Mapped[float | None]
    solver_versions: Mapped[str | None] = mapped_column(String(255))
    """Who proved the bound: only the same versions may build on it."""
    num_events: Mapped[int] = mapped_column(server_default="0")
    num_log_bytes: Mapped[int] = mapped_column(server_default="0")
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    webhook_url: Mapped[str | None] = mapped_column(String(2048))
    trace_parent: Mapped[str | None] = mapped_column(String(64))
    """The span of the request (W3C Trace Context)."""


class UsageRow(Base):
    """What a job that has ended took of its key's quota. It outlives the job: deleting that gives nothing back."""

    __tablename__ = "usages"
    __table_args__ = (Index("ix_usages_key", "tenant", "key_id", "finished_at"),)

    placement_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str | None] = mapped_column(String(64))
    finished_at: Mapped[datetime]
    cpu_seconds: Mapped[float]


class TagRow(Base):
    """A word that the client put on a job."""

    __tablename__ = "tags"
    __table_args__ = (Index("ix_tags_tag", "tag"),)

    placement_id: Mapped[str] = mapped_column(ForeignKey("placements.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)


class DocumentRow(Base):
    """The request, the start or the result of a job: JSON, gzip."""

    __tablename__ = "documents"

    placement_id: Mapped[str] = mapped_column(ForeignKey("placements.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class EventRow(Base):
    """Something that happened to a job: a change of state, an incumbent, the end."""

    __tablename__ = "events"

    placement_id: Mapped[str] = mapped_column(ForeignKey("placements.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


class LogRow(Base):
    """A piece of what the solving process has written."""

    __tablename__ = "logs"

    placement_id: Mapped[str] = mapped_column(ForeignKey("placements.id", ondelete="CASCADE"), primary_key=True)
    from_byte: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class DispatcherRow(Base):
    """A process that runs jobs."""

    __tablename__ = "dispatchers"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    engine: Mapped[str] = mapped_column(String(16))
    slots: Mapped[int]
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]


class DeliveryRow(Base):
    """A webhook message, until it is delivered or given up."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("ix_deliveries_due", "next_attempt_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """The same in every attempt to deliver it, so that the receiver can tell a repetition."""
    placement_id: Mapped[str] = mapped_column(ForeignKey("placements.id", ondelete="CASCADE"))
    url: Mapped[str] = mapped_column(String(2048))
    kind: Mapped[str] = mapped_column(String(64))
    payload: Mapped[str]
    created_at: Mapped[datetime]
    attempts: Mapped[int]
    next_attempt_at: Mapped[datetime | None]
    """None: delivered or given up."""
    delivered_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(String(255))

    @classmethod
    def announce(cls, placement: PlacementRow, summary: Mapping[str, Any], now: datetime) -> Self:
        """The message that a placement has ended."""
        kind = f"placement.{placement.state}"
        timestamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = {"type": kind, "timestamp": timestamp, "data": {"id": placement.id, **summary}}
        return cls(
            id=f"msg_{uuid4().hex}",
            placement_id=placement.id,
            url=placement.webhook_url,
            kind=kind,
            payload=json.dumps(body, allow_nan=False, separators=(",", ":")),
            created_at=now,
            attempts=0,
            next_attempt_at=now,
        )


class KeyRow(Base):
    """An API key: everything but the key."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    """Part of the key, and no secret."""
    secret_digest: Mapped[bytes] = mapped_column(LargeBinary)
    tenant: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(64))
    """For people."""
    scopes: Mapped[list[str]] = mapped_column(JSON)
    requests_per_minute: Mapped[int | None]
    max_jobs: Mapped[int | None]
    cpu_seconds_per_day: Mapped[float | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
