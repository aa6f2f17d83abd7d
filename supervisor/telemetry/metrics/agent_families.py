"""What the figures of agents are called, and what each says."""

from __future__ import annotations

from typing import Final

from supervisor.telemetry.metrics.families import OTHER, Description

AGENTS = Description("supervisor_agents", "gauge", "Agents in each state.", "agents", ("state",))
FAILING = Description(
    "supervisor_agents_failing", "gauge", "Agents whose health is failing, whatever their state.", "agents"
)
CONNECTING_OLDEST = Description(
    "supervisor_agents_connecting_oldest_seconds",
    "gauge",
    "How long the agent that has been so longest is on its way (authenticating, connecting, registering or in backoff) "
    "without being online in between, in seconds; 0 when none is.",
    "seconds",
)
UP = Description(
    "supervisor_agent_up",
    "gauge",
    f"1 while the agent is online, else 0 (a boolean); {OTHER}: how many others are.",
    "boolean",
    ("agent",),
)
_ABOUT: Final = (
    "Always 1; its labels are the agent's name and handler, cut to 64 characters, to be joined by the agent."
)
INFO = Description("supervisor_agent_info", "info", _ABOUT, "", ("agent", "name", "handler"))
TROUBLE = Description(
    "supervisor_agent_trouble",
    "gauge",
    "1 for what keeps the agent from answering: rejected, faulted or failing; no series while nothing does; "
    f"a boolean; {OTHER}: how many others.",
    "boolean",
    ("agent", "trouble"),
)
EXPIRY = Description(
    "supervisor_agent_auth_expiry_timestamp_seconds",
    "gauge",
    f"When the agent's token expires, in seconds since the epoch; {OTHER}: the soonest of the others.",
    "seconds",
    ("agent",),
)
AGENT_TOKENS = Description(
    "supervisor_agent_llm_tokens_total",
    "counter",
    "LLM tokens of the agent, by type: input and output make the total; cached is a part of input.",
    "tokens",
    ("agent", "type"),
)
AGENT_COST = Description(
    "supervisor_agent_llm_cost_total",
    "counter",
    "What the agent's LLM tokens cost, in the currency of the configured prices; nothing of models without a price.",
    "currency",
    ("agent",),
)
BUDGETS = Description(
    "supervisor_budget_used_ratio",
    "gauge",
    "The part of today's budget that is used, as a ratio: the fleet's, and the highest of the agents' own.",
    "ratio",
    ("scope",),
)
AGENT_BUDGET = Description(
    "supervisor_agent_budget_used_ratio",
    "gauge",
    f"The part of the agent's own budget of today that is used, as a ratio; {OTHER}: the highest of the others.",
    "ratio",
    ("agent",),
)
INBOX = Description(
    "supervisor_inbox_messages",
    "gauge",
    "Messages in the journal, by state: those to be tried again are available, dead ones are dead letters.",
    "messages",
    ("state",),
)
AGENT_INBOX = Description(
    "supervisor_agent_inbox_messages",
    "gauge",
    f"Messages of the agent that wait or run; {OTHER}: of the others.",
    "messages",
    ("agent",),
)
OLDEST = Description(
    "supervisor_inbox_oldest_seconds",
    "gauge",
    "Age of the oldest message that waits for its handler, in seconds; 0 when none does.",
    "seconds",
)
OUTBOX = Description(
    "supervisor_outbox_messages",
    "gauge",
    "Messages on their way to the platform: sent and not acknowledged yet, or pending: waiting for their turn, time "
    "or connection.",
    "messages",
    ("state",),
)
UNJOINED = Description(
    "supervisor_conversations_unjoined",
    "gauge",
    "Conversations of connected agents that the platform lists and that are not joined yet.",
    "conversations",
)
#: In the order in which they are written.
DESCRIPTIONS: Final = (
    AGENTS,
    UP,
    EXPIRY,
    AGENT_TOKENS,
    AGENT_COST,
    BUDGETS,
    AGENT_BUDGET,
    AGENT_INBOX,
    INBOX,
    OLDEST,
    OUTBOX,
    FAILING,
    UNJOINED,
    CONNECTING_OLDEST,
    INFO,
    TROUBLE,
)
