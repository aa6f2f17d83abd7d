"""Answers one message: a run of the model with its tools, shown part by part, and what people hear of trouble."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import pydantic_ai
from pydantic_ai import Agent
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.run import AgentRun
from pydantic_ai.usage import UsageLimits

from supervisor.handler import AgentContext, Context, Message, Permanent, Reply

from .attached import seen
from .calling import Caller
from .endpoints import Endpoint, endpoints
from .health import Health
from .memory import Past, earlier
from .own import Own
from .patience import Patience
from .people import People
from .prompt import Files, instructions, prompt
from .servers import Servers, connected
from .settings import AssistantSettings, MisconfiguredError
from .shared import Shared
from .show import Show, in_parts
from .steady import SteadyModel, request_settings
from .summaries import Answered, Summaries
from .tally import Tally, TooManyStepsError
from .trouble import (
    LASTING,
    SPENT,
    TOO_FAST,
    TOO_MANY_STEPS,
    TOO_SLOW,
    WORDS,
    BudgetExhaustedError,
    Kind,
    TroubleError,
    classify,
)

#: What is kept of the handler's time to say that it was not enough, in seconds, and its greatest share.
MARGIN_SECONDS: Final = 5.0
MARGIN_SHARE: Final = 0.1
#: How often a model may get a tool's arguments or its own answer wrong in one run.
RETRIES: Final = 3
#: What is read of a conversation beyond what is shown: none of it is lost before it is summed up.
SPARE_MESSAGES: Final = 20
#: How an answer ends that is not all of what the model wanted to say.
_CUT: Final = {
    "length": "[This answer was cut off here: it reached the length that I may write at once.]",
    "content_filter": "[This answer was cut off here by the content filter of the model's provider.]",
}

# It would greet in the log.
pydantic_ai.BANNER_ENABLED = False
# It holds nothing of any agent: model, instruction and tools come with each run.
_AGENT: Final[Agent[None, str]] = Agent(deps_type=type(None), retries=RETRIES, defer_model_check=True, name="assistant")


class SetupError(Permanent):
    """An answer that somebody has to mend the agent for: a dead letter, which can be replayed then."""


@dataclass(slots=True)
class Standing:
    """What one agent keeps between its messages."""

    servers: Servers = field(default_factory=Servers)
    health: Health = field(default_factory=Health)
    people: People = field(default_factory=People)
    own: Own = field(default_factory=Own)
    summaries: Summaries = field(default_factory=Summaries)


@dataclass(frozen=True, slots=True)
class _Means:
    """With what a message is answered.

    Args:
        wrong: what is wrong with models that are not among them.
    """

    settings: AssistantSettings
    models: list[Endpoint]
    wrong: list[str]
    shared: Shared
    standing: Standing


async def answer(message: Message, ctx: Context, shared: Shared, standing: Standing) -> Reply:
    """The last part of the answer; those before it are sent on the way.

    Raises:
        SetupError: somebody has to mend the agent first.
    """
    try:
        settings = AssistantSettings.read(ctx)
        models, wrong = await usable(settings, ctx, shared)
    except MisconfiguredError as error:
        raise _lasting(ctx, standing, TroubleError(Kind.SETUP, str(error))) from error
    budget = ctx.budget()
    if budget.exhausted:
        return _notice(budget.notice)
    if not standing.people.may_ask(message, settings.person_limit):
        return _notice(TOO_FAST)
    return await _within_time(message, ctx, _Means(settings, models, wrong, shared, standing))


async def usable(settings: AssistantSettings, ctx: AgentContext, shared: Shared) -> tuple[list[Endpoint], list[str]]:
    """The models that can be asked, ready, and what is wrong with the others.

    Raises:
        MisconfiguredError: there is none.
    """
    models, wrong = endpoints(settings, ctx)
    ready: list[Endpoint] = []
    for endpoint in models:
        try:
            await shared.prepare([endpoint])
        except MisconfiguredError as error:
            wrong.append(str(error))
        else:
            ready.append(endpoint)
    if not ready:
        raise MisconfiguredError(wrong[0])
    return ready, wrong


async def _within_time(message: Message, ctx: Context, means: _Means) -> Reply:
    left = ctx.deadline - time.time()
    left -= min(MARGIN_SECONDS, left * MARGIN_SHARE)
    health, most = means.standing.health, means.settings.failing_after
    try:
        async with asyncio.timeout(left):
            return await _run(message, ctx, means, asyncio.get_running_loop().time() + left)
    except BudgetExhaustedError as error:
        return _notice(str(error))
    except TooManyStepsError:
        ctx.log.warning("too_many_steps", steps=means.settings.max_steps)
        health.apologised(ctx, f"no answer within {means.settings.max_steps} steps", most=most)
        return _apology(TOO_MANY_STEPS)
    except TroubleError as trouble:
        return _failed(ctx, means, trouble)
    except AgentRunError as error:
        return _failed(ctx, means, classify(error, means.models[0]))
    except TimeoutError:
        ctx.log.warning("answer_too_slow", seconds=round(left, 1))
        health.apologised(ctx, f"no answer within {left:.0f} s", most=most)
        return _apology(TOO_SLOW)


async def _run(message: Message, ctx: Context, means: _Means, ends_at: float) -> Reply:
    settings = means.settings
    tally = Tally(settings)
    caller = Caller(means.shared, ctx, settings, tally, ends_at)
    patience = Patience(ctx, settings.notice_seconds)
    async with patience.watched():
        files = await seen(message, ctx, settings, caller.left_seconds)
        past = await _past(message, ctx, settings, files)
        async with connected(ctx, settings, means.shared, means.standing.servers, means.standing.own) as tools:
            model = SteadyModel(means.models, past.messages, means.shared, ctx, caller, tally)
            show = Show(patience.send)
            async with _AGENT.iter(
                prompt(message, files),
                model=model,
                instructions=instructions(
                    ctx, settings, message, missing=tools.missing, today=datetime.now(UTC).date()
                ),
                toolsets=tools.toolsets,
                model_settings=request_settings(settings),
                usage_limits=UsageLimits(request_limit=None),
            ) as run:
                text, finish = await _shown(run, show, model)
        if not text:
            raise TroubleError(Kind.STRANGE, f"{means.models[0]}: an empty answer")
        means.standing.health.answered(ctx, [*model.remarks, *means.wrong, *tools.remarks])
        *first, last = in_parts(f"{text}\n\n{_CUT[finish]}" if finish in _CUT else text)
        for part in first:
            await patience.send(Reply(part))
    if settings.summarise:
        answered = Answered(settings, means.models, means.shared, past, model.left_out, tally.tokens)
        means.standing.summaries.begin(ctx, answered)
    return Reply(last, metadata={"usage": remarks} if (remarks := tally.remarks) else None)


async def _shown(run: AgentRun[None, str], show: Show, model: SteadyModel) -> tuple[str, str | None]:
    """Follow a run to its end, showing what it does: its answer, and why that ended."""
    async for node in run:
        if Agent.is_call_tools_node(node):
            await show.thinking(node.model_response, model.thinking_ms)
            async with node.stream(run.ctx) as events:
                async for event in events:
                    await show.event(event)
    if run.result is None:
        return "", None
    return run.result.output.strip(), run.result.response.finish_reason


async def _past(message: Message, ctx: Context, settings: AssistantSettings, files: Files) -> Past:
    """The conversation before the message, as the model is to be shown it."""
    if not settings.summarise:
        said = await ctx.history(settings.history_messages)
        return earlier(said, message, settings.history_tokens, files)
    known = await ctx.remembered()
    said = await ctx.history(settings.history_messages + SPARE_MESSAGES)
    return earlier(said, message, settings.history_tokens, files, most=settings.history_messages, known=known)


def _notice(text: str) -> Reply:
    return Reply(text or SPENT, type="error")


def _failed(ctx: Context, means: _Means, trouble: TroubleError) -> Reply:
    """Tell the person, the log and, where it concerns more than this message, the agent's health.

    Raises:
        SetupError: somebody has to mend the agent first.
    """
    if trouble.kind in LASTING:
        raise _lasting(ctx, means.standing, trouble) from trouble
    ctx.log.warning("answer_failed", kind=str(trouble.kind), reason=trouble.reason)
    if trouble.kind is Kind.REFUSED:
        return Reply(WORDS[Kind.REFUSED])
    means.standing.health.failed(ctx, trouble, most=means.settings.failing_after)
    return _apology(trouble.words)


def _lasting(ctx: Context, standing: Standing, trouble: TroubleError) -> SetupError:
    standing.health.failed(ctx, trouble, most=1)
    return SetupError(trouble.reason, apology=trouble.words)


def _apology(words: str) -> Reply:
    return Reply(words, type="error", error=words)
