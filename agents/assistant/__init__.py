"""An assistant on a language model: the platform's instruction, memory of the conversation, and the platform's tools.

It needs the extra ``llm``: ``pip install 'aiwm-supervisor[llm]'``. A registry row says which model it uses::

    supervisor agents add ID --handler assistant --set model=openai:gpt-4o --set api_key=env:AGENT_OPENAI_KEY

Without ``model`` it uses the deployment that the platform gives the agent (PROTOCOL §1), with the agent's own token.
:class:`~.settings.AssistantSettings` has all that a row may set.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

try:
    from .shared import Shared
except ModuleNotFoundError as error:
    raise ImportError(
        f"it needs {error.name}, which comes with: pip install 'aiwm-supervisor[llm]'"  # the extra of pyproject.toml
    ) from error

from supervisor.handler import AgentContext, Context, Handler, Message, Reply

from .answering import answer
from .settings import AssistantSettings, MisconfiguredError, endpoints
from .tools import ServerNotes

NOT_CONFIGURED: Final = (
    "I have no instruction yet, so I cannot answer. Whoever looks after me has to write one on the platform."
)


class Assistant(Handler):
    """Answers with a language model; what it holds for itself is next to nothing, see :class:`~.shared.Shared`."""

    def __init__(self) -> None:
        self._shared: Shared | None = None
        self._servers = ServerNotes()

    async def on_start(self, ctx: AgentContext) -> None:
        """Take a share of what all assistants of the process use, and have ready what the first answer needs."""
        shared = Shared.take()
        try:
            # What is wrong with its settings is told with the first answer.
            with suppress(MisconfiguredError):
                await shared.prepare(endpoints(AssistantSettings.read(ctx), ctx))
        except BaseException:
            await shared.give_back()
            raise
        self._shared = shared

    async def on_stop(self, ctx: AgentContext) -> None:
        """Give it back; the last one closes the connections."""
        shared, self._shared = self._shared, None
        if shared is not None:
            await shared.give_back()

    async def on_message(self, message: Message, ctx: Context) -> Reply:
        """Answer one message; thinking, tool calls and their results are sent as they come."""
        if not ctx.instruction.configured:
            return Reply(NOT_CONFIGURED, type="system")
        if self._shared is None:
            self._shared = Shared.take()
        return await answer(message, ctx, self._shared, self._servers)
