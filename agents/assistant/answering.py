"""Answers one message: a run of the model with its tools, shown part by part, and what people hear of trouble."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_ai import Agent
from pydantic_ai.exceptions import AgentRunError, UsageLimitExceeded
from pydantic_ai.usage import UsageLimits

from supervisor.handler import Context, Message, Reply

from .memory import earlier, prompt
from .settings import AssistantSettings, Endpoint, MisconfiguredError, endpoints
from .shared import Shared
from .show import Show
from .steady import SteadyModel, request_settings
from .tools import ServerNotes, connected
from .trouble import (
    HARMLESS,
    TOO_MANY_STEPS,
    TOO_SLOW,
    WORDS,
    BudgetExhaustedError,
    Kind,
    TroubleError,
    classify,
    health,
)

#: What is kept of the handler's time to say that it was not enough, in seconds, and its greatest share.
MARGIN_SECONDS: Final = 5.0
MARGIN_SHARE: Final = 0.1
#: How often a model may get a tool's arguments or its own answer wrong in one run.
RETRIES: Final = 3

# It holds nothing of any agent: model, instruction and tools come with each run.
_AGENT: Final[Agent[None, str]] = Agent(deps_type=type(None), retries=RETRIES, defer_model_check=True, name="assistant")


async def answer(message: Message, ctx: Context, shared: Shared, servers: ServerNotes) -> Reply:
    """The last part of the answer; those before it are sent on the way."""
    try:
        settings = AssistantSettings.read(ctx)
        models = endpoints(settings, ctx)
        await shared.prepare(models)
    except MisconfiguredError as error:
        return _failed(ctx, TroubleError(Kind.SETUP, str(error)))
    budget = ctx.budget()
    if budget.exhausted:
        return _notice(budget.notice)
    return await _within_time(message, ctx, _Means(settings, models, shared, servers))


@dataclass(frozen=True, slots=True)
class _Means:
    """With what a message is answered."""

    settings: AssistantSettings
    models: list[Endpoint]
    shared: Shared
    servers: ServerNotes


async def _within_time(message: Message, ctx: Context, means: _Means) -> Reply:
    left = ctx.deadline - time.time()
    left -= min(MARGIN_SECONDS, left * MARGIN_SHARE)
    try:
        async with asyncio.timeout(left):
            return await _run(message, ctx, means, asyncio.get_running_loop().time() + left)
    except BudgetExhaustedError as error:
        return _notice(str(error))
    except UsageLimitExceeded:
        ctx.log.warning("too_many_steps", steps=means.settings.max_steps)
        return _apology(TOO_MANY_STEPS)
    except TroubleError as trouble:
        return _failed(ctx, trouble)
    except AgentRunError as error:
        return _failed(ctx, classify(error, means.models[0]))
    except TimeoutError:
        ctx.log.warning("answer_too_slow", seconds=round(left, 1))
        return _apology(TOO_SLOW)


async def _run(message: Message, ctx: Context, means: _Means, ends_at: float) -> Reply:
    settings = means.settings
    said = await ctx.history(settings.history_messages)
    async with connected(ctx, settings, means.shared, means.servers) as tools:
        model = SteadyModel(means.models, means.shared, ctx, settings, ends_at)
        show = Show(ctx)
        async with _AGENT.iter(
            prompt(message),
            model=model,
            message_history=earlier(said, message, settings.history_tokens),
            instructions=instructions(ctx, tools.missing),
            toolsets=tools.toolsets,
            model_settings=request_settings(settings),
            usage_limits=UsageLimits(request_limit=settings.max_steps),
        ) as run:
            async for node in run:
                if Agent.is_call_tools_node(node):
                    await show.thinking(node.model_response, model.thinking_ms)
                    async with node.stream(run.ctx) as events:
                        async for event in events:
                            await show.event(event)
        text = run.result.output.strip() if run.result else ""
    if not text:
        return _failed(ctx, TroubleError(Kind.STRANGE, f"{means.models[0]}: an empty answer"))
    return Reply(text)


def instructions(ctx: Context, missing: Sequence[str]) -> str:
    """The platform's instruction as the model gets it, and what it should know of its tools."""
    parts = [ctx.instruction.system_prompt.strip()]
    if rules := [text for rule in ctx.instruction.guidelines if (text := _rule(rule))]:
        parts.append("\n".join(["Guidelines:", *(f"- {text}" for text in rules)]))
    if missing:
        parts.append(
            f"The tools of these servers cannot be used at the moment: {', '.join(missing)}. "
            "If an answer needs them, say that they are not available now."
        )
    return "\n\n".join(parts)


def _rule(rule: Any) -> str:
    """One guideline; the platform promises no shape."""
    if isinstance(rule, dict):
        named = (rule.get(name) for name in ("content", "text", "description", "guideline", "rule"))
        rule = next((text for text in named if isinstance(text, str)), rule)
    return rule.strip() if isinstance(rule, str) else json.dumps(rule, ensure_ascii=False)


def _notice(text: str) -> Reply:
    return Reply(text or "I have used up what I may spend today.", type="system")


def _failed(ctx: Context, trouble: TroubleError) -> Reply:
    """Tell the person, the log and, where it concerns more than this message, the agent's health."""
    ctx.log.warning("answer_failed", kind=str(trouble.kind), reason=trouble.reason)
    if trouble.kind is Kind.REFUSED:
        return Reply(WORDS[Kind.REFUSED])
    if trouble.kind not in HARMLESS:
        ctx.note_health(health(trouble))
    return _apology(trouble.words)


def _apology(words: str) -> Reply:
    return Reply(words, type="error", error=words)
