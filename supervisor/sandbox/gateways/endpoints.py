"""Which gateway answers at which engine path and namespace, per generation and stage."""

from supervisor.sandbox.gateways.base import Gateway
from supervisor.sandbox.gateways.v1 import GatewayV1
from supervisor.sandbox.gateways.v2 import GatewayV2
from supervisor.sandbox.gateways.v3 import (
    AgentsGateway,
    AliasGateway,
    PeopleGateway,
    StageOneGateway,
    StageThreeGateway,
)
from supervisor.sandbox.world.config import PEOPLE_PATH, SandboxConfig
from supervisor.sandbox.world.shared import Shared

ROOT = "/"
#: v3, stage ii.
AGENTS_NAMESPACE = "/ws/agent"


class Endpoints:
    """The gateways of one sandbox.

    Attributes:
        people: The gateway of people, also of those within this process.
    """

    def __init__(self, shared: Shared) -> None:
        config = shared.config
        self._table: dict[tuple[str, str], Gateway]
        self.people: Gateway
        if config.apart:
            self.people = PeopleGateway(shared)
            self._table = {
                (config.agents_path, ROOT): StageThreeGateway(shared),
                (PEOPLE_PATH, ROOT): self.people,
                (PEOPLE_PATH, "/ws/chat"): AliasGateway(shared),
            }
            return
        self.people = _chat_gateway(config, shared)
        self._table = {(config.agents_path, namespace): self.people for namespace in config.declared_namespaces}
        if config.profile == "v3" and config.stage == "ii":
            self._table[config.agents_path, AGENTS_NAMESPACE] = AgentsGateway(shared)

    def find(self, engine_path: str, namespace: str) -> Gateway | None:
        """The gateway of a namespace at an engine path; None for one that is not declared."""
        return self._table.get((engine_path, namespace))

    @property
    def engine_paths(self) -> tuple[str, ...]:
        """Where Engine.IO answers."""
        return tuple(dict.fromkeys(path for path, _ in self._table))


def _chat_gateway(config: SandboxConfig, shared: Shared) -> Gateway:
    if config.profile == "v1":
        return GatewayV1(shared)
    return GatewayV2(shared) if config.profile == "v2" else StageOneGateway(shared)
