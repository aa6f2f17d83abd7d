"""Agents over REST: heartbeats and farewells, stop and start, a person's message."""

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from supervisor.sandbox.rest.answers import PlatformError, authenticate, json_object, refuse_unlicensed
from supervisor.sandbox.world.heartbeats import Fault, HeartbeatError
from supervisor.sandbox.world.ids import new_object_id, timestamp
from supervisor.sandbox.world.routes import Route
from supervisor.sandbox.world.shared import Shared
from supervisor.sandbox.world.state import Agent, StoredMessage

_STATUS_OF: dict[Fault, int] = {"status": 400, "missing": 404, "suspended": 400, "sleep": 400}


class AgentRoutes:
    """What is asked of an agent's own record."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._state = shared.state

    def routes(self) -> Iterator[Route]:
        """The routes of the profile."""
        yield "POST", "/agents/{agent_id}/heartbeat", self.heartbeat_of
        yield "POST", "/agents/{agent_id}/disconnect", self.disconnect_of
        if self._shared.config.profile == "v1":
            return
        yield "POST", "/agents/heartbeat", self.heartbeat
        yield "POST", "/agents/disconnect", self.disconnect
        yield "POST", "/agents/{agent_id}/stop", self.stop
        yield "POST", "/agents/{agent_id}/start", self.start
        yield "POST", "/agents/{agent_id}/anonymous-token", self.anonymous_token
        if self._shared.config.profile == "v3":
            yield "POST", "/agents/{agent_id}/message", self.message

    async def heartbeat(self, request: Request) -> JSONResponse:
        """The agent's, whom the token names."""
        return await self._heartbeat(authenticate(self._shared, request).id, request)

    async def heartbeat_of(self, agent_id: str, request: Request) -> JSONResponse:
        """v1's; later ones keep it for old agents."""
        authenticate(self._shared, request)
        return await self._heartbeat(agent_id, request)

    async def _heartbeat(self, agent_id: str, request: Request) -> JSONResponse:
        try:
            answer = self._shared.heartbeats.by_rest(agent_id, await json_object(request))
        except HeartbeatError as error:
            # The list of values is empty in the platform's own answer.
            errors = ["status must be one of the following values: "] if error.fault == "status" else None
            raise PlatformError(_STATUS_OF[error.fault], str(error), errors=errors) from error
        return JSONResponse(answer, status_code=201)

    async def disconnect(self, request: Request) -> JSONResponse:
        """The farewell of the agent whom the token names."""
        return await self._disconnect(authenticate(self._shared, request).id, request)

    async def disconnect_of(self, agent_id: str, request: Request) -> JSONResponse:
        """v1's farewell; later ones keep it for old agents."""
        authenticate(self._shared, request)
        return await self._disconnect(agent_id, request)

    async def _disconnect(self, agent_id: str, request: Request) -> JSONResponse:
        """Later than v1 it makes the agent inactive; it closes nothing."""
        agent = self._living(agent_id, f"Agent with ID {agent_id} not found")
        if self._shared.config.profile != "v1":
            agent.status = "inactive"
        self._state.log.add("farewell", agent_id, reason=(await json_object(request)).get("reason"))
        return JSONResponse({"success": True}, status_code=201)

    async def stop(self, agent_id: str, request: Request) -> JSONResponse:
        """Suspend an agent: it gets no token, and keeps the ones it has and its sockets."""
        authenticate(self._shared, request)
        agent = self._living(agent_id, f"Agent not found: {agent_id}")
        if agent.status == "busy":
            raise PlatformError(400, "Agent is busy. Please try again later.")
        agent.status = "suspended"
        self._state.log.add("suspended", agent_id)
        return JSONResponse({"success": True, "status": "suspended"})

    async def start(self, agent_id: str, request: Request) -> JSONResponse:
        """Make a suspended agent inactive; its next token makes it idle."""
        authenticate(self._shared, request)
        agent = self._living(agent_id, f"Agent not found: {agent_id}")
        if agent.status != "suspended":
            raise PlatformError(400, f"Agent is not suspended (current status: {agent.status})")
        agent.status = "inactive"
        self._state.log.add("resumed", agent_id)
        return JSONResponse({"success": True, "status": "inactive"})

    async def anonymous_token(self, agent_id: str, request: Request) -> JSONResponse:
        """A token for a visitor without an account."""
        authenticate(self._shared, request)
        refuse_unlicensed(self._shared)
        self._living(agent_id, f"Agent with ID {agent_id} not found")
        person_id = str((await json_object(request)).get("anonymousId") or new_object_id())
        token = self._shared.tokens.for_anonymous(person_id, agent_id)
        return JSONResponse({"token": token, "anonymousId": person_id, "expiresIn": 86_400})

    async def message(self, agent_id: str, request: Request) -> JSONResponse:
        """v3: a person's message by REST; refused while the agent is inactive (status and words are guesses)."""
        person = authenticate(self._shared, request)
        refuse_unlicensed(self._shared)
        agent = self._living(agent_id, f"Agent with ID {agent_id} not found")
        body = await json_object(request)
        content = body.get("content")
        if not isinstance(content, str) or not content:
            raise PlatformError(400, "Validation failed", errors=["content should not be empty"])
        if agent.status == "inactive":
            raise PlatformError(400, "Agent is inactive")
        message = self._stored(agent, person.id, content, body)
        # Like a bridged message it arrives twice in stage iii.
        for _ in range(2 if self._shared.config.apart else 1):
            self._shared.rooms.emit(message.conversation_id, "message:new", message.document)
        answer = {"success": True, "conversationId": message.conversation_id, "messageId": message.id}
        return JSONResponse(answer, status_code=201)

    def _stored(self, agent: Agent, person_id: str, content: str, body: Any) -> StoredMessage:
        conversation = self._state.conversation_of(agent.id, person_id)
        self._shared.gather(conversation)
        document: dict[str, Any] = {
            "conversationId": conversation.id,
            "role": "user",
            "content": content,
            "_id": new_object_id(),
        }
        document |= {"userId": person_id, "platform": "portal"}
        document |= {name: body[name] for name in ("attachments", "references") if name in body}
        if agent.asleep:
            document["skipAgent"] = True
        message = StoredMessage(
            id=document["_id"],
            conversation_id=conversation.id,
            role="user",
            content=content,
            type=None,
            sender_kind="user",
            sender_id=person_id,
            created_at=timestamp(),
            document=document,
        )
        self._state.store(message)
        self._state.touch(message, "user")
        return message

    def _living(self, agent_id: str, missing: str) -> Agent:
        agent = self._state.living_agent(agent_id)
        if agent is None:
            raise PlatformError(404, missing)
        return agent
