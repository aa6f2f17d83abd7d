"""The admin server's app for all replicas, and the door at which the others ask this one."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from starlette.types import ASGIApp

from supervisor.admin import build_app
from supervisor.core.clock import Clock
from supervisor.peers import Doorkeeper, Gate, Key, Peers
from supervisor.service.control import Control
from supervisor.service.fleetwide.face import Fleetwide
from supervisor.service.fleetwide.others import Others
from supervisor.service.fleetwide.questions import answers_of
from supervisor.store import Registry


def admin_app(
    own: Control, registry: Registry, http: aiohttp.ClientSession, clock: Clock, address: Callable[[], str]
) -> ASGIApp:
    """What the admin port serves.

    Args:
        own: this replica.
        http: asks the others; follows no redirect and takes no proxy from the environment.
        address: where the registry says that this replica is.
    """
    table = registry.replicas
    token = own.settings.admin_token.get_secret_value() if own.settings.admin_token else ""
    if not table.shared or table.my_id is None or not token:
        return build_app(Fleetwide(own, registry, Others(table, None, clock)))
    key = Key(token, registry.uuid)
    face = Fleetwide(own, registry, Others(table, Peers(key, http, clock), clock))
    return Gate(build_app(face), key, Doorkeeper(table.my_id, clock.monotonic, address), answers_of(own))
