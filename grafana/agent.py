"""One agent, chosen by a variable, and the fleet beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.blocks import PLAIN, Steps, Target, figure, graph, note, quantiles, timeline
from grafana.colors import QUANTILES, STATES, TYPES
from grafana.frame import AGENT, agent_variable, assemble
from grafana.promql import called, errors_of_all, increase, online_share, rate, series, summed

FLEET_SCOPE: Final = 'scope="fleet"'
OWN: Final = 'agent=~"$agent"'
TEXTS: Final = {"0": ("Offline", "red"), "1": ("Online", "green")}
#: A budget that is used to 80 % is warned of, at 100 % the agent stops asking models.
BUDGET: Final[Steps] = ((None, "green"), (0.8, "yellow"), (1, "red"))
ABOUT: Final = """\
Agents past `METRICS_AGENT_LIMIT` (1000) have no series of their own: they are together under **`_other`**, where \
*Now* is how many are online, *Token valid for* the soonest, and *Budget used* the highest.

Durations know the handler but no agent: they are on the [fleet's dashboard](/d/aiwm-fleet).

One message: `supervisor messages list --agent ID`, `supervisor logs ID --follow`."""


def build() -> Dashboard:
    """Make the dashboard."""
    return assemble(
        AGENT,
        "AIWM supervisor / One agent",
        "One agent: whether it is there, what waits for it, what it uses; and the fleet beside it.",
        {
            "Agent": [*_now(), *_spent(), *_over_time()],
            "Tokens and cost": _tokens(),
            "Beside it: the fleet": _fleet(),
        },
        more_variables=[agent_variable()],
    )


def _left() -> str:
    return f"min({series('supervisor_agent_auth_expiry_timestamp_seconds', OWN)}) - time()"


def _now() -> Sequence[Any]:
    """Whether it is there, and what waits for it."""
    up = series("supervisor_agent_up", OWN)
    return [
        figure(
            "Now",
            "Whether the agent is registered with the platform. For _other: how many are.",
            "none",
            Target(f"max({up})"),
            steps=((None, "red"), (1, "green")),
            texts=TEXTS,
            none="Unknown",
        ),
        figure(
            "Online in range",
            "The part of the shown time that it was online, a renewed token's change of sockets included.",
            "percentunit",
            Target(
                f"sum(sum_over_time({up}[$__range])) / sum(count_over_time({up}[$__range]))",
            ),
            steps=((None, "red"), (0.95, "yellow"), (0.99, "green")),
            decimals=1,
            instant=True,
        ),
        figure(
            "Messages waiting",
            "Messages that wait for the handler or are being handled.",
            "short",
            Target(summed(series("supervisor_agent_inbox_messages", OWN))),
            steps=((None, "green"), (20, "yellow"), (100, "red")),
        ),
        figure(
            "Token valid for",
            "Until the platform's token ends; it is renewed 5 minutes (REFRESH_MARGIN) before.",
            "s",
            Target(_left()),
            steps=((None, "red"), (60, "yellow"), (300, "green")),
        ),
    ]


def _spent() -> Sequence[Any]:
    """What it uses."""
    return [
        figure(
            "Budget used",
            "The part of the agent's own budget of today (UTC) that is used; no value where it has none.",
            "percentunit",
            Target(f"max({series('supervisor_agent_budget_used_ratio', OWN)})"),
            steps=BUDGET,
            decimals=1,
            none="no budget",
        ),
        figure(
            "Tokens in range",
            "LLM tokens, input and output, within the shown range.",
            "short",
            Target(increase("supervisor_agent_llm_tokens_total", OWN, 'type!="cached"')),
            steps=PLAIN,
            instant=True,
            none="none",
        ),
        figure(
            "Cost in range",
            "What they cost within the shown range, in the currency of PRICES.",
            "currencyUSD",
            Target(increase("supervisor_agent_llm_cost_total", OWN)),
            steps=PLAIN,
            instant=True,
            none="none",
        ),
        figure(
            "Fleet online",
            "The whole fleet: when it is down too, the trouble is not this agent's.",
            "percentunit",
            Target(online_share()),
            steps=((None, "red"), (0.9, "yellow"), (0.99, "green")),
            decimals=1,
        ),
    ]


def _over_time() -> Sequence[Any]:
    return [
        timeline(
            "Online",
            "When it was online. Short gaps are reconnects; what was said meanwhile is read from the platform's "
            "history.",
            Target(f"max by (agent, who) ({called(series('supervisor_agent_up', OWN))})", "{{who}}"),
            texts=TEXTS,
        ),
        graph(
            "Inbox over time",
            "Messages that wait for the handler or are being handled.",
            "short",
            Target(summed(series("supervisor_agent_inbox_messages", OWN), "agent"), "waiting or running"),
        ),
        graph(
            "Token over time",
            "Falls steadily and jumps up at each renewal. Where it reaches zero the renewals fail.",
            "s",
            Target(_left(), "time left"),
        ),
    ]


def _tokens() -> Sequence[Any]:
    tokens = rate("supervisor_agent_llm_tokens_total", OWN, by="type")
    return [
        graph(
            "Tokens per minute, by type",
            "Input, output, and the cached ones, which are part of the input.",
            "short",
            Target(f"{tokens} * 60", "{{type}}"),
            colors=TYPES,
        ),
        graph(
            "Cost rate: what an hour costs",
            "What an hour at the present pace costs, in the currency of PRICES; what was spent is above.",
            "currencyUSD",
            Target(f"{rate('supervisor_agent_llm_cost_total', OWN)} * 3600", "per hour"),
            colors={"per hour": "orange"},
            decimals=2,
        ),
        graph(
            "Budget over time",
            "The part of today's budget (UTC) that is used, the agent's own and the fleet's; whichever ends first "
            "counts.",
            "percentunit",
            Target(f"max({series('supervisor_agent_budget_used_ratio', OWN)})", "agent"),
            Target(f"max({series('supervisor_budget_used_ratio', FLEET_SCOPE)})", "fleet"),
            limit=0.8,
            top=1.0,
            decimals=0,
        ),
    ]


def _fleet() -> Sequence[Any]:
    return [
        note("About these figures", "What is counted for one agent, and where the rest is.", ABOUT, width=8, height=7),
        graph(
            "Fleet: latency",
            "From a message's arrival to the acknowledgement of its answer, of the chosen handlers.",
            "s",
            *quantiles("supervisor_message_latency_seconds", 0.5, 0.95, exemplars=True),
            colors=QUANTILES,
        ),
        graph(
            "Fleet: error ratio",
            "The share of messages that ended without their answer, of the chosen handlers.",
            "percentunit",
            Target(errors_of_all(), "failed"),
            limit=0.05,
            top=0.1,
            colors={"failed": "red"},
        ),
        graph(
            "Fleet: agents not online",
            "By state, paused and stopped ones left out. Many at once: a platform is down.",
            "short",
            Target(summed(series("supervisor_agents", 'state!~"online|paused|stopped"'), "state"), "{{state}}"),
            colors=STATES,
            rare=True,
        ),
        graph(
            "Fleet: lost connections, per minute",
            "By reason.",
            "short",
            Target(f"{rate('supervisor_disconnects_total', by='reason')} * 60", "{{reason}}"),
            rare=True,
        ),
        graph(
            "Fleet: oldest waiting message",
            "How long somebody has waited for a handler to begin.",
            "s",
            Target(f"max({series('supervisor_inbox_oldest_seconds')})", "oldest"),
        ),
    ]
