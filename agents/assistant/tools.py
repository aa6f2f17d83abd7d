"""One server's tools as the model and people know them: under the platform's names, bounded, unable to end a run."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.messages import BinaryContent
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset
from pydantic_core import to_jsonable_python

from supervisor.handler import Context

from .cleaning import each_text, whole_characters
from .settings import AssistantSettings

#: What providers take as a tool's name.
MAX_NAME_CHARS: Final = 64
#: What a tool has done that gave no result.
NOTHING: Final = "Done; there is nothing to tell."
_ODD: Final = re.compile(r"[^a-zA-Z0-9_-]")


class ServerTools(WrapperToolset[None]):
    """One server's tools under the platform's names ``mcp__Server__tool``, those that the agent is allowed.

    Whatever goes wrong with a call is told to the model, which can say so or do without: it never ends the run.

    Args:
        taken: names that are others' already.
        remarks: takes what is left out for that.
    """

    def __init__(
        self,
        wrapped: AbstractToolset[None],
        server: str,
        ctx: Context,
        settings: AssistantSettings,
        taken: Collection[str],
        remarks: list[str],
    ) -> None:
        super().__init__(wrapped)
        self._server = server
        self._allowed: Collection[str] = ctx.allowed_functions
        self._ctx = ctx
        self._seconds = settings.tool_seconds
        self._most_chars = settings.tool_result_chars
        self._taken = taken
        self._remarks = remarks
        self._names: dict[str, str] = {}
        self._known: dict[str, ToolsetTool[None]] = {}

    async def get_tools(self, ctx: RunContext[None]) -> dict[str, ToolsetTool[None]]:
        try:
            found = await super().get_tools(ctx)
        except Exception as error:  # noqa: BLE001  a server may fail in any way between two steps
            self._ctx.log.warning("tools_not_listed", server=self._server, reason=type(error).__name__)
            return self._known
        tools = {}
        for name, tool in found.items():
            full = f"mcp__{self._server}__{name}"
            if self._allowed and full not in self._allowed:
                continue
            if (shown := safe_name(full)) in self._taken:
                self._remarks.append(f"tool {name} of {self._server} is left out: {shown} is one of the agent's own")
                continue
            self._names[shown] = name
            tools[shown] = _renamed(tool, self, shown)
        self._known = tools
        return tools

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[None], tool: ToolsetTool[None]
    ) -> Any:
        original = self._names[name]
        try:
            with self._ctx.tool_call(name, call_id=ctx.tool_call_id):
                async with asyncio.timeout(self._seconds):
                    result = await super().call_tool(original, tool_args, ctx, _renamed(tool, self, original))
            return cut(result, self._most_chars)
        except ToolFailed:
            raise
        except ModelRetry as error:
            # As a retry it would count against the run; the model may try again all the same.
            raise ToolFailed(error.message) from error
        except TimeoutError as error:
            raise ToolFailed(f"The tool did not answer within {self._seconds:g} s.") from error
        except Exception as error:
            self._ctx.log.warning("tool_failed", server=self._server, tool=original, reason=type(error).__name__)
            raise ToolFailed(f"The tool server {self._server} does not answer at the moment.") from error


def _renamed(tool: ToolsetTool[None], toolset: AbstractToolset[None], name: str) -> ToolsetTool[None]:
    return replace(tool, toolset=toolset, tool_def=replace(tool.tool_def, name=name))


def safe_name(name: str) -> str:
    """A name that every provider takes; one that had to be changed ends with a digest, so that it stays its own."""
    safe = _ODD.sub("_", name)
    if safe == name and len(name) <= MAX_NAME_CHARS:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{safe[: MAX_NAME_CHARS - len(mark) - 1]}_{mark}"


def holds_files(result: Any) -> bool:
    """Whether a tool's result is a file, or has some among it."""
    return any(isinstance(item, BinaryContent) for item in (result if isinstance(result, list) else [result]))


def cut(result: Any, most: int) -> Any:
    """A tool's result as the model gets it, of whole characters: above ``most`` it is cut, but for files."""
    if holds_files(result):
        return result
    # JSON has no NaN and no infinity.
    result = each_text(to_jsonable_python(result, fallback=str, inf_nan_mode="null"), whole_characters)
    if result is None:
        return NOTHING
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    if len(text) <= most:
        return result
    return f"{text[:most]}…\n[{len(text) - most} more characters are left out]"
