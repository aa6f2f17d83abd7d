"""What stands for the beginning of long conversations.

Revision: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from supervisor.store.migrations.postgres_0001 import COMPARED

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table ``conversation_summaries``."""
    row_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "conversation_summaries",
        sa.Column("id", row_number, primary_key=True),
        sa.Column("agent_key", sa.Integer, sa.ForeignKey("agent_keys.key"), nullable=False),
        sa.Column("conversation_id", COMPARED, nullable=False),
        sa.Column("up_to_id", row_number, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("agent_key", "conversation_id", name="conversation_summary"),
    )
    op.create_index("conversation_summaries_since", "conversation_summaries", ["since"])
