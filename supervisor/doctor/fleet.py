"""Puts the checks of agents together: one in full, or a whole fleet in as few lines as say what to mend."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from supervisor.core.records import AgentRecord
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus
from supervisor.core.trouble import SPENT, STUCK, UNKNOWN, oldest
from supervisor.doctor.cures import ELSEWHERE, REFUSED, fault_cure, is_elsewhere, secret_cure
from supervisor.doctor.examiner import Examiner
from supervisor.doctor.findings import Finding, Level, Report, Trouble, failed
from supervisor.settings import EffectiveSettings

#: Agents tried at once: a doctor is no storm.
_AT_ONCE: Final = 4
#: Agents named for one and the same finding.
_NAMED: Final = 3

_NOT_BESIDE: Final = (
    "not tried: the running supervisor has the agent online, and some platforms put out its socket for a second one"
)


@dataclass(frozen=True, slots=True)
class Running:
    """The supervisor that runs on the registry.

    Args:
        statuses: its agents, as it says; None when it does not say, so that any may be online.
    """

    statuses: Mapping[str, AgentStatus] | None

    def may_be_online(self, agent_id: str) -> bool:
        """Whether it may have a socket open for an agent."""
        if self.statuses is None:
            return True
        status = self.statuses.get(agent_id)
        return status is not None and (status.state is AgentState.ONLINE or status.trouble == UNKNOWN)


async def check_agent(examiner: Examiner, record: AgentRecord, running: Running | None, report: Report) -> None:
    """Check one agent in full, but for what could disturb the supervisor that runs it.

    Args:
        running: None when none runs.
    """
    live = running.statuses.get(record.id) if running is not None and running.statuses is not None else None
    if live is not None:
        _report_live(live, record, report)
    elif record.paused:
        report(Finding("paused", Level.WARN, "it stays offline until: supervisor agents resume", agent=record.id))
    able = await examiner.row(record, report, running=running is not None)
    grant = await examiner.token(record, *able, report) if able is not None else None
    if able is None or grant is None:
        return
    if running is not None and running.may_be_online(record.id):
        report(Finding("connect", Level.WARN, _NOT_BESIDE, agent=record.id))
    else:
        await examiner.path(record, able[0], grant, report)


def _report_live(live: AgentStatus, record: AgentRecord, report: Report) -> None:
    """What the running supervisor says of an agent."""
    state, said = live.state, f"the running supervisor has it {live.state}"
    said += f": {live.reason}" if live.reason else ""
    if state is AgentState.FAULTED:
        report(failed("supervisor", said, fault_cure(live.reason, record), Trouble.CONFIGURATION, live.id))
    elif state is AgentState.REJECTED and is_elsewhere(live.reason):
        report(failed("supervisor", said, ELSEWHERE, Trouble.CONFIGURATION, live.id))
    elif state is AgentState.REJECTED:
        advice = f"{REFUSED}{secret_cure(record)}; once it is well: supervisor agents resume {live.id}"
        report(failed("supervisor", said, advice, Trouble.REFUSED, live.id))
    else:
        report(Finding("supervisor", Level.OK if state is AgentState.ONLINE else Level.WARN, said, agent=live.id))
    if live.trouble == STUCK and live.oldest_at is not None:
        said = f"stuck ({oldest(time.time() - live.oldest_at)})"
        report(failed("health", said, f"see: supervisor agents show {live.id}", Trouble.UNANSWERED, live.id))
    elif live.trouble == SPENT:
        report(Finding("budget", Level.WARN, live.reason, _raise_budget(live), live.id))
    elif live.trouble:
        report(failed("health", live.health, _look(live.id), Trouble.UNANSWERED, live.id))
    elif live.failing:
        report(Finding("health", Level.WARN, live.health, _look(live.id), live.id))


def _raise_budget(live: AgentStatus) -> str:
    """How an agent gets a larger budget: its own is a setting of its row, the fleet's a variable."""
    if "budget_tokens" in live.settings or "budget_cost" in live.settings:
        return f"wait, or raise it: supervisor agents update {live.id} --set budget_tokens=N (or budget_cost)"
    return "wait, or raise SUPERVISOR_BUDGET_TOKENS or SUPERVISOR_BUDGET_COST and restart"


def _look(agent_id: str) -> str:
    """Where to see why an agent is failing."""
    return f"see: supervisor logs {agent_id}; tracebacks: supervisor messages list --agent {agent_id}"


async def check_fleet(
    examiner: Examiner, records: Sequence[AgentRecord], running: Running | None, report: Report, *, limit: int
) -> None:
    """Check all agents: what can be seen from here of each, and the way to the platform of up to ``limit``.

    Agents that the running supervisor may have online are left to it, paused ones are not brought online. What
    concerns several agents alike is one finding.

    Args:
        running: None when none runs.
    """
    found: list[Finding] = []
    able = []
    for record in records:
        live = (running.statuses or {}).get(record.id) if running is not None else None
        if live is not None and (
            live.failing or live.trouble or live.state in (AgentState.FAULTED, AgentState.REJECTED)
        ):
            _report_live(live, record, found.append)
        if live is not None and live.state is AgentState.ONLINE:
            continue
        checked = await examiner.row(record, found.append, running=running is not None)
        if checked is not None and not record.paused and not (running is not None and running.may_be_online(record.id)):
            able.append((record, *checked))
    _report_grouped(found, report)
    places = asyncio.Semaphore(_AT_ONCE)

    async def try_one(record: AgentRecord, own: EffectiveSettings, secret: str) -> tuple[list[Finding], bool]:
        made: list[Finding] = []
        async with places:
            grant = await examiner.token(record, own, secret, made.append)
            well = grant is not None and await examiner.path(record, own, grant, made.append)
        return made, well

    outcomes = await asyncio.gather(*[try_one(*one) for one in able[:limit]])
    _report_grouped([finding for made, _ in outcomes for finding in made], report)
    online = _online(running)
    if not outcomes and not online:
        await examiner.endpoint(report)
    _report_summary(records, online, [well for _, well in outcomes], report)
    if len(able) > len(outcomes):
        advice = "try one: supervisor doctor ID, or more: --limit"
        report(Finding("agents", Level.WARN, f"{len(able) - len(outcomes)} were not tried over the network", advice))


def _online(running: Running | None) -> int:
    statuses = (running.statuses or {}).values() if running is not None else ()
    return sum(status.state is AgentState.ONLINE for status in statuses)


def _report_grouped(found: Iterable[Finding], report: Report) -> None:
    """Report what is not well, once for all agents that it concerns."""
    alike: dict[Finding, list[str]] = defaultdict(list)
    for finding in found:
        if finding.level is not Level.OK:
            advice = finding.advice.replace(finding.agent, "ID") if finding.agent else finding.advice
            alike[replace(finding, agent="", advice=advice)].append(finding.agent)
    for finding, agents in alike.items():
        more = f" and {len(agents) - _NAMED} more" if len(agents) > _NAMED else ""
        report(replace(finding, agent=", ".join(agents[:_NAMED]) + more))


def _report_summary(records: Sequence[AgentRecord], online: int, tried: Sequence[bool], report: Report) -> None:
    """How many agents were looked at in which way."""
    if not records:
        return
    paused = sum(record.paused for record in records)
    parts = [f"{sum(tried)} of {len(tried)} tried were registered and answered"] if tried else []
    parts += [f"{online} are online in the running supervisor"] if online else []
    parts += [f"{paused} are paused"] if paused else []
    level = Level.OK if all(tried) else Level.WARN
    report(Finding("agents", level, f"{len(records)}: " + (", ".join(parts) or "none was tried over the network")))
