"""What each key has used, apart from the jobs that used it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs of the last day go on counting."""
    op.create_table(
        "usages",
        sa.Column("placement_id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64), nullable=True),
        sa.Column("finished_at", sa.DateTime(), nullable=False),
        sa.Column("cpu_seconds", sa.Double(), nullable=False),
    )
    op.create_index("ix_usages_key", "usages", ["tenant", "key_id", "finished_at"])
    recent = sa.text(
        "INSERT INTO usages (placement_id, tenant, key_id, finished_at, cpu_seconds) "
        "SELECT id, tenant, key_id, finished_at, spent_s * workers FROM placements WHERE finished_at > :horizon"
    )
    horizon = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=1)
    op.get_bind().execute(recent.bindparams(sa.bindparam("horizon", horizon, sa.DateTime())))


def downgrade() -> None:
    """Drop what version 0004 does not know."""
    op.drop_table("usages")
