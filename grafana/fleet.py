"""The fleet: is it well, what does it do, what does it cost, what runs out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import capacity, replicas
from grafana.blocks import Column, Steps, Target, figure, graph, heat, listing, quantiles
from grafana.colors import ATTEMPTS, OUTCOMES, QUANTILES, REQUESTS, SENDS, STATES, TYPES
from grafana.frame import AGENT_LINK, FLEET, assemble
from grafana.promql import (
    TARGET,
    buckets,
    errors_by,
    errors_of_all,
    named,
    offline,
    online_share,
    quantile,
    rate,
    series,
    summed,
)

#: None is fine, one is not.
NONE: Final[Steps] = ((None, "green"), (1, "red"))
LATENCY = "supervisor_message_latency_seconds"


def build() -> Dashboard:
    """Make the dashboard."""
    return assemble(
        FLEET,
        "AIWM supervisor / Fleet",
        "Whether the fleet is well: the first line says it, the rows below say why.",
        {
            "Fleet": [*_health(), *_answers(), *_connections(), *_losses()],
            "Traffic: rate, errors, duration": [*_traffic(), *_durations(), *_sends()],
            "Tokens and cost": _tokens(),
            "Saturation": capacity.saturation(),
            "Process": capacity.process(),
        },
        closed={replicas.TITLE: replicas.replicas()},
    )


def _health() -> Sequence[Any]:
    """Whether the agents are there."""
    unwell = series("supervisor_agents", 'state=~"rejected|faulted"')
    return [
        figure(
            "Ready",
            "What /readyz says of the least ready supervisor; one that cannot be scraped is not ready. "
            "See the journal below, and the answer of /readyz for the reason.",
            "none",
            Target(_ready()),
            steps=((None, "red"), (1, "green")),
            texts={"0": ("No", "red"), "1": ("Yes", "green")},
        ),
        figure(
            "Agents online",
            "Of those that are to be: paused, draining and stopped ones are not counted.",
            "percentunit",
            Target(online_share()),
            steps=((None, "red"), (0.9, "yellow"), (0.99, "green")),
            decimals=1,
        ),
        figure(
            "Rejected, faulted",
            "Agents that do not come back by themselves soon: the platform refuses their credentials, or they cannot "
            "run as they are configured. `supervisor agents list` has the reasons.",
            "short",
            Target(summed(unwell)),
            steps=NONE,
        ),
        figure(
            "Failing health",
            "Agents that are there and cannot do their work, such as an assistant whose model refuses its key.",
            "short",
            Target(summed(series("supervisor_agents_failing"))),
            steps=((None, "green"), (1, "orange")),
        ),
    ]


def _answers() -> Sequence[Any]:
    """Whether people get their answers."""
    dead = series("supervisor_inbox_messages", 'state="dead"')
    return [
        figure(
            "Oldest message",
            "How long the oldest waiting message has waited for a handler to begin. It grows where agents are busy, "
            "retry, or stand "
            "still.",
            "s",
            Target(f"max({series('supervisor_inbox_oldest_seconds')})"),
            steps=((None, "green"), (30, "yellow"), (120, "red")),
        ),
        figure(
            "Dead letters",
            "Messages whose attempts are used up and that nobody has dealt with yet: `supervisor messages list`.",
            "short",
            Target(summed(dead)),
            steps=((None, "green"), (1, "orange"), (10, "red")),
        ),
        figure(
            "Error ratio",
            "The share of messages that ended as a dead letter or by a time-out, of all that ended.",
            "percentunit",
            Target(errors_of_all()),
            steps=((None, "green"), (0.01, "yellow"), (0.05, "red")),
            decimals=1,
        ),
        figure(
            "Latency p95",
            "From a message's arrival to the acknowledgement of its answer, for 95 of 100 messages.",
            "s",
            Target(quantile(0.95, LATENCY)),
            steps=((None, "green"), (30, "yellow"), (60, "red")),
            none="no traffic",
        ),
    ]


def _ready() -> str:
    # Whoever is scraped in a supervisor's job and does not answer counts as zero; so do all, when none answers.
    deaf = f"0 * {series('up')} and on (cluster, namespace, job) {series('supervisor_build_info')}"
    return f"min({series('supervisor_ready')} or {deaf}) or vector(0)"


def _connections() -> Sequence[Any]:
    """Who is connected, and who is not."""
    left = f"{series('supervisor_agent_auth_expiry_timestamp_seconds')} - time()"
    return [
        graph(
            "Agents by state",
            "All but paused and stopped ones should be online; many in backoff at once mean that a platform is down.",
            "short",
            Target(f"{summed(series('supervisor_agents'), 'state')} > 0", "{{state}}"),
            stacked=True,
            colors=STATES,
        ),
        graph(
            "Attempts to connect, per minute",
            "By how they ended. A fleet at rest makes none but for token renewals.",
            "short",
            Target(f"{rate('supervisor_connection_attempts_total', by='outcome')} * 60", "{{outcome}}"),
            colors=ATTEMPTS,
            rare=True,
        ),
        listing(
            "Not online",
            "Agents that are not online, paused ones among them. Those past METRICS_AGENT_LIMIT are counted together "
            "as _other and are listed only when none of them is online. A click opens the agent.",
            Column("Agent", label="agent", link=AGENT_LINK),
            Column("Name", label="name"),
            Column("Messages waiting", expr=named(_of_down("supervisor_agent_inbox_messages")), unit="short"),
            Column("Token valid for", expr=named(f"({left}) and on ({TARGET}, agent) {offline()}"), unit="s"),
            none="Every agent is online",
        ),
    ]


def _losses() -> Sequence[Any]:
    """What ends connections, and what will."""
    left = f"{series('supervisor_agent_auth_expiry_timestamp_seconds')} - time()"
    return [
        graph(
            "Lost connections, per minute",
            "By reason. Ends that the supervisor itself wants, as when a token is renewed, are among them.",
            "short",
            Target(f"{rate('supervisor_disconnects_total', by='reason')} * 60", "{{reason}}"),
            rare=True,
        ),
        graph(
            "Token requests, per minute",
            "By how they ended. Other outcomes than ok keep agents from connecting once their tokens expire.",
            "short",
            Target(f"{rate('supervisor_auth_refreshes_total', by='outcome')} * 60", "{{outcome}}"),
            colors=REQUESTS,
            rare=True,
        ),
        graph(
            "Soonest token expiry",
            "Time left of the token that ends first. Tokens are renewed REFRESH_MARGIN (5 min) before their end: "
            "below that a renewal is overdue, at zero the agent falls offline.",
            "s",
            Target(f"min({left})", "time left"),
        ),
    ]


def _of_down(metric: str) -> str:
    return f"{series(metric)} and on ({TARGET}, agent) {offline()}"


def _traffic() -> Sequence[Any]:
    """What comes, and what handlers make of it."""
    handled = "supervisor_messages_handled_total"
    return [
        graph(
            "Messages received",
            "Accepted into the journal, by handler.",
            "mps",
            Target(rate("supervisor_messages_received_total", by="handler"), "{{handler}}"),
            stacked=True,
        ),
        graph(
            "Messages handled",
            "Attempts of handlers, by outcome: a retried message is handled again. Dead letters and time-outs are "
            "failures; released ones were given back at a stop, lost ones were erased meanwhile.",
            "mps",
            Target(rate(handled, by="outcome"), "{{outcome}}"),
            stacked=True,
            colors=OUTCOMES,
            rare=True,
        ),
        graph(
            "Error ratio by handler",
            "The share of messages that ended without their answer, by handler.",
            "percentunit",
            Target(errors_by("handler"), "{{handler}}"),
            limit=0.05,
            top=0.1,
            decimals=1,
        ),
    ]


def _durations() -> Sequence[Any]:
    """How long answers take, and where that time goes."""
    return [
        graph(
            "Latency",
            "From a message's arrival to the acknowledgement of its answer: waiting, handling and sending together.",
            "s",
            *quantiles(LATENCY, 0.5, 0.95, 0.99, exemplars=True),
            colors=QUANTILES,
        ),
        graph(
            "Where the time goes (p95)",
            "Waiting for the handler, the handler itself, and the delivery of its answer. Long waits: raise "
            "CONCURRENCY or "
            "the agent's; long handling: look at the models; long sends: at the platform.",
            "s",
            Target(quantile(0.95, "supervisor_message_queue_seconds"), "queue"),
            Target(quantile(0.95, "supervisor_message_handle_seconds"), "handle", exemplars=True),
            Target(quantile(0.95, "supervisor_message_send_seconds"), "send"),
        ),
        graph(
            "Latency p95 by handler",
            "From a message's arrival to the acknowledgement of its answer, for 95 of 100 messages.",
            "s",
            Target(quantile(0.95, LATENCY, by="handler"), "{{handler}}", exemplars=True),
        ),
        heat(
            "Latency, all messages", "How many messages were answered within which time.", "s", Target(buckets(LATENCY))
        ),
    ]


def _sends() -> Sequence[Any]:
    """What goes out, and what was not let in."""
    refused = rate("supervisor_messages_dropped_total", 'reason!="own_echo"', by="reason")
    return [
        graph(
            "Sends",
            "Messages sent to the platform, by how it ended. Refused ones end as undelivered replies when tried in "
            "vain.",
            "mps",
            Target(rate("supervisor_sends_total", by="outcome"), "{{outcome}}"),
            colors=SENDS,
            rare=True,
        ),
        graph(
            "Messages not accepted, per minute",
            "What came and was not journaled, by reason; the echoes of own messages are left out. Duplicates are no "
            "loss; inbox_full and "
            "loop_guard "
            "are refusals that the sender is told of.",
            "short",
            Target(f"{refused} * 60", "{{reason}}"),
            Target(f"{rate('supervisor_unknown_total', by='kind')} * 60", "unknown {{kind}}"),
            rare=True,
        ),
    ]


def _tokens() -> Sequence[Any]:
    failed = rate("gen_ai_client_operation_duration_seconds_count", 'error_type!=""', by="error_type")
    return [
        graph(
            "Tokens per minute, by type",
            "Input, output, and the cached ones, which are part of the input.",
            "short",
            Target(f"{rate('supervisor_llm_tokens_total', by='type')} * 60", "{{type}}"),
            width=6,
            colors=TYPES,
        ),
        graph(
            "Cost rate: what an hour costs, by model",
            "What an hour at the present pace costs, in the currency of PRICES; models without a price cost nothing "
            "here. What was spent is on the dashboard of tokens and cost.",
            "currencyUSD",
            Target(f"{rate('supervisor_llm_cost_total', by='model')} * 3600", "{{model}} /h"),
            width=8,
            stacked=True,
            decimals=2,
        ),
        graph(
            "Budget used",
            "The part of today's budgets (UTC) that is used: the fleet's, and the highest of the agents' own. At 100 % "
            "models are no longer asked.",
            "percentunit",
            Target(f"max by (scope) ({series('supervisor_budget_used_ratio')})", "{{scope}}"),
            width=4,
            limit=0.8,
            top=1.0,
            decimals=0,
        ),
        graph(
            "Model errors, per minute",
            "Model calls that failed, by error. A message may still be answered at the next attempt.",
            "short",
            Target(f"{failed} * 60", "{{error_type}}"),
            width=6,
            rare=True,
        ),
    ]
