"""Leases as another replica would have them: one that counts as alive, and does nothing."""

from __future__ import annotations

from tests.support import postgres

_SAID = '{"address":"http://another:1","pid":7,"host":"another","lease_seconds":300}'


def another_replica(url: str) -> int:
    """A replica beside those that run; its number."""
    added = "INSERT INTO replicas (id, said) VALUES (nextval('replica_id'), $1) RETURNING id"
    number: int = postgres.on_server(added, _SAID, url=url)[0][0]
    return number


def give_to_another(url: str) -> None:
    """As if another replica were to have every agent, and ready for it."""
    moved = "UPDATE leases SET next = $1, next_at = clock_timestamp(), ready = true"
    postgres.on_server(moved, another_replica(url), url=url)


def handed(url: str) -> list[tuple[bool, bool]]:
    """Of each agent whether its owner let go of it, and had heard everything."""
    return postgres.on_server("SELECT handed, heard_all FROM leases ORDER BY agent_id", url=url)
