"""People: what the chat page needs to let them talk, and those who come through a bridge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from supervisor.sandbox.control.requests import ControlError, body_of, known_agent
from supervisor.sandbox.world.ids import is_object_id, new_object_id
from supervisor.sandbox.world.routes import Route
from supervisor.sandbox.world.state import Platform

if TYPE_CHECKING:
    from supervisor.sandbox.sandbox import Sandbox
    from supervisor.sandbox.world.bridge import BridgedPerson


class NewUser(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Body of ``POST /sandbox/users``."""

    user_id: str | None = None


class BridgedMessage(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Body of ``POST /sandbox/bridge/messages``; further ``fields`` are those of v3."""

    agent_id: str
    content: str
    platform: Platform = "discord"
    username: str = "somebody#1"
    fields: dict[str, Any] | None = None


class PeopleControl:
    """Routes for people."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._bridged: dict[tuple[Platform, str], BridgedPerson] = {}

    def routes(self) -> Sequence[Route]:
        """The routes."""
        return (
            ("GET", "/info", self.info),
            ("POST", "/users", self.add_user),
            ("POST", "/agents/{agent_id}/conversation", self.open_conversation),
            ("GET", "/conversations/{conversation_id}/messages", self.list_messages),
            ("POST", "/bridge/messages", self.bridge_message),
            ("GET", "/bridge/{platform}/{username}", self.bridged_replies),
            ("POST", "/bridge/restart", self.restart_bridge),
        )

    async def info(self) -> Response:
        """What the chat page needs to connect."""
        config = self._sandbox.config
        return JSONResponse(
            {
                "profile": config.profile,
                "stage": config.stage if config.profile == "v3" else None,
                "namespace": config.declared_namespaces[0],
                "namespaces": list(config.declared_namespaces),
                "enginePath": config.people_path,
                "apiUrl": self._sandbox.api_url,
                "wsUrl": self._sandbox.ws_url,
            }
        )

    async def add_user(self, request: Request) -> Response:
        """A token for a person, and the person's id."""
        user_id = (await body_of(request, NewUser)).user_id or new_object_id()
        if not is_object_id(user_id) or user_id in self._sandbox.agents:
            raise ControlError(422, "userId must be 24 hex digits and not an agent's id")
        return JSONResponse({"userId": user_id, "token": self._sandbox.tokens.for_user(user_id)}, status_code=201)

    async def open_conversation(self, agent_id: str) -> Response:
        """v1: the agent's conversation, made when there is none yet, for the page to join."""
        known_agent(self._sandbox, agent_id)
        if self._sandbox.config.profile != "v1":
            raise ControlError(409, "from v2 on a user emits agent:connect instead")
        return JSONResponse({"conversationId": self._sandbox.conversation_of(agent_id)}, status_code=201)

    async def list_messages(self, conversation_id: str) -> Response:
        """What was said and shown, for the page: the documents of ``message:new`` and who sent them."""
        shown = [message for message in self._sandbox.messages(conversation_id) if message.shown]
        return JSONResponse(
            {
                "messages": [
                    {**message.document, "createdAt": message.created_at, "sender": message.sender_kind}
                    for message in shown
                ]
            }
        )

    async def bridge_message(self, request: Request) -> Response:
        """A message of somebody on Discord, Telegram and their like; the same name is the same person."""
        said = await body_of(request, BridgedMessage)
        known_agent(self._sandbox, said.agent_id)
        who = said.platform, said.username
        person = self._bridged.setdefault(who, self._sandbox.bridge.person(*who))
        try:
            conversation_id = person.say(said.agent_id, said.content, **(said.fields or {}))
        except ValueError as error:
            raise ControlError(409, str(error)) from error
        return JSONResponse({"conversationId": conversation_id}, status_code=201)

    async def bridged_replies(self, platform: str, username: str) -> Response:
        """The texts that came back to a bridged person."""
        for (known_platform, known_name), person in self._bridged.items():
            if (known_platform, known_name) == (platform, username):
                return JSONResponse({"received": person.received})
        raise ControlError(404, f"nobody named {username} has written on {platform}")

    async def restart_bridge(self) -> Response:
        """Restart the bridge: replies go nowhere until the person writes again."""
        self._sandbox.bridge.restart()
        return Response(status_code=204)
