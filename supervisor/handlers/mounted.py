"""A loaded handler, whatever its form: function or method, coroutine or generator, in the event loop or in a thread."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, aclosing
from types import CoroutineType
from typing import Any, Final, TypeVar, cast

from supervisor.core.errors import ConfigurationError, HandlerError
from supervisor.core.flags import Flag
from supervisor.handler import Context, Handler, Message, Part, Reply
from supervisor.handlers.foreign import contained, escaped
from supervisor.handlers.threads import ThreadShare, TimeLimit
from supervisor.telemetry.failures import describe

#: Conversations of one agent at once where each holds a thread.
IN_THREADS: Final = 4
#: Stands for the end of an iterator that is read in a thread.
_STOP = object()

_T = TypeVar("_T")


def _innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under decorators and partials, or the ``__call__`` of an object: it tells the form."""
    unwrapped = inspect.unwrap(function)
    while isinstance(unwrapped, functools.partial):
        unwrapped = inspect.unwrap(unwrapped.func)
    return unwrapped if inspect.isroutine(unwrapped) else inspect.unwrap(type(unwrapped).__call__)


def _runs_in_loop(function: Callable[..., Any]) -> bool:
    innermost = _innermost(function)
    return inspect.iscoroutinefunction(innermost) or inspect.isasyncgenfunction(innermost)


def _streams(function: Callable[..., Any]) -> bool:
    innermost = _innermost(function)
    return inspect.isasyncgenfunction(innermost) or inspect.isgeneratorfunction(innermost)


def _nothing(reference: str) -> Any:
    raise HandlerError(f"There is nothing to load {reference!r} from")


class _Work(AbstractContextManager[None]):
    """What a handler works on, counted: one for all of its messages, for it is held with each."""

    __slots__ = ("_idle", "_running")

    def __init__(self, idle: Flag) -> None:
        self._idle = idle
        self._running = 0

    def __enter__(self) -> None:
        self._running += 1
        if self._running == 1:
            self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self._running -= 1
        if self._running == 0:
            self._idle.set()


