"""What agents used of language models, by day.

Revision: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from supervisor.store.migrations.postgres_0001 import COMPARED

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table ``usage``."""
    op.create_table(
        "usage",
        sa.Column("day", COMPARED, primary_key=True),
        sa.Column("agent_key", sa.Integer, sa.ForeignKey("agent_keys.key"), primary_key=True),
        sa.Column("model", COMPARED, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.Float, nullable=False),
        sa.Column("unpriced_requests", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
