"""The tables, as the migrations leave them; a test holds the two equal.

``agents`` is public: people write SQL against it, so it takes whatever they write and every column but ``id``,
``handler`` and ``secret`` has a default. Its JSON columns are text: a column of type JSON would have numeric affinity
in SQLite, and one bad value would fail the reading of every row.

The journal (``inbox``, ``outbox``, ``conversations``, ``conversation_summaries``) is ours alone and on the hot path:
agents appear in it as small integers (``agent_keys``), message keys as bytes, states as small integers, messages as
one JSON blob. So is ``usage``, which outlives the agents that it is about. ``agent_lives`` is what the supervisor
itself has to remember of an agent, kept apart from what people want of it: writing it must not look like a change of
the row. ``agent_events`` says who changed what; ``undo`` is a removed row as it was, for a day.

Nothing that runs imports this module: SQLAlchemy takes longer to load than most commands take to run.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from supervisor.store.sql.columns import OPEN_MESSAGES, OPEN_REPLIES

metadata = MetaData()
_row_number = BigInteger().with_variant(Integer, "sqlite")

agents = Table(
    "agents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, server_default=text("''")),
    Column("handler", Text),
    Column("secret", Text),
    Column("settings", Text, server_default=text("'{}'")),
    Column("labels", Text, server_default=text("'{}'")),
    Column("paused", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Text, nullable=False, server_default=text("CURRENT_TIMESTAMP")),
    Column("updated_at", Text, nullable=False, server_default=text("CURRENT_TIMESTAMP")),
)

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

agent_keys = Table(
    "agent_keys",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("agent_id", Text, nullable=False, unique=True),
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", _row_number, primary_key=True, autoincrement=False),
    Column("agent_key", Integer, ForeignKey("agent_keys.key"), nullable=False),
    Column("message_key", LargeBinary, nullable=False),
    Column("conversation_id", Text, nullable=False),
    Column("state", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("replay", Integer, nullable=False, server_default=text("0")),
    Column("received_at", Float, nullable=False),
    Column("not_before", Float, nullable=False, server_default=text("0")),
    Column("settled_at", Float),
    Column("error", Text),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("agent_key", "message_key", name="inbox_message"),
)
Index("inbox_conversation", inbox.c.agent_key, inbox.c.conversation_id, inbox.c.id)
Index(
    "inbox_open",
    inbox.c.agent_key,
    inbox.c.state,
    sqlite_where=text(OPEN_MESSAGES),
    postgresql_where=text(OPEN_MESSAGES),
)

# inbox_id is no foreign key: to check one on every deletion from the inbox would take a fourth index on the hot path.
outbox = Table(
    "outbox",
    metadata,
    Column("id", _row_number, primary_key=True, autoincrement=False),
    Column("agent_key", Integer, ForeignKey("agent_keys.key"), nullable=False),
    Column("inbox_id", _row_number),
    Column("part", Integer, nullable=False),
    Column("conversation_id", Text, nullable=False),
    Column("state", Integer, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Float, nullable=False),
    Column("not_before", Float, nullable=False, server_default=text("0")),
    Column("settled_at", Float),
    Column("error", Text),
    Column("body", LargeBinary, nullable=False),
)
Index("outbox_conversation", outbox.c.agent_key, outbox.c.conversation_id, outbox.c.id)
Index("outbox_open", outbox.c.agent_key, sqlite_where=text(OPEN_REPLIES), postgresql_where=text(OPEN_REPLIES))

conversations = Table(
    "conversations",
    metadata,
    Column("agent_key", Integer, ForeignKey("agent_keys.key"), primary_key=True),
    Column("conversation_id", Text, primary_key=True),
    Column("last_seen", Float, nullable=False),
    sqlite_with_rowid=False,
)

# A number of its own, for what looks at all of it slice by slice.
conversation_summaries = Table(
    "conversation_summaries",
    metadata,
    Column("id", _row_number, primary_key=True),
    Column("agent_key", Integer, ForeignKey("agent_keys.key"), nullable=False),
    Column("conversation_id", Text, nullable=False),
    Column("up_to_id", _row_number, nullable=False),
    Column("since", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("agent_key", "conversation_id", name="conversation_summary"),
)
Index("conversation_summaries_since", conversation_summaries.c.since)

# The day first: today's rows lie together, which every commit adds to, and old days are pruned whole.
usage = Table(
    "usage",
    metadata,
    Column("day", Text, primary_key=True),
    Column("agent_key", Integer, ForeignKey("agent_keys.key"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("cost", Float, nullable=False),
    Column("unpriced_requests", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False, server_default="0"),
    Column("estimated_requests", BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

# Keyed by the id itself: an agent that never had a message has no row in agent_keys.
agent_lives = Table(
    "agent_lives",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("registered_at", Float),
    Column("asleep_since", Float),
    Column("asleep_until", Float),
    Column("asleep_reason", Text),
    sqlite_with_rowid=False,
)

agent_events = Table(
    "agent_events",
    metadata,
    Column("id", _row_number, primary_key=True),
    Column("at", Float, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("after", Text),
    Column("undo", Text),
)
Index("agent_events_agent", agent_events.c.agent_id, agent_events.c.id)
Index("agent_events_at", agent_events.c.at)
