"""What all agents of a process share."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field

from supervisor.clock import Clock
from supervisor.dispatcher import Dispatcher
from supervisor.events import Events
from supervisor.gates import Gates
from supervisor.handlers import HandlerLoader
from supervisor.history import PlatformHistory
from supervisor.ledger import Ledger
from supervisor.metrics import Metrics
from supervisor.outages import Outages
from supervisor.registry import Journal
from supervisor.secrets import SecretResolver
from supervisor.settings import Settings
from supervisor.threads import DaemonThreads
from supervisor.tokens import TokenClient
from supervisor.tracing import Tracing
from supervisor.transport import Transport


@dataclass(frozen=True, slots=True)
class Kit:
    """What every agent needs of the process; built by the service, shared by all."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    journal: Journal
    dispatcher: Dispatcher
    loader: HandlerLoader
    secrets: SecretResolver
    transport: Transport
    tokens: TokenClient
    history: PlatformHistory
    gates: Gates
    outages: Outages
    ledger: Ledger
    tracing: Tracing
    events: Events = field(default_factory=Events)
    #: Where handlers are imported: a bounded number at once, and not where DNS is looked up.
    imports: Executor = field(default_factory=lambda: DaemonThreads(2, "import"))
