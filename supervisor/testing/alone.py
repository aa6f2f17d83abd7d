"""Runs a handler alone: one message in, its reply out."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from supervisor.core.errors import ConfigurationError, HandlerError
from supervisor.handler import Handler, Message, Reply
from supervisor.handlers import DaemonThreads, HandlerLoader, MountedHandler, ThreadShare
from supervisor.handlers.declared import SETTINGS, schema_of, settings_of
from supervisor.settings.schemas import misfits
from supervisor.settings.slips import slips
from supervisor.testing.context import ANSWER_SECONDS, FakeContext
from supervisor.testing.folder import agents_folder, packages_of


async def ask(
    handler: str | Callable[..., Any] | Handler,
    text: str | Message,
    context: FakeContext | None = None,
    *,
    agents_dir: str | Path | None = None,
    timeout: float = ANSWER_SECONDS,
) -> Reply:
    """What a handler answers to one message, run from ``on_start`` to ``on_stop`` as the supervisor does.

    Args:
        handler: its name in the agents folder, ``package.module:attribute``, a function, a class or an object.
        text: what a person says, or a whole message.
        context: what it sees; all that it gives is in its ``parts`` afterwards.
        agents_dir: the folder of handlers; without one it is looked for as ``supervisor run`` does.
        timeout: seconds.

    Returns:
        The last part as a reply; text becomes one.

    Raises:
        HandlerError: there is no such handler. ConfigurationError: a setting is a slip for one of its ``SETTINGS``, or
            does not fit what these say. InvalidReplyError: the platform would refuse what it gives.
        LookupError: it said nothing, or nothing that is text. TimeoutError: it took too long. Or what it raises.
    """
    ctx = context or FakeContext()
    message = (
        text if isinstance(text, Message) else Message(conversation_id=ctx.conversation, role="user", content=text)
    )
    ctx.note_message(message)
    threads = DaemonThreads(2, "handler")
    try:
        async with asyncio.timeout(timeout):
            mounted = ctx.handler = await _mounted(handler, agents_dir, threads)
            mounted.objects = partial(_find, agents_dir)
            _check_settings(mounted, ctx)
            await _run(mounted, message, ctx)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    return _last_reply(ctx)


def _find(agents_dir: str | Path | None, reference: str) -> Any:
    """What a handler loads by name, as :meth:`~supervisor.handler.AgentContext.load` finds it."""
    loader = HandlerLoader(agents_folder(agents_dir), packages=packages_of(reference))
    try:
        return loader.find(reference)
    finally:
        loader.close()


def _check_settings(handler: MountedHandler, ctx: FakeContext) -> None:
    """Refuse what a command that adds an agent refuses.

    Raises:
        ConfigurationError: says what.
    """
    slipped = () if handler.settings is None else slips(ctx.settings, handler.settings)
    for found in (*slipped, *misfits(ctx.settings, handler.schema)):
        raise ConfigurationError(found)


async def _run(mounted: MountedHandler, message: Message, ctx: FakeContext) -> None:
    await mounted.hook("on_start", ctx)
    try:
        async for part in mounted.parts(message, ctx):
            ctx.take(part)
    finally:
        await mounted.hook("on_stop", ctx)


def _last_reply(ctx: FakeContext) -> Reply:
    last = ctx.parts[-1] if ctx.parts else None
    if isinstance(last, str):
        return Reply(last)
    if isinstance(last, Reply):
        return last
    raise LookupError(f"the handler gave no reply; it gave {ctx.parts!r}")


async def _mounted(
    handler: str | Callable[..., Any] | Handler, agents_dir: str | Path | None, threads: DaemonThreads
) -> MountedHandler:
    if isinstance(handler, str):
        loader = HandlerLoader(agents_folder(agents_dir), packages=packages_of(handler))
        # The loader's own threads never start: this handler runs in the caller's.
        loaded = await asyncio.to_thread(loader.load, handler)
        loader.close()
        return loaded.using(ThreadShare(threads, 1))
    target = await asyncio.to_thread(handler) if isinstance(handler, type) else handler
    name = getattr(handler, "__name__", type(handler).__name__)
    on_message = getattr(target, "on_message", target)
    if not callable(on_message):
        raise HandlerError(f"Handler {name!r} has no on_message")
    mounted = MountedHandler(name, target, on_message, ThreadShare(threads, 1))
    declared = getattr(inspect.getmodule(handler), SETTINGS, None)
    mounted.settings, mounted.schema = settings_of(declared), schema_of(declared)
    return mounted
