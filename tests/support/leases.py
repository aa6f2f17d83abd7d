"""Leases as another replica would have them: one that counts as alive, and does nothing."""

from __future__ import annotations

from tests.support import postgres
from tests.support.stack import Stack, agent_id

_SAID = '{"address":"http://another:1","pid":7,"host":"another","lease_seconds":300}'


def another_replica(url: str) -> int:
    """A replica beside those that run; its number."""
    added = "INSERT INTO replicas (id, said) VALUES (nextval('replica_id'), $1) RETURNING id"
    number: int = postgres.on_server(added, _SAID, url=url)[0][0]
    return number


async def on_its_way(fleet: Stack) -> str:
    """An agent of another replica, on its way to the service of ``fleet`` and connected there; its id."""
    url, mine = fleet.settings.registry_url, fleet.service.registry.replicas.my_id
    given = "INSERT INTO leases (agent_id, owner, next, epoch) VALUES ($1, $2, $3, 1)"
    postgres.on_server(given, agent_id(1), another_replica(url), mine, url=url)
    identity = await fleet.add(1)
    await fleet.until(lambda: postgres.on_server("SELECT ready FROM leases", url=url) == [(True,)])
    return identity


def give_to_another(url: str) -> None:
    """As if another replica were to have every agent, and ready for it."""
    moved = "UPDATE leases SET next = $1, next_at = clock_timestamp(), ready = true"
    postgres.on_server(moved, another_replica(url), url=url)


def handed(url: str) -> list[tuple[bool, bool]]:
    """Of each agent whether its owner let go of it, and had heard everything."""
    return postgres.on_server("SELECT handed, heard_all FROM leases ORDER BY agent_id", url=url)
