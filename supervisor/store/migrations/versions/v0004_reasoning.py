"""What models spent on reasoning, and which figures are estimates.

Revision: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add to the table ``usage``; of what was counted before neither is known."""
    for column in ("reasoning_tokens", "estimated_requests"):
        op.add_column("usage", sa.Column(column, sa.BigInteger, nullable=False, server_default="0"))
