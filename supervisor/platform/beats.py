"""Heartbeats by REST, where sockets have none: they fetch works (docs/protocol.md#7-findings, 5)."""

from __future__ import annotations

from typing import Any, Final

from supervisor.core.errors import PlatformError, Verdict
from supervisor.platform.heartbeats import HeartbeatAnswer, heartbeat_refusal, parse_heartbeat
from supervisor.platform.hosts.agent_api import Access, without_token
from supervisor.platform.hosts.api import Answer, PlatformApi, endpoint_url

_ANSWER_BYTES: Final = 1024 * 1024


class HeartbeatClient:
    """Sends heartbeats by REST, for all agents.

    Args:
        api: makes the requests.
        proxy: an HTTP proxy's URL; it may hold a user and a password.
    """

    def __init__(self, api: PlatformApi, *, proxy: str | None = None) -> None:
        self._api = api
        self._proxy = proxy

    async def beat(self, access: Access, agent_id: str, body: dict[str, Any]) -> HeartbeatAnswer:
        """Send one heartbeat. The path with the id is the one that v1, v2 and v3 have; later ones may have the other.

        Raises:
            PlatformError: REJECT where the agent is suspended or gone; the token never occurs in its reason.
        """
        answer = await self._post(access, body, "agents", agent_id, "heartbeat")
        if answer.status in (404, 405, 410) and "Agent with ID" not in _said(answer):
            answer = await self._post(access, body, "agents", "heartbeat")
        return _read(answer)

    async def _post(self, access: Access, body: dict[str, Any], *path: str) -> Answer:
        headers = {"Authorization": f"Bearer {access.token}"}
        url = endpoint_url(access.api_url, *path)
        failure: PlatformError | None = None
        try:
            return await self._api.request(
                "POST", url, limit_bytes=_ANSWER_BYTES, proxy=self._proxy, headers=headers, json=body
            )
        except PlatformError as error:
            failure = without_token(error, access.token)
        raise failure


def _said(answer: Answer) -> str:
    """The text of an error."""
    payload = answer.json()
    message = payload.get("message") if isinstance(payload, dict) else None
    return message if isinstance(message, str) else ""


def _read(answer: Answer) -> HeartbeatAnswer:
    """What came back.

    Raises:
        PlatformError: no answer to a heartbeat did.
    """
    if 200 <= answer.status < 300:
        return parse_heartbeat(answer.json())
    if answer.status == 401:
        raise PlatformError(f"{answer.host} refused the token for a heartbeat", Verdict.REAUTHENTICATE)
    said = _said(answer)
    if answer.status in (400, 404) and said:
        raise heartbeat_refusal(said)
    raise PlatformError(
        f"{answer.host} answered {answer.status} to a heartbeat", retry_after_seconds=answer.retry_after()
    )
