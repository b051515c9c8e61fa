"""API keys, and the key that made each job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs of before belong to no key."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("secret_digest", sa.LargeBinary(), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("max_jobs", sa.Integer(), nullable=True),
        sa.Column("cpu_seconds_per_day", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(), nullable=True),
        sa.Column("last_used_at", sa.DateTime(), nullable=True),
    )
    op.add_column("placements", sa.Column("key_id", sa.String(64), nullable=True))
    op.create_index("ix_placements_key", "placements", ["tenant", "key_id", "state"])


def downgrade() -> None:
    """Drop what version 0003 does not know."""
    op.drop_index("ix_placements_key", "placements")
    op.drop_column("placements", "key_id")
    op.drop_table("api_keys")
