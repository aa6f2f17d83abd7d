"""The first schema as PostgreSQL has it: what revision 0001 runs there in place of SQLite's tables.

A message is written once (``inbox_bodies``); what changes of it is a small row of ``inbox_open`` until it is settled,
and one of ``inbox_settled`` from then on: an update in place would write the message again, and leave it behind as a
dead row. Replies likewise. The views ``inbox`` and ``outbox`` show both as the one table that SQLite has, for whoever
reads, and take changes row by row. The checks on ``state`` let the planner leave out the half that a
condition on ``state`` excludes.

``agents`` is the public table, the same as in SQLite; triggers keep ``updated_at`` and note each change.
``replicas`` and ``fences`` say who runs the registry: a process that writes holds its row of ``fences``, which whoever
takes over deletes.
"""

# ruff: noqa: S608 - the texts are put together from names of our own

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

#: Text that is compared and sorted byte by byte in every database, whatever the locale of one.
COMPARED: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

_NOW: Final = "to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')"

AGENTS: Final = (
    f"""
CREATE TABLE agents (
    id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL DEFAULT '',
    handler text,
    secret text,
    settings text DEFAULT '{{}}',
    labels text DEFAULT '{{}}',
    paused integer NOT NULL DEFAULT 0,
    created_at text NOT NULL DEFAULT {_NOW},
    updated_at text NOT NULL DEFAULT {_NOW}
)""",
    f"""
CREATE FUNCTION agents_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := {_NOW};
    RETURN NEW;
END $$""",
    """
CREATE TRIGGER agents_touch BEFORE UPDATE OF name, handler, secret, settings, labels, paused ON agents
FOR EACH ROW WHEN (NEW.updated_at = OLD.updated_at) EXECUTE FUNCTION agents_touch()""",
    # A transaction's number with each change: one that commits late is found by it, where a counter would have passed.
    """
CREATE TABLE agent_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    agent_id text COLLATE "C",
    replicas bigint[],
    at timestamptz NOT NULL DEFAULT clock_timestamp()
)""",
    "CREATE INDEX agent_changes_xid ON agent_changes (xid)",
    """
CREATE FUNCTION agents_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO agent_changes (agent_id) VALUES (NULL);
        DELETE FROM agent_tokens;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO agent_changes (agent_id) SELECT id FROM gone;
        DELETE FROM agent_tokens USING gone WHERE agent_id = id;
    ELSE
        INSERT INTO agent_changes (agent_id) SELECT id FROM written;
        INSERT INTO leases (agent_id) SELECT id FROM written ON CONFLICT (agent_id) DO NOTHING;
    END IF;
    PERFORM pg_notify('aiwm_agents', '');
    RETURN NULL;
END $$""",
    *(
        f"CREATE TRIGGER agents_{name} AFTER {event} ON agents {rows} "
        "FOR EACH STATEMENT EXECUTE FUNCTION agents_changed()"
        for name, event, rows in (
            ("added", "INSERT", "REFERENCING NEW TABLE AS written"),
            ("changed", "UPDATE", "REFERENCING NEW TABLE AS written"),
            ("removed", "DELETE", "REFERENCING OLD TABLE AS gone"),
            ("emptied", "TRUNCATE", ""),
        )
    ),
    # Which replica has an agent: nobody until one is given it, and who is to have it next.
    """
CREATE TABLE leases (
    agent_id text COLLATE "C" PRIMARY KEY,
    owner bigint,
    epoch bigint NOT NULL DEFAULT 0,
    next bigint,
    next_at timestamptz,
    ready boolean NOT NULL DEFAULT false,
    refused_at timestamptz,
    handed boolean NOT NULL DEFAULT false,
    heard_all boolean NOT NULL DEFAULT false,
    since timestamptz
) WITH (fillfactor = 70)""",
    "CREATE INDEX leases_owner ON leases (owner)",
    "CREATE INDEX leases_next ON leases (next) WHERE next IS NOT NULL",
    # The platform's tokens, encrypted, for whoever runs an agent next.
    """
CREATE TABLE agent_tokens (
    agent_id text COLLATE "C" PRIMARY KEY,
    sealed bytea NOT NULL,
    asked_at timestamptz NOT NULL
)""",
    """
CREATE FUNCTION leases_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO agent_changes (agent_id, replicas)
    SELECT agent_id, array_remove(ARRAY[written.owner, written.next, known.owner, known.next], NULL)
    FROM written JOIN known USING (agent_id)
    WHERE (written.owner, written.next, written.ready, written.refused_at)
        IS DISTINCT FROM (known.owner, known.next, known.ready, known.refused_at);
    IF FOUND THEN
        PERFORM pg_notify('aiwm_agents', '');
    END IF;
    RETURN NULL;
END $$""",
    "CREATE TRIGGER leases_changed AFTER UPDATE ON leases REFERENCING OLD TABLE AS known NEW TABLE AS written "
    "FOR EACH STATEMENT EXECUTE FUNCTION leases_changed()",
    """
CREATE TABLE agent_keys (
    key integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    agent_id text COLLATE "C" NOT NULL UNIQUE
)""",
)

