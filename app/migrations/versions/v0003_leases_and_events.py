"""Leases, tenants, priorities, tags, events, logs, dispatchers and webhook deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NEW_COLUMNS = (
    sa.Column("tenant", sa.String(64), nullable=False, server_default="default"),
    sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("start_before", sa.DateTime(), nullable=True),
    sa.Column("fence", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("lease_until", sa.DateTime(), nullable=True),
    sa.Column("cancel_mode", sa.String(16), nullable=True),
    sa.Column("idempotency_key", sa.String(255), nullable=True),
    sa.Column("fingerprint", sa.String(64), nullable=True),
    sa.Column("answering_until", sa.DateTime(), nullable=True),
    sa.Column("solver_versions", sa.String(255), nullable=True),
    sa.Column("num_events", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("num_log_bytes", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("webhook_url", sa.String(2048), nullable=True),
    sa.Column("trace_parent", sa.String(64), nullable=True),
)


def upgrade() -> None:
    """Jobs of before belong to the default tenant and keep their place in the queue."""
    # Nothing here may copy the table: dropping the old copy would take the documents with it.
    for column in _NEW_COLUMNS:
        op.add_column("placements", column)
    op.create_index("ux_placements_idempotency", "placements", ["tenant", "idempotency_key"], unique=True)
    op.drop_index("ix_placements_state_sequence", "placements")
    op.create_index("ix_placements_queue", "placements", ["state", "priority", "sequence"])
    op.create_index("ix_placements_tenant", "placements", ["tenant", "sequence"])
    op.create_table(
        "tags",
        _placement_id(),
        sa.Column("tag", sa.String(64), primary_key=True),
    )
    op.create_index("ix_tags_tag", "tags", ["tag"])
    op.create_table(
        "events",
        _placement_id(),
        sa.Column("sequence", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
    )
    op.create_table(
        "logs",
        _placement_id(),
        sa.Column("from_byte", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "dispatchers",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("engine", sa.String(16), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(36), primary_key=True),
        _placement_id(is_key=False),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("payload", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(), nullable=True),
        sa.Column("delivered_at", sa.DateTime(), nullable=True),
        sa.Column("last_error", sa.String(255), nullable=True),
    )
    op.create_index("ix_deliveries_due", "deliveries", ["next_attempt_at"])


def downgrade() -> None:
    """Drop what version 0002 does not know."""
    for table_name in ("deliveries", "dispatchers", "logs", "events", "tags"):
        op.drop_table(table_name)
    for index in ("ux_placements_idempotency", "ix_placements_tenant", "ix_placements_queue"):
        op.drop_index(index, "placements")
    op.create_index("ix_placements_state_sequence", "placements", ["state", "sequence"])
    for column in reversed(_NEW_COLUMNS):
        op.drop_column("placements", column.name)


def _placement_id(*, is_key: bool = True) -> sa.Column[str]:
    reference = sa.ForeignKey("placements.id", ondelete="CASCADE")
    return sa.Column("placement_id", sa.String(36), reference, primary_key=is_key, nullable=False)
