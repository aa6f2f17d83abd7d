"""What is remembered of each agent over a restart.

Revision: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from supervisor.store.migrations.postgres_0001 import COMPARED

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table ``agent_lives``."""
    op.create_table(
        "agent_lives",
        sa.Column("agent_id", COMPARED, primary_key=True),
        sa.Column("registered_at", sa.Float),
        sa.Column("asleep_since", sa.Float),
        sa.Column("asleep_until", sa.Float),
        sa.Column("asleep_reason", sa.Text),
        sqlite_with_rowid=False,
    )
