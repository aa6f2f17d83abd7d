"""OpenAI's client without what it does to a request that is plain JSON already.

It compares each value of each message with its declared type, to rename and to encode what needs it; nothing of ours
does. For a conversation of twenty messages that took two thirds of the client's time.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from openai import AsyncOpenAI, AsyncStream, NotGiven, Omit, omit
from openai.resources.chat import AsyncChat, AsyncCompletions
from openai.types.chat import ChatCompletion, ChatCompletionChunk


class JsonOpenAI(AsyncOpenAI):
    """A client whose chat completions are sent as they are given: JSON, with what is left out marked as such."""

    @cached_property
    def chat(self) -> AsyncChat:
        """The chat completions, sent as they are."""
        return _Chat(self)


class _Chat(AsyncChat):
    @cached_property
    def completions(self) -> AsyncCompletions:
        return _Completions(self._client)


class _Completions(AsyncCompletions):
    async def create(  # type: ignore[override]
        self,
        *,
        extra_headers: Any = omit,
        extra_query: Any = omit,
        extra_body: Any = omit,
        timeout: Any = omit,
        stream: bool = False,
        **given: Any,
    ) -> Any:
        more = {"headers": extra_headers, "params": extra_query, "extra_json": extra_body, "timeout": timeout}
        options: Any = _given(more)
        return await self._client.post(
            "/chat/completions",
            body={**_given(given), "stream": stream},
            options=options,
            cast_to=ChatCompletion,
            stream=stream,
            stream_cls=AsyncStream[ChatCompletionChunk],
        )


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not isinstance(value, NotGiven | Omit)}