class MountedHandler:
    """One agent's handler, whatever its form: :meth:`answer` gives its parts as they are made.

    ``streams``: whether it yields its parts: those are sent as they come, a single answer together with its settling.
    ``idle`` is set while it works on no message: a handler that was replaced is stopped only then. ``settings`` are
    those that its module says it has; None where it does not say. ``schema`` is what values they take, as far as it
    says that. ``notes`` are what its author should know of it.
    ``objects`` finds what it loads by reference, and ``loaded`` has the modules that it asked for.
    """

    def __init__(self, reference: str, target: Any, on_message: Callable[..., Any], threads: ThreadShare) -> None:
        self.reference = reference
        self.target = target
        self.on_message = on_message
        self._in_loop = _runs_in_loop(on_message)
        self.streams = _streams(on_message)
        self.threads = threads
        self.settings: tuple[str, ...] | None = None
        self.schema: Mapping[str, Mapping[str, Any]] = {}
        self.notes: tuple[str, ...] = ()
        self.objects: Callable[[str], Any] = _nothing
        self.loaded: set[str] = set()
        self.idle = Flag()
        self.idle.set()
        self._work = _Work(self.idle)

    def using(self, threads: ThreadShare) -> MountedHandler:
        """The same handler with threads of somebody else's."""
        other = MountedHandler(self.reference, self.target, self.on_message, threads)
        other.settings, other.schema = self.settings, self.schema
        other.notes, other.objects = self.notes, self.objects
        return other

    def working(self) -> AbstractContextManager[None]:
        """Held around each message it works on."""
        return self._work

    def concurrency(self, places: int) -> int:
        """How many conversations of one agent suit it: what the class says, else few in threads and many that wait.

        Args:
            places: messages of the whole fleet at once; one agent that waits may have half of them.
        """
        own = self.target.concurrency if isinstance(self.target, Handler) else None
        if isinstance(own, int) and own > 0:
            return own
        return max(IN_THREADS, places // 2) if self._in_loop else IN_THREADS

    async def answer(
        self, message: Message, ctx: Context, time_limit: TimeLimit | None = None
    ) -> Part | AsyncGenerator[Part, None]:
        """What the handler answers to ``message``: one part, as most do, or what gives its parts one by one.

        Args:
            time_limit: held while it waits for a thread.

        Raises:
            whatever the handler raises. EscapeError: that was no ``Exception``; it must not end the fleet.
        """
        try:
            if self._in_loop:
                result = self.on_message(message, ctx)
            else:
                result = await self._in_thread(time_limit, self.on_message, message, ctx)
            if type(result) is CoroutineType or inspect.isawaitable(result):
                result = await result
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as error:
            raise escaped(error, "the handler") from error
        if type(result) is str or type(result) is Reply:
            return result
        return self._guarded(self._unfold(result, time_limit))

    async def parts(
        self, message: Message, ctx: Context, time_limit: TimeLimit | None = None
    ) -> AsyncGenerator[Part, None]:
        """What :meth:`answer` gives, part by part; raises as it does."""
        answer = await self.answer(message, ctx, time_limit)
        if not isinstance(answer, AsyncGenerator):
            yield answer
            return
        async with aclosing(answer) as parts:
            async for part in parts:
                yield part

    @staticmethod
    async def _guarded(unfolded: AsyncGenerator[Part, None]) -> AsyncGenerator[Part, None]:
        async with aclosing(unfolded) as parts:
            while True:
                try:
                    part = await anext(parts, _STOP)
                except (Exception, asyncio.CancelledError):
                    raise
                except BaseException as error:
                    raise escaped(error, "the handler") from error
                if part is _STOP:
                    return
                # Outside the guard: what is thrown in here is the caller's.
                yield cast("Part", part)

    async def _unfold(self, result: Any, time_limit: TimeLimit | None) -> AsyncGenerator[Part, None]:
        """The parts of what a handler has returned."""
        if inspect.isasyncgen(result):
            async with aclosing(result):
                async for part in result:
                    yield cast("Part", part)
        elif isinstance(result, AsyncIterator):
            async for part in result:
                yield part
        elif isinstance(result, Iterator):
            async with aclosing(self._iterate(time_limit, cast("Iterator[Part]", result))) as parts:
                async for part in parts:
                    yield part
        elif result is not None:
            yield cast("Part", result)

    async def _in_thread(self, time_limit: TimeLimit | None, function: Callable[..., Any], *args: Any) -> Any:
        return await self.threads.run(time_limit, contained, function, *args)

    async def _iterate(self, time_limit: TimeLimit | None, iterator: Iterator[Part]) -> AsyncGenerator[Part, None]:
        # One context for all its parts: what a generator sets before a yield holds after it, as it does in the loop.
        # StopIteration cannot cross a future, so a sentinel marks the end.
        run = contextvars.copy_context().run
        while (part := await self._in_thread(time_limit, run, next, iterator, _STOP)) is not _STOP:
            yield part

    async def load(self, reference: str) -> Any:
        """See :meth:`supervisor.handler.AgentContext.load`."""
        self.loaded.add(reference.partition(":")[0])
        try:
            return await self.in_thread(functools.partial(self.objects, reference))
        except HandlerError as error:
            raise ConfigurationError(str(error)) from error

    async def in_thread(self, function: Callable[[], _T]) -> _T:
        """See :meth:`supervisor.handler.AgentContext.in_thread`."""
        return await self.threads.run(None, contained, function)

    async def hook(self, name: str, *args: Any) -> None:
        """Call a hook of :class:`supervisor.handler.Handler` if the handler has it: ``on_start``, ``on_stop`` …

        Raises:
            whatever the hook raises; the caller knows what that means for the agent. EscapeError: no ``Exception``.
        """
        try:
            function = self._hook(name)
            if function is None:
                return
            result = function(*args) if _runs_in_loop(function) else await self._in_thread(None, function, *args)
            if inspect.isawaitable(result):
                await result
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as error:
            raise escaped(error, name) from error

    def wants(self, name: str) -> bool:
        """Whether the handler defines that hook itself.

        Raises:
            HandlerError: it cannot even be asked.
        """
        try:
            return self._hook(name) is not None
        except BaseException as error:
            raise HandlerError(f"{name} of {self.reference!r} cannot be had: {describe(error)}") from error

    def _hook(self, name: str) -> Callable[..., Any] | None:
        function = getattr(self.target, name, None)
        if function is None or getattr(type(self.target), name, None) is getattr(Handler, name, None):
            return None
        return cast("Callable[..., Any]", function)
