"""Heartbeats by REST, where sockets have none: they fetch works (docs/protocol.md#7-findings, 5)."""

from __future__ import annotations

from typing import Any, Final

from supervisor.core.errors import PlatformError, Verdict
from supervisor.platform.heartbeats import HeartbeatAnswer, heartbeat_refusal, parse_heartbeat
from supervisor.platform.hosts.agent_api import Access, AgentApi
from supervisor.platform.hosts.api import Answer
from supervisor.platform.hosts.api_gate import ApiGate

_ANSWER_BYTES: Final = 1024 * 1024


class HeartbeatClient:
    """Sends heartbeats by REST, for all agents.

    Args:
        api: asks with the agent's token.
    """

    def __init__(self, api: AgentApi) -> None:
        self._api = api

    def gate(self, access: Access) -> ApiGate:
        """The bound of the host that is asked, which says how often."""
        return self._api.gate(access)

    async def beat(self, access: Access, agent_id: str, body: dict[str, Any]) -> HeartbeatAnswer:
        """Send one heartbeat. The path with the id is the one that v1, v2 and v3 have; later ones may have the other.

        Raises:
            PlatformError: REJECT where the agent is suspended or gone; the token never occurs in its reason.
        """
        answer = await self._api.ask(access, "agents", agent_id, "heartbeat", body=body, limit_bytes=_ANSWER_BYTES)
        if answer.no_endpoint:
            answer = await self._api.ask(access, "agents", "heartbeat", body=body, limit_bytes=_ANSWER_BYTES)
        return _read(answer)


def _read(answer: Answer) -> HeartbeatAnswer:
    """What came back.

    Raises:
        PlatformError: no answer to a heartbeat did.
    """
    if 200 <= answer.status < 300:
        return parse_heartbeat(answer.json())
    if answer.status == 401:
        raise PlatformError(f"{answer.host} refused the token for a heartbeat", Verdict.REAUTHENTICATE)
    if answer.status in (400, 404) and answer.message:
        raise heartbeat_refusal(answer.message)
    raise PlatformError(
        f"{answer.host} answered {answer.status} to a heartbeat", retry_after_seconds=answer.retry_after()
    )