INBOX: Final = (
    """
CREATE TABLE inbox_bodies (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    agent_key integer NOT NULL,
    message_key bytea NOT NULL,
    conversation_id text COLLATE "C" NOT NULL,
    received_at double precision NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT inbox_message UNIQUE (agent_key, message_key)
)""",
    "CREATE INDEX inbox_conversation ON inbox_bodies (agent_key, conversation_id, id)",
    *(
        f"""
CREATE TABLE {table} (
    id bigint PRIMARY KEY,
    agent_key integer NOT NULL,
    state smallint NOT NULL CHECK (state {bound}),
    attempts integer NOT NULL,
    replay integer NOT NULL DEFAULT 0,
    not_before double precision NOT NULL DEFAULT 0,
    settled_at double precision,
    error text
) WITH (fillfactor = {fill})"""
        for table, bound, fill in (("inbox_open", "<= 3", 70), ("inbox_settled", ">= 4", 100))
    ),
    # Heard by a process that was the agent's owner no more.
    "ALTER TABLE inbox_open ADD COLUMN handed_in boolean NOT NULL DEFAULT false",
    "CREATE INDEX inbox_handed_in ON inbox_open (id) WHERE handed_in",
    "CREATE INDEX inbox_open_agent ON inbox_open (agent_key)",
    """
CREATE VIEW inbox AS
SELECT s.id, s.agent_key, b.message_key, b.conversation_id, s.state, s.attempts, s.replay, b.received_at, s.not_before,
    s.settled_at, s.error, b.body
FROM (
    SELECT id, agent_key, state, attempts, replay, not_before, settled_at, error FROM inbox_open
    UNION ALL
    SELECT id, agent_key, state, attempts, replay, not_before, settled_at, error FROM inbox_settled
) AS s LEFT JOIN inbox_bodies AS b ON b.id = s.id AND b.agent_key = s.agent_key""",
)

OUTBOX: Final = (
    """
CREATE TABLE outbox_bodies (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    agent_key integer NOT NULL,
    inbox_id bigint,
    part integer NOT NULL,
    conversation_id text COLLATE "C" NOT NULL,
    created_at double precision NOT NULL,
    body bytea NOT NULL
)""",
    "CREATE INDEX outbox_conversation ON outbox_bodies (agent_key, conversation_id, id)",
    *(
        f"""
CREATE TABLE {table} (
    id bigint PRIMARY KEY,
    agent_key integer NOT NULL,
    state smallint NOT NULL CHECK (state {bound}),
    attempts integer NOT NULL DEFAULT 0,
    not_before double precision NOT NULL DEFAULT 0,
    settled_at double precision,
    error text
) WITH (fillfactor = {fill})"""
        for table, bound, fill in (("outbox_open", "<= 1", 70), ("outbox_settled", ">= 2", 100))
    ),
    "CREATE INDEX outbox_open_agent ON outbox_open (agent_key)",
    "CREATE INDEX outbox_undelivered ON outbox_settled (agent_key) WHERE state >= 3",
    """
CREATE VIEW outbox AS
SELECT s.id, s.agent_key, b.inbox_id, b.part, b.conversation_id, s.state, s.attempts, b.created_at, s.not_before,
    s.settled_at, s.error, b.body
FROM (
    SELECT id, agent_key, state, attempts, not_before, settled_at, error FROM outbox_open
    UNION ALL
    SELECT id, agent_key, state, attempts, not_before, settled_at, error FROM outbox_settled
) AS s LEFT JOIN outbox_bodies AS b ON b.id = s.id AND b.agent_key = s.agent_key""",
)


