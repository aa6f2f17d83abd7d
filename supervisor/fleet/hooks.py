"""Runs an agent's hooks beside its messages: what other people and agents do, reloads, and the end of a handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from supervisor.core.tasks import TaskSet, cancel_all, is_cancelled
from supervisor.handlers import MountedHandler
from supervisor.handlers.foreign import foreign_context
from supervisor.protocol import InvalidEventError, parse_event
from supervisor.protocol.events import Membership, Presence, ReadReceipt, Typing
from supervisor.telemetry.failures import describe, describe_fully
from supervisor.telemetry.metrics import Metrics

#: How long a hook may take; it must not hold up the agent.
HOOK_SECONDS = 30.0
#: How long hooks may take once the agent stops.
CLOSE_SECONDS = 5.0
#: How long those that were cancelled may take then.
UNWIND_SECONDS = 1.0
_EVENTS: Mapping[str, type[Presence] | type[Typing] | type[Membership] | type[ReadReceipt]] = {
    "presence:update": Presence,
    "user:joined": Membership,
    "user:left": Membership,
    "user:typing": Typing,
    "agent:typing": Typing,
    "message:read": ReadReceipt,
}
_HOOKS: Mapping[type, str] = {Typing: "on_typing", ReadReceipt: "on_read"}


class Hooks:
    """One agent's hooks under way; a hook that fails or hangs harms nothing but itself.

    Args:
        redact: takes the agent's secrets out of what a hook says when it fails.
        log: the agent's logger.
        tracebacks: whether one that fails is logged with its traceback.
    """

    def __init__(
        self, agent_id: str, metrics: Metrics, redact: Callable[[str], str], log: Any, *, tracebacks: bool = False
    ) -> None:
        self._agent_id = agent_id
        self._metrics = metrics
        self._redact = redact
        self._log = log
        self._tracebacks = tracebacks
        self._tasks = TaskSet()
        self._retiring: dict[asyncio.Task[None], MountedHandler] = {}

    def notify(self, handler: MountedHandler, event: str, payload: object, context: object) -> None:
        """Tell a handler what somebody did, if it has a hook for that; what the agent itself did is no news."""
        kind = _EVENTS.get(event)
        if kind is None:
            self._metrics.unknown("event")
            return
        hook = _HOOKS.get(kind, "on_presence")
        if not handler.wants(hook):
            return
        try:
            parsed: Presence | Typing | Membership | ReadReceipt = parse_event(kind, payload)  # type: ignore[type-var]
        except InvalidEventError as error:
            self._metrics.dropped(error.reason)
            return
        if parsed.agent_id == self._agent_id and parsed.type == "agent":
            return
        fields = {name: getattr(parsed, name) for name in parsed.__struct_fields__}
        if kind is Membership:
            fields["status"] = event.removeprefix("user:")
        self.spawn(handler, handler.hook(hook, fields, context))

    def spawn(
        self, handler: MountedHandler, hook: Coroutine[Any, Any, None], *, timeout: float | None = HOOK_SECONDS
    ) -> asyncio.Task[None]:
        """Run a hook of ``handler`` for ``timeout`` seconds at most."""
        run = self._run(handler, hook, timeout)
        return self._tasks.spawn(run, f"hook {self._agent_id}", context=foreign_context(self._agent_id))

    def retire(self, handler: MountedHandler, context: object) -> None:
        """Stop a handler once the messages it works on are done."""

        async def stop_when_idle() -> None:
            await handler.idle.wait()
            await handler.hook("on_stop", context)

        task = self.spawn(handler, stop_when_idle(), timeout=None)
        self._retiring[task] = handler
        task.add_done_callback(self._retiring.pop)

    async def _run(self, handler: MountedHandler, hook: Coroutine[Any, Any, None], timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                await hook
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            self._log.warning("hook_failed", handler=handler.reference, reason="cancelled from within")
        except Exception as error:  # noqa: BLE001  a hook may raise anything
            reason = describe(error, self._redact)
            told = {"exception": describe_fully(error, self._redact)} if self._tracebacks else {}
            self._log.warning("hook_failed", handler=handler.reference, reason=reason, **told)

    async def close(self) -> None:
        """Give what runs a moment to end, then cancel it."""
        for task, handler in list(self._retiring.items()):
            if not handler.idle.is_set():
                # A message of the handler swallowed its cancellation: the handler may never be idle again.
                task.cancel()
        await self._tasks.wait(CLOSE_SECONDS)
        await cancel_all(self._tasks, UNWIND_SECONDS)
