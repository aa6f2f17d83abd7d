"""The statement that commits a batch of the journal, all of it in one round trip.

Its first part holds the writer's fence for as long as the transaction lasts: where that row is gone, every other part
finds nothing to do, and the answer says so. Rows come as arrays, one for each column. It answers with a row for each
thing that came about, and keeps the same rows in ``journal_commits``: a writer whose connection broke before it was
told finds there what became of its batch, and a batch that is sent twice meets its own number.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Kind(IntEnum):
    """What a row of the answer tells: its ``ref``, ``id`` and ``key``."""

    #: The writer still holds its fence.
    HELD = 0
    #: A message was added: the agent's key, its number, the message's key.
    ADDED = 1
    #: A message was moved: its position in the batch.
    MOVED = 2
    #: A reply was added: its number; numbers ascend as the replies do.
    REPLIED = 3
    #: A reply was moved: its position in the batch.
    REPLY_MOVED = 4
    #: A summary was kept: its position in the batch.
    SUMMED = 5


COMMIT: Final = """
WITH fence AS MATERIALIZED (SELECT 1 FROM fences WHERE replica = $1::bigint FOR SHARE),
added AS (
    INSERT INTO inbox_bodies (agent_key, message_key, conversation_id, received_at, body)
    SELECT v.agent, v.key, v.conversation, v.at, v.body
    FROM unnest($2::int[], $3::bytea[], $4::text[], $5::float8[], $6::bytea[])
        WITH ORDINALITY AS v(agent, key, conversation, at, body, position), fence
    ORDER BY v.position
    ON CONFLICT (agent_key, message_key) DO NOTHING
    RETURNING id, agent_key, message_key, conversation_id, received_at
),
opened AS (
    INSERT INTO inbox_open (id, agent_key, state, attempts)
    SELECT added.id, added.agent_key, v.state, v.attempts
    FROM added JOIN unnest($2::int[], $3::bytea[], $7::smallint[], $8::int[]) AS v(agent, key, state, attempts)
        ON v.agent = added.agent_key AND v.key = added.message_key
),
seen AS (
    INSERT INTO conversations (agent_key, conversation_id, last_seen)
    SELECT agent_key, conversation_id, max(received_at) FROM added GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (agent_key, conversation_id) DO UPDATE SET last_seen = excluded.last_seen
    WHERE excluded.last_seen > conversations.last_seen
),
moving AS MATERIALIZED (
    SELECT * FROM unnest(
        $9::int[], $10::bigint[], $11::smallint[], $12::int[], $13::int[],
        $14::smallint[], $15::int[], $16::float8[], $17::float8[], $18::text[]
    ) AS v(position, id, from_state, from_attempts, from_replay, state, attempts, not_before, settled_at, error), fence
),
kept AS (
    UPDATE inbox_open AS o SET state = v.state, attempts = v.attempts, not_before = v.not_before,
        settled_at = v.settled_at, error = v.error
    FROM moving AS v WHERE v.state <= 3 AND o.id = v.id AND o.state = v.from_state
        AND o.attempts = v.from_attempts AND o.replay = v.from_replay
    RETURNING v.position
),
ended AS (
    DELETE FROM inbox_open AS o USING moving AS v
    WHERE v.state > 3 AND o.id = v.id AND o.state = v.from_state
        AND o.attempts = v.from_attempts AND o.replay = v.from_replay
    RETURNING v.position, o.id, o.agent_key, o.replay, v.state, v.attempts, v.not_before, v.settled_at, v.error
),
settled AS (
    INSERT INTO inbox_settled (id, agent_key, state, attempts, replay, not_before, settled_at, error)
    SELECT id, agent_key, state, attempts, replay, not_before, settled_at, error FROM ended
),
moved AS (SELECT position FROM kept UNION ALL SELECT position FROM ended),
replied AS (
    INSERT INTO outbox_bodies (agent_key, inbox_id, part, conversation_id, created_at, body)
    SELECT v.agent, v.inbox_id, v.part, v.conversation, v.at, v.body
    FROM unnest($19::int[], $20::int[], $21::bigint[], $22::int[], $23::text[], $24::float8[], $25::bytea[])
        WITH ORDINALITY AS v(cause, agent, inbox_id, part, conversation, at, body, position), fence
    WHERE v.cause IS NULL OR v.cause IN (SELECT position FROM moved)
    ORDER BY v.position
    RETURNING id, agent_key
),
waiting AS (INSERT INTO outbox_open (id, agent_key, state) SELECT id, agent_key, 0 FROM replied),
moving_replies AS MATERIALIZED (
    SELECT * FROM unnest(
        $26::int[], $27::bigint[], $28::smallint[], $29::smallint[],
        $30::int[], $31::float8[], $32::float8[], $33::text[]
    ) AS v(position, id, from_state, state, attempts, not_before, settled_at, error), fence
),
kept_replies AS (
    UPDATE outbox_open AS o SET state = v.state, attempts = v.attempts, not_before = v.not_before,
        settled_at = v.settled_at, error = v.error
    FROM moving_replies AS v WHERE v.state <= 1 AND o.id = v.id AND o.state = v.from_state
    RETURNING v.position
),
ended_replies AS (
    DELETE FROM outbox_open AS o USING moving_replies AS v
    WHERE v.state > 1 AND o.id = v.id AND o.state = v.from_state
    RETURNING v.position, o.id, o.agent_key, v.state, v.attempts, v.not_before, v.settled_at, v.error
),
settled_replies AS (
    INSERT INTO outbox_settled (id, agent_key, state, attempts, not_before, settled_at, error)
    SELECT id, agent_key, state, attempts, not_before, settled_at, error FROM ended_replies
),
answer AS MATERIALIZED (
    SELECT 0::smallint AS kind, 0::bigint AS ref, 0::bigint AS id, ''::bytea AS key FROM fence
    UNION ALL SELECT 1::smallint, agent_key, id, message_key FROM added
    UNION ALL SELECT 2::smallint, position, 0, '' FROM moved
    UNION ALL SELECT 3::smallint, 0, id, '' FROM replied
    UNION ALL SELECT 4::smallint, position, 0, '' FROM kept_replies
    UNION ALL SELECT 4::smallint, position, 0, '' FROM ended_replies
),
noted AS (
    INSERT INTO journal_commits (writer, batch, kinds, refs, ids, keys)
    SELECT $34::bigint, $35::bigint, array_agg(kind), array_agg(ref), array_agg(id), array_agg(key) FROM answer
    WHERE $35::bigint IS NOT NULL HAVING count(*) > 0
)
SELECT kind, ref, id, key FROM answer"""

#: What became of a batch: the answer that was kept.
FOUND: Final = """
SELECT kind, ref, id, key
FROM journal_commits, unnest(kinds, refs, ids, keys) AS answer(kind, ref, id, key) WHERE writer = $1 AND batch = $2"""

#: Whether the database has a batch that it said was committed.
KEPT: Final = "SELECT true FROM journal_commits WHERE writer = $1 AND batch = $2"

#: The same answer kept by hand, of a batch that takes more than one statement.
NOTE: Final = """
INSERT INTO journal_commits (writer, batch, kinds, refs, ids, keys)
VALUES ($1, $2, $3::smallint[], $4::bigint[], $5::bigint[], $6::bytea[])"""

#: Nobody asks for the answers of batches before one any more.
FORGET: Final = "DELETE FROM journal_commits WHERE writer = $1 AND batch < $2"

#: What was handed in is told to whoever runs its agent, and taken up as a replay is.
HANDED_IN: Final = "UPDATE inbox_open SET handed_in = true WHERE id = ANY($1::bigint[])"
NEWS: Final = "INSERT INTO agent_changes (agent_id) SELECT DISTINCT unnest($1::text[])"
NOTIFY: Final = "SELECT pg_notify('aiwm_agents', '')"

NEW_KEYS: Final = """
INSERT INTO agent_keys (agent_id) SELECT DISTINCT v.id FROM unnest($1::text[]) AS v(id) ORDER BY v.id
ON CONFLICT (agent_id) DO NOTHING"""
KEYS: Final = "SELECT agent_id, key FROM agent_keys WHERE agent_id = ANY($1::text[])"

LEFT: Final = """
DELETE FROM conversations AS c USING unnest($1::int[], $2::text[]) AS v(agent, conversation)
WHERE c.agent_key = v.agent AND c.conversation_id = v.conversation"""
SEEN: Final = """
INSERT INTO conversations (agent_key, conversation_id, last_seen)
SELECT v.agent, v.conversation, v.at FROM unnest($1::int[], $2::text[], $3::float8[]) AS v(agent, conversation, at)
ORDER BY 1, 2
ON CONFLICT (agent_key, conversation_id) DO UPDATE SET last_seen = excluded.last_seen
WHERE excluded.last_seen > conversations.last_seen"""

REGISTERED: Final = """
INSERT INTO agent_lives (agent_id, registered_at) SELECT * FROM unnest($1::text[], $2::float8[]) AS v(id, at) ORDER BY 1
ON CONFLICT (agent_id) DO UPDATE SET registered_at = excluded.registered_at"""
SLEEP: Final = """
INSERT INTO agent_lives (agent_id, asleep_since, asleep_until, asleep_reason)
VALUES ($1, $2::float8, $3::float8, $4::text)
ON CONFLICT (agent_id) DO UPDATE SET asleep_since = excluded.asleep_since, asleep_until = excluded.asleep_until,
    asleep_reason = excluded.asleep_reason"""
SUMMARY: Final = """
INSERT INTO conversation_summaries (agent_key, conversation_id, up_to_id, since, body)
SELECT $1::int, $2::text, $3::bigint, $4::float8, $5::bytea
WHERE EXISTS (SELECT 1 FROM inbox_bodies WHERE id = $6::bigint AND agent_key = $1::int AND conversation_id = $2::text)
ON CONFLICT (agent_key, conversation_id) DO UPDATE SET up_to_id = excluded.up_to_id, since = excluded.since,
    body = excluded.body WHERE excluded.up_to_id >= conversation_summaries.up_to_id
RETURNING id"""
