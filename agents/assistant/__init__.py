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
SETTINGS: Final = (
    "model",
    "base_url",
    "api_key",
    "fallback_models",
    "instruction_extra",
    "temperature",
    "max_output_tokens",
    "thinking",
    "model_settings",
    "max_steps",
    "retries",
    "budget_message_tokens",
    "history_tokens",
    "history_messages",
    "summarise",
    "attachments",
    "allow_private",
    "parallel_calls",
    "request_seconds",
    "tool_seconds",
    "tool_result_chars",
    "connect_seconds",
    "notice_seconds",
    "failing_after",
    "person_limit",
    "tools",
    "allow_local_tools",
)


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
