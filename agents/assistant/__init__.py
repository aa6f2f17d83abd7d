"""An assistant on a language model: the platform's instruction, memory of the conversation, and the platform's tools.

It needs the extra ``llm``: ``pip install 'aiwm-supervisor[llm]'``. A registry row says which model it uses::

    supervisor agents add ID --handler assistant --set model=openai:gpt-4o --set api_key=env:AGENT_OPENAI_KEY

Without ``model`` it uses the deployment that the platform gives the agent, with the agent's own token.
:class:`~.settings.AssistantSettings` has all that a row may set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

try:
    from .shared import Shared
except ModuleNotFoundError as error:
    raise ImportError(
        f"it needs {error.name}, which comes with: pip install 'aiwm-supervisor[llm]'"  # the extra of pyproject.toml
    ) from error

from supervisor.handler import AgentContext, Context, Handler, Message, Reply

from .answering import Standing, answer, usable
from .own import Own
from .settings import AssistantSettings, MisconfiguredError
from .trouble import NOT_CONFIGURED

#: What it needs besides the supervisor, and what installs that: read by commands, which run no handler's code.
REQUIRES: Final = {
    "httpx2": "pip install 'aiwm-supervisor[llm]'",
    "pydantic_ai": "pip install 'aiwm-supervisor[llm]'",
}
#: All that a row may set of it, see `settings`: a slip for one of these is refused by commands.
SETTINGS: Final = {
    "model": {"type": "string", "description": "openai:gpt-4o, anthropic:…; none: the platform's deployment."},
    "base_url": {"type": "string", "description": "Where the model is served, if not by the provider."},
    "api_key": {"type": "string", "format": "password", "description": "A reference: env:NAME, file:/path."},
    "fallback_models": {
        "anyOf": [{"type": "array"}, {"type": ["string", "object"]}],
        "description": "Models to use when the first does not answer, in order.",
    },
    "instruction_extra": {"type": "string", "description": "Told to the model besides the platform's instruction."},
    "temperature": {"type": "number"},
    "max_output_tokens": {"type": "integer"},
    "thinking": {"enum": [True, False, "minimal", "low", "medium", "high"]},
    "model_settings": {
        "anyOf": [{"type": "object"}, {"type": "string"}],
        "description": "More of the model's, by pydantic-ai's names.",
    },
    "max_steps": {"type": "integer", "description": "20: model answers for one message."},
    "retries": {"type": "integer", "description": "10: requests for one message that may come to nothing."},
    "budget_message_tokens": {"type": "integer", "description": "About what one message may cost."},
    "history_tokens": {"type": "integer", "description": "8000: of the conversation, shown to the model."},
    "history_messages": {"type": "integer", "description": "50: of the conversation, shown to the model."},
    "summarise": {"type": "boolean", "description": "Sum up what has no room in it any more."},
    "attachments": {"type": "boolean", "description": "True: the model is shown what people attach."},
    "allow_private": {"type": "boolean", "description": "Fetch attachments from private addresses too."},
    "parallel_calls": {"type": "integer", "description": "256: model calls at once to one server."},
    "request_seconds": {"type": "number", "description": "120: how long one model call may take."},
    "tool_seconds": {"type": "number", "description": "60: how long one tool call may take."},
    "tool_result_chars": {"type": "integer", "description": "100000: of a tool's result, for the model."},
    "connect_seconds": {"type": "number", "description": "10: for a tool server to be ready."},
    "notice_seconds": {"type": "number", "description": "60: until a person hears that it takes longer; 0: never."},
    "failing_after": {"type": "integer", "description": "3: apologies in a row that make it failing."},
    "person_limit": {"type": "integer", "description": "Messages of one person answered in a minute."},
    "tools": {
        "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}],
        "description": "Modules whose tools are its own.",
    },
    "allow_local_tools": {"type": "boolean", "description": "Use tool servers at localhost too."},
}


class Assistant(Handler):
    """Answers with a language model; what it holds for itself is next to nothing, see :class:`~.shared.Shared`.

    Attributes:
        tools: functions that the model may call, with types and docstrings; a subclass brings its own.
    """

    tools: ClassVar[Sequence[Callable[..., Any]]] = ()

    def __init__(self) -> None:
        self._shared: Shared | None = None
        self._standing = Standing()

    async def on_start(self, ctx: AgentContext) -> None:
        """Take a share of what all assistants of the process use, and have ready what the first answer needs."""
        shared = Shared.take()
        self._standing.servers.agent = ctx
        try:
            self._standing.own = await self._own(ctx)
            await self._check(ctx, shared)
        except BaseException:
            await shared.give_back()
            raise
        self._shared = shared

    async def on_reload(self, ctx: AgentContext) -> None:
        """The platform's settings may be others now."""
        if self._shared is not None:
            await self._check(ctx, self._shared)

    async def _own(self, ctx: AgentContext) -> Own:
        try:
            references = AssistantSettings.read(ctx).tools
        except MisconfiguredError:
            # Told by the check.
            references = ()
        return await Own.find(self.tools, references, ctx)

    async def _check(self, ctx: AgentContext, shared: Shared) -> None:
        """Say before anybody asks that it cannot answer; it is online all the same."""
        try:
            await usable(AssistantSettings.read(ctx), ctx, shared)
        except MisconfiguredError as error:
            self._standing.health.set_up(ctx, str(error))
        else:
            self._standing.health.set_up(ctx, None, self._standing.own.wrong)

    async def on_stop(self, ctx: AgentContext) -> None:
        """Give it back; the last one closes the connections."""
        await self._standing.summaries.stop()
        await self._standing.servers.stop()
        shared, self._shared = self._shared, None
        if shared is not None:
            await shared.give_back()

    async def on_message(self, message: Message, ctx: Context) -> Reply:
        """Answer one message; thinking, tool calls and their results are sent as they come."""
        if not ctx.instruction.configured:
            return Reply(NOT_CONFIGURED, type="error")
        if self._shared is None:
            self._shared = Shared.take()
        return await answer(message, ctx, self._shared, self._standing)
