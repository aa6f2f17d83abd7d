"""The first schema.

Revision: 0001
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

from supervisor.store.migrations import postgres_0001

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Raw SQL by people need not keep updated_at: the trigger does, unless the statement set it.
_TOUCH = """
CREATE TRIGGER agents_touch AFTER UPDATE OF name, handler, secret, settings, labels, paused ON agents
FOR EACH ROW WHEN NEW.updated_at = OLD.updated_at
BEGIN
    UPDATE agents SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id;
END
"""


def upgrade() -> None:
    """Create every table, and the registry's own UUID."""
    if op.get_bind().dialect.name == "postgresql":
        for statement in postgres_0001.STATEMENTS:
            op.get_bind().exec_driver_sql(statement)
    else:
        _create_tables()
    meta = sa.table("meta", sa.column("key", sa.Text), sa.column("value", sa.Text))
    op.bulk_insert(meta, [{"key": "uuid", "value": str(uuid.uuid4())}])


def _create_tables() -> None:
    _create_agents()
    _create_inbox()
    _create_outbox()
    op.create_table(
        "conversations",
        sa.Column("agent_key", sa.Integer, sa.ForeignKey("agent_keys.key"), primary_key=True),
        sa.Column("conversation_id", sa.Text, primary_key=True),
        sa.Column("last_seen", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def _create_agents() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("handler", sa.Text),
        sa.Column("secret", sa.Text),
        sa.Column("settings", sa.Text, server_default=sa.text("'{}'")),
        sa.Column("labels", sa.Text, server_default=sa.text("'{}'")),
        sa.Column("paused", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("created_at", sa.Text, nullable=False, server_default=sa.text("CURRENT_TIMESTAMP")),
        sa.Column("updated_at", sa.Text, nullable=False, server_default=sa.text("CURRENT_TIMESTAMP")),
    )
    op.execute(_TOUCH)
    op.create_table(
        "agent_keys",
        sa.Column("key", sa.Integer, primary_key=True),
        sa.Column("agent_id", sa.Text, nullable=False, unique=True),
    )


def _create_inbox() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "inbox",
        sa.Column("id", number, primary_key=True, autoincrement=False),
        sa.Column("agent_key", sa.Integer, sa.ForeignKey("agent_keys.key"), nullable=False),
        sa.Column("message_key", sa.LargeBinary, nullable=False),
        sa.Column("conversation_id", sa.Text, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("replay", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("not_before", sa.Float, nullable=False, server_default=sa.text("0")),
        sa.Column("settled_at", sa.Float),
        sa.Column("error", sa.Text),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("agent_key", "message_key", name="inbox_message"),
    )
    op.create_index("inbox_conversation", "inbox", ["agent_key", "conversation_id", "id"])
    waiting = sa.text("state <= 3")
    op.create_index("inbox_open", "inbox", ["agent_key", "state"], sqlite_where=waiting)


def _create_outbox() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "outbox",
        sa.Column("id", number, primary_key=True, autoincrement=False),
        sa.Column("agent_key", sa.Integer, sa.ForeignKey("agent_keys.key"), nullable=False),
        sa.Column("inbox_id", number),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("conversation_id", sa.Text, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("not_before", sa.Float, nullable=False, server_default=sa.text("0")),
        sa.Column("settled_at", sa.Float),
        sa.Column("error", sa.Text),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("outbox_conversation", "outbox", ["agent_key", "conversation_id", "id"])
    waiting = sa.text("state <= 1")
    op.create_index("outbox_open", "outbox", ["agent_key"], sqlite_where=waiting)
