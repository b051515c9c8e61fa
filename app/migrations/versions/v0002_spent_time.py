"""How long earlier attempts of a job have solved: the next one gets what is left of the time limit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs of before begin with their whole time."""
    op.add_column("placements", sa.Column("spent_s", sa.Double(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("placements", "spent_s")
