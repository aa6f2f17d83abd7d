"""An author's own tools: those of the handler's class, and of the modules that a row names.

What cannot be a tool is left out by name, and said in health; the others stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from pydantic import TypeAdapter
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool

from supervisor.handler import AgentContext, ConfigurationError, Context

from .cleaning import whole_characters
from .functions import OwnTool, own_tool
from .settings import AssistantSettings
from .tools import cut

#: What a module offers where a row names the module alone.
OFFERED: Final = "tools"
#: How long a module may take to load: less than the supervisor gives a handler to start.
LOAD_SECONDS: Final = 20.0
#: What the model gives is checked when the tool is called, so that a slip of the model's never ends a run.
_ANY_ARGUMENTS: Final = TypeAdapter(dict[str, Any]).validator


@dataclass(slots=True)
class Own:
    """One agent's own tools by name, and what is wrong with those that were left out."""

    tools: dict[str, OwnTool] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @classmethod
    async def find(cls, given: object, references: Iterable[str], ctx: AgentContext) -> Own:
        """Read functions, then those of the modules that are named: ``my_tools``, ``my_tools:some``."""
        own = cls()
        if isinstance(given, list | tuple):
            own._add(given)
        else:
            own.wrong.append("the handler's tools are left out: they are no list; write tools = [...]")
        for reference in references:
            try:
                async with asyncio.timeout(LOAD_SECONDS):
                    found = await ctx.load(reference if ":" in reference else f"{reference}:{OFFERED}")
            except ConfigurationError as error:
                own.wrong.append(f"tools of {reference} are left out: {error}")
            except TimeoutError:
                own.wrong.append(f"tools of {reference} are left out: they take longer than {LOAD_SECONDS:g} s to load")
            else:
                own._add(found if isinstance(found, list | tuple) else [found])
        return own

    def _add(self, functions: Iterable[object]) -> None:
        for function in functions:
            try:
                self._add_one(own_tool(function))
            except ConfigurationError as error:
                self.wrong.append(str(error))

    def _add_one(self, tool: OwnTool) -> None:
        name = tool.definition.name
        if name in self.tools and self.tools[name].function != tool.function:
            self.wrong.append(f"there is another tool {name}: the second is left out, rename it")
        else:
            self.tools[name] = tool


class OwnTools(AbstractToolset[None]):
    """An agent's own tools for one message; as with a server's, whatever goes wrong with a call never ends the run."""

    def __init__(self, own: Own, ctx: Context, settings: AssistantSettings) -> None:
        self._tools = own.tools
        self._ctx = ctx
        self._seconds = settings.tool_seconds
        self._most_chars = settings.tool_result_chars

    @property
    def id(self) -> str | None:
        return None

    async def get_tools(self, ctx: RunContext[None]) -> dict[str, ToolsetTool[None]]:
        checks = cast("Any", _ANY_ARGUMENTS)
        return {
            name: ToolsetTool(
                toolset=self, tool_def=tool.definition, max_retries=ctx.max_retries, args_validator=checks
            )
            for name, tool in self._tools.items()
        }

    async def call_tool(
        self,
        name: str,
        tool_args: dict[str, Any],
        ctx: RunContext[None],
        tool: ToolsetTool[None],
    ) -> Any:
        timing = asyncio.timeout(self._seconds)
        try:
            with self._ctx.tool_call(name, call_id=ctx.tool_call_id):
                async with timing:
                    result = await self._tools[name].call(tool_args, self._ctx)
            return cut(result, self._most_chars)
        except ToolFailed:
            raise
        except ModelRetry as error:
            # Words for the model, of an author who knows the library; as a retry it would count against the run.
            raise ToolFailed(whole_characters(error.message)) from error
        except Exception as error:
            if timing.expired():
                raise ToolFailed(f"The tool did not answer within {self._seconds:g} s.") from error
            self._ctx.log.warning("tool_failed", tool=name, exc_info=error)
            # Its words may hold what no model shall see; what a model shall know a tool returns.
            raise ToolFailed(f"The tool failed ({type(error).__name__}).") from error
