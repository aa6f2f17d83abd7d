"""Who changed what.

Revision: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from supervisor.store.migrations.postgres_0001 import COMPARED

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table ``agent_events``."""
    op.create_table(
        "agent_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("agent_id", COMPARED, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("after", sa.Text),
        sa.Column("undo", sa.Text),
    )
    op.create_index("agent_events_agent", "agent_events", ["agent_id", "id"])
    op.create_index("agent_events_at", "agent_events", ["at"])
