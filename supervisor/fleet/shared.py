"""What all agents of a process share."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from supervisor.core.clock import Clock
from supervisor.core.turns import Turns
from supervisor.fleet.room import Room
from supervisor.handlers import DaemonThreads, HandlerLoader
from supervisor.handlers.threads import IDLE_SECONDS
from supervisor.messages import Dispatcher, Ledger
from supervisor.platform.beats import HeartbeatClient
from supervisor.platform.conversations import PlatformConversations
from supervisor.platform.files import PlatformFiles
from supervisor.platform.history import PlatformHistory
from supervisor.platform.hosts.agent_api import AgentApi
from supervisor.platform.hosts.checks import Checks
from supervisor.platform.hosts.deliveries import Deliveries
from supervisor.platform.hosts.engine_paths import EnginePaths
from supervisor.platform.hosts.facts import HostFacts
from supervisor.platform.hosts.gates import Gates
from supervisor.platform.hosts.outages import Outages
from supervisor.platform.tokens import KeptTokens, TokenClient
from supervisor.platform.transport import Transport
from supervisor.settings import Settings
from supervisor.settings.secrets import SecretResolver
from supervisor.store import Journal
from supervisor.telemetry.events import Events
from supervisor.telemetry.metrics import Metrics
from supervisor.telemetry.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Shared:
    """What every agent needs of the process; built by the service, shared by all."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    journal: Journal
    dispatcher: Dispatcher
    loader: HandlerLoader
    secrets: SecretResolver
    transport: Transport
    paths: EnginePaths
    tokens: TokenClient
    agent_api: AgentApi
    history: PlatformHistory
    files: PlatformFiles
    beats: HeartbeatClient
    conversations: PlatformConversations
    gates: Gates
    outages: Outages
    deliveries: Deliveries
    checks: Checks
    ledger: Ledger
    tracing: Tracing
    room: Room
    #: When work on what comes in bursts may go on.
    turns: Turns = field(default_factory=Turns)
    events: Events = field(default_factory=Events)
    facts: HostFacts = field(default_factory=HostFacts)
    #: Keeps tokens beyond this process; None where nobody is to have them.
    kept_tokens: KeptTokens | None = None
    #: Draws between two bounds, for what a fleet must not do all at once.
    uniform: Callable[[float, float], float] = random.uniform
    #: Where handlers are imported, one at a time; the others are for as many whose code hangs, and end when idle.
    imports: Executor = field(default_factory=lambda: DaemonThreads(16, "import", idle_seconds=IDLE_SECONDS))
