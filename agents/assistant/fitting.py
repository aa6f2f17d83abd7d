"""Makes a request such that an endpoint takes it: from what was learned of it, and from each refusal anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ThinkingPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from .endpoints import BASE_URLS, Endpoint
from .learned import Learned
from .memory import apart, half, one_by_one, prompts, starts
from .refusals import (
    blind_to,
    is_about_media,
    is_about_streaming,
    is_about_tools,
    limits_in,
    most_tools_in,
    says_toolless,
    settings_in,
    tools_in,
)
from .tokens import request_tokens
from .trouble import Kind, TroubleError, clean

#: How short tools' results are cut where nothing else is left to leave out.
LEAST_RESULT_CHARS: Final = 2000
#: What OpenAI's own API takes; of others it is learned.
OPENAI_TOOLS: Final = 128
#: Statuses of a refusal that another request might not meet.
_MENDABLE: Final = frozenset({400, 404, 405, 413, 415, 422, 500, 501})
LAST_STEP: Final = "[No tool can be used any more. Answer now with what you know, and say what is missing.]"
_KINDS: Final = frozenset({"image", "document"})
UNSEEN: Final = "[The person attached a file here. You cannot see it: say so if it matters.]"


@dataclass(frozen=True, slots=True)
class Call:
    """What the run wants to ask.

    Args:
        last: no tools may be used any more.
    """

    messages: list[ModelMessage]
    settings: Mapping[str, Any]
    parameters: ModelRequestParameters
    last: bool = False


class Fit:
    """How one message's requests are made fit for one endpoint.

    Args:
        answer_tokens: how long an answer may become, where that is set.
    """

    def __init__(self, endpoint: Endpoint, learned: Learned, answer_tokens: int | None) -> None:
        self._endpoint = endpoint
        self._learned = learned
        self._answer_tokens = answer_tokens
        #: Messages of people before the one to answer that were left out of the last request.
        self.left_out = 0
        self._left_out = 0
        self._without_summary = False
        self._result_chars: int | None = None
        # Tried where a refusal tells nothing: without files, shorter, without tools.
        self._guesses = ["fileless", "shorter", "toolless"]
        self._fileless = False
        self._toolless = False
        self._marks: dict[str, str] = {}
        # What was left out of the last request, of settings with the reason.
        self._cut_tools: tuple[int, int] | None = None
        self._left_settings: dict[str, str] = {}
        self._left_tools: set[str] = set()

    def apply(self, call: Call) -> Call:
        """The request as this endpoint takes it."""
        parameters = self._parameters(call.parameters)
        summary, messages = apart(one_by_one(call.messages))
        if self._without_summary:
            summary = []
        if unseen := _KINDS if self._fileless else self._learned.blind_to:
            messages = [_unseen(message, unseen) for message in messages]
        messages = [said for message in messages if (said := _without_own_thinking(message)) is not None]
        self._make_room(summary, messages, parameters)
        self.left_out = prompts(messages[: self._left_out])
        messages = [*summary, *(self._shortened(message) for message in messages[self._left_out :])]
        settings = self._settings(call.settings)
        if call.last and parameters.function_tools:
            if self._learned.refusal_of("tool_choice", "none") is not None:
                parameters = replace(parameters, function_tools=[])
            else:
                settings["tool_choice"] = "none"
        if call.last:
            messages = [*messages[:-1], _with_note(messages[-1], LAST_STEP)]
        return Call(messages, settings, parameters, call.last)

    def model_settings(self, call: Call) -> ModelSettings:
        """The settings of a fitted call as the model's client takes them."""
        return cast("ModelSettings", dict(call.settings))

    def mend(self, trouble: TroubleError, call: Call) -> str | None:
        """Change what a refusal is about; what was changed, None where nothing can be.

        Args:
            call: as it was refused.
        """
        if trouble.kind is Kind.TOO_LONG:
            return self._shorten(trouble, call)
        if blind := self._blind_to(trouble, call):
            self._learned.is_blind_to(blind)
            return "attachments"
        if trouble.status in (404, 500) and says_toolless(trouble.said):
            # OpenRouter and llama.cpp say so with what else is a missing model, and trouble that passes.
            return self._about_tools(trouble.said, call)
        if trouble.kind is not Kind.REJECTED and not (trouble.kind is Kind.BUSY and trouble.status == 501):
            return None
        return self._explained(trouble, call) or self._guess(trouble, call)

    def succeeded(self) -> None:
        """The endpoint took it: a guess was right."""
        if self._toolless:
            self._learned.refuses_tools(self._marks)
            self._toolless = False

    @property
    def remarks(self) -> list[str]:
        """What of the agent's set-up this endpoint does not take, for its health."""
        said = [f"{name} is left out: {why}" for name, why in self._left_settings.items()]
        if self._cut_tools:
            offered, taken = self._cut_tools
            said.append(f"the model takes {taken} tools of {offered}")
        if self._left_tools:
            said.append(f"the model does not take the tools {', '.join(sorted(self._left_tools))}")
        return said

    def _settings(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        refused = {
            name: why for name, value in chosen.items() if (why := self._learned.refusal_of(name, value)) is not None
        }
        self._left_settings = {name: why for name, why in refused.items() if why}
        return {name: value for name, value in chosen.items() if name not in refused}

    def _parameters(self, parameters: ModelRequestParameters) -> ModelRequestParameters:
        offered = parameters.function_tools
        if self._toolless:
            return replace(parameters, function_tools=[])
        refused = self._learned.refused_tools
        kept = [tool for tool in offered if not refused or _mark(tool) not in refused]
        self._left_tools = {tool.name for tool in offered} - {tool.name for tool in kept}
        most = self._learned.most_tools
        if most is None and self._endpoint.base_url == BASE_URLS["openai"]:
            most = OPENAI_TOOLS
        if most is not None and len(kept) > most:
            self._cut_tools = (len(offered), most)
            kept = kept[:most]
        return parameters if len(kept) == len(offered) else replace(parameters, function_tools=kept)

    def _make_room(
        self, summary: list[ModelMessage], messages: list[ModelMessage], parameters: ModelRequestParameters
    ) -> None:
        """Leave out what is known to be too much, at whole messages."""
        room = self._learned.room(self._answer_tokens)
        if room is None:
            return
        for start in starts(messages):
            if start >= self._left_out:
                self._left_out = start
                if request_tokens([*summary, *messages[start:]], parameters) <= room:
                    return

    def _shortened(self, message: ModelMessage) -> ModelMessage:
        if self._result_chars is None or not isinstance(message, ModelRequest):
            return message
        return replace(message, parts=[_cut(part, self._result_chars) for part in message.parts])

    # What a refusal is about.

    def _shorten(self, trouble: TroubleError, call: Call) -> str | None:
        # A proxy's bound of bytes is no model's of tokens, and files are what has most of them.
        if trouble.status == 413 and self._leave_files(call):
            return "attachments"
        limit, asked = limits_in(trouble.said) if trouble.status != 413 else (None, None)
        if limit and self._wants_too_long_an_answer(trouble, limit, call):
            self._learned.refuses_setting("max_tokens", call.settings["max_tokens"], clean(trouble.said))
            return "max_tokens"
        self._learned.refused_length(request_tokens(call.messages, call.parameters), limit, asked)
        return self._leave_out(call)

    def _wants_too_long_an_answer(self, trouble: TroubleError, limit: int, call: Call) -> bool:
        """Whether it is the answer that has no room: a shorter conversation would not help, or not for long."""
        most = call.settings.get("max_tokens")
        return isinstance(most, int) and most > limit // 2 and bool(settings_in(trouble.said, ["max_tokens"]))

    def _leave_out(self, call: Call) -> str | None:
        summary, messages = apart(call.messages)
        if fewer := half(messages):
            self._left_out += fewer
            return "history"
        if summary:
            self._without_summary = True
            return "summary"
        longest = max((len(part.model_response_str()) for part in _results(call.messages)), default=0)
        if longest > LEAST_RESULT_CHARS:
            self._result_chars = max(LEAST_RESULT_CHARS, longest // 2)
            return "tool results"
        return "attachments" if self._leave_files(call) else None

    def _leave_files(self, call: Call) -> bool:
        """Leave out the files of this message; whether there are any."""
        self._fileless = bool(_kinds(call.messages))
        return self._fileless

    def _explained(self, trouble: TroubleError, call: Call) -> str | None:
        said = trouble.said
        why = clean(said)
        if is_about_streaming(said) and self._learned.streams:
            self._learned.does_not_stream()
            return "stream"
        if trouble.status not in (*_MENDABLE, None):
            return None
        for name in settings_in(said, call.settings):
            self._learned.refuses_setting(name, call.settings[name], "" if name in ("tool_choice", "cache") else why)
            return name
        # A file that is broken or too large says nothing of the next.
        if is_about_media(said) and self._leave_files(call):
            return "attachments"
        return self._about_tools(said, call)

    def _blind_to(self, trouble: TroubleError, call: Call) -> frozenset[str]:
        """The kinds of this message's files that the endpoint says it never takes; llama.cpp says so with 500."""
        if trouble.kind not in (Kind.REJECTED, Kind.BUSY, Kind.MODEL) or not is_about_media(trouble.said):
            return frozenset()
        return blind_to(trouble.said, _kinds(call.messages))

    def _about_tools(self, said: str, call: Call) -> str | None:
        offered = call.parameters.function_tools
        if not offered:
            return None
        if named := tools_in(said, [tool.name for tool in offered]):
            self._learned.refuses_tools({_mark(tool): tool.name for tool in offered if tool.name in named})
            return ", ".join(named)
        if (most := most_tools_in(said, len(offered))) is not None:
            self._learned.takes_tools(most)
            return "tools"
        if is_about_tools(said):
            self._learned.refuses_tools({_mark(tool): tool.name for tool in offered})
            return "tools"
        return None

    def _guess(self, trouble: TroubleError, call: Call) -> str | None:
        """Any refusal that nothing else explains is tried once without files, once shorter, once without tools."""
        if trouble.status not in (400, 413, 422):
            return None
        while self._guesses:
            guess = self._guesses.pop(0)
            if guess == "fileless" and self._leave_files(call):
                return "attachments"
            if guess == "shorter" and (what := self._leave_out(call)):
                return what
            if guess == "toolless" and call.parameters.function_tools:
                self._marks = {_mark(tool): tool.name for tool in call.parameters.function_tools}
                self._toolless = True
                return "tools"
        return None


def _mark(tool: ToolDefinition) -> str:
    """A tool by its definition: one that is mended is another."""
    schema = json.dumps([tool.name, tool.parameters_json_schema], sort_keys=True, default=str)
    return hashlib.sha256(schema.encode()).hexdigest()[:16]


def _results(messages: list[ModelMessage]) -> list[ToolReturnPart]:
    return [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]


def _cut(part: Any, most: int) -> Any:
    if not isinstance(part, ToolReturnPart) or len(text := part.model_response_str()) <= most:
        return part
    return replace(part, content=f"{text[:most]}…\n[{len(text) - most} more characters are left out]")


def _kind(item: object) -> str | None:
    """The kind of a file; None for text."""
    if not isinstance(item, BinaryContent):
        return None
    return "image" if item.is_image else "document"


def _kinds(messages: Iterable[ModelMessage]) -> frozenset[str]:
    """The kinds of the files in messages."""
    parts = (part for message in messages for part in message.parts if isinstance(part, UserPromptPart))
    items = (item for part in parts if not isinstance(part.content, str) for item in part.content)
    return frozenset(kind for item in items if (kind := _kind(item)) is not None)


def _unseen(message: ModelMessage, kinds: frozenset[str]) -> ModelMessage:
    """A message without the files of these kinds, which the model would refuse."""
    if not isinstance(message, ModelRequest) or not kinds & _kinds([message]):
        return message
    return replace(message, parts=[_without_files(part, kinds) for part in message.parts])


def _without_files(part: Any, kinds: frozenset[str]) -> Any:
    if not isinstance(part, UserPromptPart) or isinstance(part.content, str):
        return part
    content = [UNSEEN if _kind(item) in kinds else item for item in part.content]
    # A server that takes no files may take nothing but text.
    only_text = all(isinstance(item, str) for item in content)
    return replace(part, content="\n\n".join(map(str, content)) if only_text else content)


def _without_own_thinking(message: ModelMessage) -> ModelMessage | None:
    """A message without the thinking that we found in the model's text: its client would put it back there."""
    if not isinstance(message, ModelResponse) or not any(map(_is_own_thinking, message.parts)):
        return message
    parts = [part for part in message.parts if not _is_own_thinking(part)]
    return replace(message, parts=parts) if parts else None


def _is_own_thinking(part: object) -> bool:
    return isinstance(part, ThinkingPart) and part.provider_name is None


def _with_note(message: ModelMessage, note: str) -> ModelMessage:
    if not isinstance(message, ModelRequest):
        return message
    return replace(message, parts=[*message.parts, UserPromptPart(content=note)])
