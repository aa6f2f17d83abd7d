"""One agent as a person reads it: what there is to know, in words, and nothing that is of no use."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from supervisor.cli.details import details
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus, Handling, InboxCounts

NOW = 1_000_000.0


def shown(state: AgentState = AgentState.ONLINE, **values: Any) -> dict[str, str]:
    """What is shown, by its title; what a title has in several lines, as one text."""
    console = Console(width=120, color_system=None)
    status = AgentStatus(id="a" * 24, name="Ada", handler="echo", state=state, since=NOW - 3600, **values)
    with console.capture() as captured:
        console.print(details(status, NOW))
    lines = captured.get().splitlines()
    margin = next(line.index("echo") for line in lines if line.startswith("handler"))
    facts: dict[str, str] = {}
    last = ""
    for line in lines:
        title, fact = line[:margin].strip(), line[margin:].rstrip()
        last = title or last
        facts[last] = fact if title else f"{facts[last]}\n{fact}"
    return facts


def test_facts_are_in_words_and_secrets_masked() -> None:
    facts = shown(
        settings={"api_key": "s3cr3t", "n": 1},
        auth_expires_at=NOW + 90,
        inbox=InboxCounts(1, 0, 2),
        secret="env:AGENT_X",
        answered_lately=7,
        oldest_at=NOW - 120,
        notes=("one", "two"),
        undelivered=1,
        undelivered_reason="busy",
    )
    assert facts == {
        "state": "● online for 1 h",
        "id": "a" * 24,
        "name": "Ada",
        "handler": "echo",
        "secret": "env:AGENT_X",
        "settings": '{"api_key": "[redacted]", "n": 1}',
        "labels": "-",
        "health": "ok",
        "notes": "one\ntwo",
        "token": "for 1 min",
        "messages": "1 waiting, 0 running, 2 dead",
        "oldest": "came 2 min ago",
        "lately": "7 answered in 5 min, 0 conversations",
        "not sent": "1: busy",
    }


def test_who_is_not_online_is_not_called_well() -> None:
    facts = shown(AgentState.REJECTED, reason="the platform refused the secret")
    assert (facts["state"], facts["reason"]) == ("✖ rejected for 1 h", "the platform refused the secret")
    assert not {"health", "token"} & facts.keys()
    assert shown(AgentState.BACKOFF, health="failing: no key")["health"] == "failing: no key"


def test_what_only_several_replicas_have_is_not_shown_of_one() -> None:
    assert not {"replica", "heard of"} & shown().keys()
    facts = shown(replica=7, stale_since=NOW - 60)
    assert (facts["replica"], facts["heard of"]) == ("7", "1 min ago")


def test_a_stack_is_shown_line_by_line_and_moves_no_cursor() -> None:
    stack = "agents/slow.py:3 in on_message\n  queue.get()\x1b[2J"
    facts = shown(handling=(Handling(12, "c", 2, NOW - 30, stack=stack), Handling(13, "d", 1, NOW, left_behind=True)))
    first, where, line, second = facts["handling"].splitlines()
    assert first == "message 12 for 30 s, attempt 2"
    assert (where.strip(), line.strip()) == ("agents/slow.py:3 in on_message", "queue.get()[2J")
    assert second == "message 13 for 0 s, attempt 1, left behind"
