"""One message's way: taken in, journaled, answered in its turn, and the answer delivered; what was missed is asked for.

May import platform, store, handlers and what is below. When an agent is connected belongs to :mod:`supervisor.fleet`,
frames and rates to :mod:`supervisor.platform`, SQL to :mod:`supervisor.store`, how a handler is called to
:mod:`supervisor.handlers`.
"""

from supervisor.messages.budgets import Limits
from supervisor.messages.commands import AgentActions, Situation
from supervisor.messages.context import AgentContext
from supervisor.messages.dispatcher import Dispatcher
from supervisor.messages.ledger import Ledger
from supervisor.messages.pipeline import Pipeline
from supervisor.messages.profile import Profile
from supervisor.messages.scope import Scope

__all__ = [
    "AgentActions",
    "AgentContext",
    "Dispatcher",
    "Ledger",
    "Limits",
    "Pipeline",
    "Profile",
    "Scope",
    "Situation",
]
