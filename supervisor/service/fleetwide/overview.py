"""All replicas in a few figures, and a line for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from supervisor.core.errors import SupervisorError
from supervisor.core.replicas import SILENT, Replica, ReplicaStatus, status_of
from supervisor.core.states import AgentState
from supervisor.core.status import InboxCounts, Overview
from supervisor.core.trouble import UNKNOWN
from supervisor.service.fleetwide.others import Others


def put_together(
    own: Overview,
    others: Others,
    replicas: Sequence[Replica],
    answers: Sequence[tuple[Replica, list[Overview] | SupervisorError]],
) -> Overview:
    """The figures of all replicas that answer; what does not answer is counted as unknown, and said.

    Args:
        own: of the one that was asked, whose version, process and beginning are those of the answer.
        replicas: every one that the registry knows, in order of their numbers.
    """
    told: dict[int, Overview] = {others.my_id or 0: own}
    silent: dict[int, str] = {}
    for replica, answer in answers:
        if isinstance(answer, SupervisorError):
            silent[replica.id] = str(answer)
        else:
            [told[replica.id]] = answer
    all_told = list(told.values())
    agents = sum((Counter(one.agents) for one in all_told), Counter[str]())
    unknown = sum(one.agents for one in replicas if one.id in silent)
    return replace(
        own,
        agents=dict(sorted(agents.items())) | ({UNKNOWN: unknown} if unknown else {}),
        inbox=InboxCounts(
            sum(one.inbox.available for one in all_told),
            sum(one.inbox.running for one in all_told),
            sum(one.inbox.dead for one in all_told),
        ),
        problems=_said(told, own, "problems"),
        notices=tuple(dict.fromkeys([*_said(told, own, "notices"), *silent.values()])),
        undelivered=sum(one.undelivered for one in all_told),
        failing=sum(one.failing for one in all_told),
        stuck=sum(one.stuck for one in all_told),
        spent=sum(one.spent for one in all_told),
        unknown=unknown,
        replicas=tuple(_shown(one, told.get(one.id), silent.get(one.id, ""), others) for one in replicas),
    )


def _shown(replica: Replica, told: Overview | None, why: str, others: Others) -> ReplicaStatus:
    status = status_of(replica)
    if told is None:
        return replace(status, state=SILENT, reason=why, heard_at=others.heard_at(replica))
    return replace(status, agents=sum(told.agents.values()), online=told.agents.get(AgentState.ONLINE, 0))


def _said(told: dict[int, Overview], own: Overview, name: str) -> tuple[str, ...]:
    """What all of them say under a name: the one that was asked first, the others' with their numbers."""
    lines = list(getattr(own, name))
    for number, one in told.items():
        if one is not own:
            lines += [f"replica {number}: {line}" for line in getattr(one, name)]
    return tuple(lines)
