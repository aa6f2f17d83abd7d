"""PromQL as the dashboards use it: every selector is bound to the variables of the dashboard it stands in."""

from __future__ import annotations

from typing import Final

#: What every series is filtered by.
SCOPE: Final = ('cluster=~"$cluster"', 'namespace=~"$namespace"', 'job=~"$job"', 'instance=~"$instance"')
#: The labels of a target: what series of one supervisor are joined by.
TARGET: Final = "cluster, namespace, job, instance"
#: The labels of all who run one registry: there an agent is one, though two of them may show it while it moves.
REGISTRY: Final = "cluster, namespace, job"
#: What a series is filtered by where it has a handler; the others would vanish under that filter.
HANDLER: Final = 'handler=~"$handler"'
#: The metrics that have a handler; held equal to what the supervisor shows by tests/unit/grafana/test_dashboards.py.
WITH_HANDLER: Final = frozenset(
    {
        "supervisor_agent_info",
        "supervisor_messages_received_total",
        "supervisor_messages_handled_total",
        "supervisor_message_queue_seconds",
        "supervisor_message_handle_seconds",
        "supervisor_message_send_seconds",
        "supervisor_message_latency_seconds",
        "supervisor_llm_tokens_total",
        "supervisor_llm_reasoning_tokens_total",
        "supervisor_llm_estimated_total",
        "supervisor_llm_cost_total",
    }
)
_HISTOGRAM_SUFFIXES: Final = ("_bucket", "_sum", "_count")
#: Messages that ended without their answer, and all that ended. An attempt that is tried again (``retried``), given
#: back by a stop (``released``), ended by a person (``cancelled``) or erased (``lost``) is no end of a message.
FAILED: Final = 'outcome=~"dead|timeout"'
ENDED: Final = 'outcome=~"done|dead|timeout"'
#: Keeps a share defined while nothing happens: zero of nothing is zero.
_TINY: Final = "1e-9"


def series(metric: str, *matchers: str) -> str:
    """A selector of a metric, within what the variables choose."""
    family = metric
    for suffix in _HISTOGRAM_SUFFIXES:
        family = family.removesuffix(suffix)
    handler = (HANDLER,) if family in WITH_HANDLER else ()
    return f"{metric}{{{', '.join((*SCOPE, *handler, *matchers))}}}"


def summed(inner: str, by: str = "") -> str:
    """The sum of a vector, by labels if given."""
    return f"sum by ({by}) ({inner})" if by else f"sum({inner})"


def rate(counter: str, *matchers: str, by: str = "") -> str:
    """How much a counter grows in a second."""
    return summed(f"rate({series(counter, *matchers)}[$__rate_interval])", by)


def increase(counter: str, *matchers: str, by: str = "") -> str:
    """How much a counter grew within the dashboard's range."""
    return summed(f"increase({series(counter, *matchers)}[$__range])", by)


def buckets(histogram: str, *matchers: str, by: str = "") -> str:
    """How fast each bucket of a histogram fills."""
    return rate(f"{histogram}_bucket", *matchers, by=f"le, {by}" if by else "le")


def quantile(share: float, histogram: str, *matchers: str, by: str = "") -> str:
    """What so large a share of the observations stays below."""
    return f"histogram_quantile({share:g}, {buckets(histogram, *matchers, by=by)})"


def ratio(part: str, whole: str) -> str:
    """A part of a whole, zero while there is no whole; both are expressions without labels or with the same."""
    return f"{part} / clamp_min({whole}, {_TINY})"


def or_zero(expression: str) -> str:
    """An expression without labels that is zero where it has no series: a counter appears with its first event."""
    return f"({expression} or vector(0))"


def named(expression: str) -> str:
    """The series of agents with their names and handlers, where these are known."""
    by = f"on ({TARGET}, agent)"
    return f"({expression}) * {by} group_left (name, handler) {series('supervisor_agent_info')} or {by} ({expression})"


def called(expression: str) -> str:
    """The same with the label ``who``: an agent's name, its id where it has none or is past the limit."""
    by_id = f'label_replace({named(expression)}, "who", "$1", "agent", "(.*)")'
    return f'label_replace({by_id}, "who", "$1", "name", "(.+)")'


def offline() -> str:
    """Agents that are online at no supervisor."""
    up = series("supervisor_agent_up")
    return f"({up} == 0 unless on ({REGISTRY}, agent) ({up} == 1))"


def errors_of_all() -> str:
    """The share of messages that ended without an answer."""
    failed = rate("supervisor_messages_handled_total", FAILED)
    return ratio(or_zero(failed), rate("supervisor_messages_handled_total", ENDED))


def errors_by(label: str) -> str:
    """The same for each value of a label; a value without failures shows zero."""
    failed = rate("supervisor_messages_handled_total", FAILED, by=label)
    ended = rate("supervisor_messages_handled_total", ENDED, by=label)
    return ratio(f"({failed} or 0 * {ended})", ended)


def online_share() -> str:
    """The share of agents that are online among those that are to be: the alert's too."""
    online = summed(series("supervisor_agents", 'state="online"'))
    wanted = summed(series("supervisor_agents", 'state!~"paused|draining|stopped"'))
    return f"{online} / clamp_min({wanted}, 1)"
