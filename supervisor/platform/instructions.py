"""What the platform tells of an agent beside its token, asked for with the token: no secret is checked for it.

docs/protocol.md#7-findings, 6: ``GET /agents/{id}/config`` has all of it, ``GET /agents/{id}/instruction`` the prompt.
"""

from __future__ import annotations

from typing import Any, Final

from supervisor.core.errors import PlatformError, Refusal, Verdict
from supervisor.platform.hosts.agent_api import Access, AgentApi, read_json
from supervisor.protocol import InvalidEventError
from supervisor.protocol.answers import ConnectAnswer, parse_configuration, parse_instruction

_ANSWER_BYTES: Final = 1024 * 1024


async def fetch_configuration(
    api: AgentApi, access: Access, agent_id: str, known: ConnectAnswer
) -> ConnectAnswer | None:
    """What the platform tells of an agent now.

    Args:
        known: what it told with the token; what is not asked for here stays as it is there.

    Returns:
        None where the platform answers neither question.

    Raises:
        PlatformError: it did not answer as it should, or knows no such agent.
    """
    payload = await _ask(api, access, agent_id, "config")
    try:
        if payload is not None:
            return parse_configuration(payload, known, access.token)
        payload = await _ask(api, access, agent_id, "instruction")
        return None if payload is None else parse_instruction(payload, known)
    except InvalidEventError as error:
        raise PlatformError(f"the configuration endpoint answered with something else: {error}") from None


async def _ask(api: AgentApi, access: Access, agent_id: str, what: str) -> Any:
    answer = await api.ask(access, "agents", agent_id, what, limit_bytes=_ANSWER_BYTES)
    if answer.status == 404 and answer.knows_no_agent:
        raise PlatformError(f"404 {answer.message}", Verdict.REJECT, refusal=Refusal.UNKNOWN)
    try:
        return read_json(answer, "the configuration")
    except PlatformError as error:
        if error.verdict is Verdict.REJECT:
            return None
        raise