def _row_by_row(view: str, last_open: int, columns: str, body: str) -> tuple[str, ...]:
    """Triggers that bring what is done to a view to the tables below it; a row that is changed or goes as it was seen.

    Args:
        last_open: the last of the states that are open.
        columns: what changes of a row.
        body: what is written once.
    """
    as_seen = f"id = OLD.id AND ({columns}) IS NOT DISTINCT FROM ({_of('OLD', columns)})"
    taken_away = f"""
    IF OLD.state <= {last_open} THEN DELETE FROM {view}_open WHERE {as_seen};
    ELSE DELETE FROM {view}_settled WHERE {as_seen};
    END IF;
    IF NOT FOUND THEN RETURN NULL; END IF;"""
    values = f"(id, agent_key, {columns}, error) VALUES (NEW.id, NEW.agent_key, {_of('NEW', columns)}, NEW.error)"
    put = f"""
    IF NEW.state <= {last_open} THEN INSERT INTO {view}_open {values};
    ELSE INSERT INTO {view}_settled {values};
    END IF;"""
    bodies = f"{view}_bodies"
    written = f"(id, agent_key, {body}) VALUES (NEW.id, NEW.agent_key, {_of('NEW', body)})"
    return (
        *_instead(view, "insert", f"INSERT INTO {bodies} {written};{put} RETURN NEW;"),
        *_instead(
            view,
            "update",
            f"{taken_away}{put}"
            f" IF NEW.body <> OLD.body THEN UPDATE {bodies} SET body = NEW.body WHERE id = OLD.id; END IF; RETURN NEW;",
        ),
        *_instead(view, "delete", f"{taken_away} DELETE FROM {bodies} WHERE id = OLD.id; RETURN OLD;"),
    )


def _instead(view: str, event: str, body: str) -> tuple[str, str]:
    name = f"{view}_{event}"
    return (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        f"CREATE TRIGGER {name} INSTEAD OF {event.upper()} ON {view} FOR EACH ROW EXECUTE FUNCTION {name}()",
    )


def _of(row: str, columns: str) -> str:
    return ", ".join(f"{row}.{column}" for column in columns.split(", "))


VIEWS: Final = (
    *_row_by_row(
        "inbox",
        3,
        "state, attempts, replay, not_before, settled_at",
        "message_key, conversation_id, received_at, body",
    ),
    *_row_by_row(
        "outbox", 1, "state, attempts, not_before, settled_at", "inbox_id, part, conversation_id, created_at, body"
    ),
)

OTHERS: Final = (
    """
CREATE TABLE conversations (
    agent_key integer NOT NULL,
    conversation_id text COLLATE "C" NOT NULL,
    last_seen double precision NOT NULL,
    PRIMARY KEY (agent_key, conversation_id)
) WITH (fillfactor = 80)""",
    "CREATE TABLE meta (key text PRIMARY KEY, value text NOT NULL)",
    # What runs the registry: a number that is never given again, and a counter that its owner moves.
    "CREATE SEQUENCE replica_id",
    """
CREATE TABLE replicas (
    id bigint PRIMARY KEY,
    beat bigint NOT NULL DEFAULT 0,
    beat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    draining boolean NOT NULL DEFAULT false,
    said text NOT NULL,
    down text[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 50)""",
    # Locked by every write, never changed: row 0 is for whoever writes beside the one that runs.
    "CREATE TABLE fences (replica bigint PRIMARY KEY)",
    "INSERT INTO fences (replica) VALUES (0)",
    """
CREATE TABLE graves (
    replica bigint PRIMARY KEY,
    said text NOT NULL,
    beat_at timestamptz NOT NULL,
    told boolean NOT NULL DEFAULT false,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
)""",
    # What became of each batch of a writer whose connection broke: one that was committed is not written again.
    """
CREATE TABLE journal_commits (
    writer bigint NOT NULL,
    batch bigint NOT NULL,
    kinds smallint[] NOT NULL,
    refs bigint[] NOT NULL,
    ids bigint[] NOT NULL,
    keys bytea[] NOT NULL,
    PRIMARY KEY (writer, batch)
)""",
)

STATEMENTS: Final = (*AGENTS, *INBOX, *OUTBOX, *VIEWS, *OTHERS)
