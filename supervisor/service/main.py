"""``supervisor run`` as a process: its signals, what it says to the service manager, and its exit code."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from functools import partial
from typing import Any, Final

from supervisor.core.errors import SupervisorError
from supervisor.core.states import AgentState
from supervisor.core.tasks import cancel_all, kept
from supervisor.service.service import CLOSE_SECONDS, Service
from supervisor.service.stall import StallExit
from supervisor.service.systemd import ServiceManager
from supervisor.settings import Settings
from supervisor.telemetry.failures import describe
from supervisor.telemetry.logs import get_logger

#: Drained cleanly; cut short by a second signal, the end of the grace period or the service's own failure; its agents
#: are other processes' now.
EXIT_CLEAN, EXIT_CUT_SHORT, EXIT_FENCED = 0, 1, 3
#: How long closing may take once a second signal came: the process then ends within 5 s (docs/faults.md#r15).
SECOND_SIGNAL_SECONDS = 3.0
#: How long past all that it may take a drain is waited for.
LAST_SECONDS = 5.0
_log: Final = get_logger("supervisor.service")


async def run_until_stopped(settings: Settings, *, reload: bool = False) -> int:
    """Run until SIGTERM, SIGINT or SIGHUP, drain, and return the exit code; a second signal ends the drain at once.

    Args:
        reload: follow changes of the handlers' code.

    Raises:
        ConfigurationError, RegistryError: the supervisor cannot start like this.
    """
    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # nohup asks for a hang-up to be ignored.
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, signals.put_nowait, number)
    # A developer's breakpoint holds the loop longer than any bound.
    stall = StallExit(0 if reload else settings.stall_seconds)
    watching = asyncio.create_task(kept(stall.run), name="stall exit")
    try:
        started = await _start(settings, signals)
        if isinstance(started, int):
            return started
        started.watched_by(stall)
        return await _run(started, signals, reload=reload)
    finally:
        watching.cancel()


async def _start(settings: Settings, signals: asyncio.Queue[int]) -> Service | int:
    """Start the service; an exit code where something ended the start, and nothing of it is left.

    Raises:
        ConfigurationError, RegistryError: it cannot start like this.
    """
    starting = asyncio.ensure_future(Service.start(settings))
    signalled = asyncio.ensure_future(kept(signals.get))
    try:
        await kept(lambda: asyncio.wait([starting, signalled], return_when=asyncio.FIRST_COMPLETED))
        if starting.done():
            return starting.result()
        _log.info("stopping_at_once", reason="a signal came during the start")
        code = EXIT_CLEAN
    except SupervisorError:
        raise
    except BaseException as error:
        _log.critical("main_ended", reason=describe(error), exc_info=error)
        if isinstance(error, Exception):
            raise
        code = EXIT_CUT_SHORT
    finally:
        if signalled.done() and not signalled.cancelled():
            # Who drains has not heard of it yet.
            signals.put_nowait(signalled.result())
        signalled.cancel()
    await cancel_all([starting], SECOND_SIGNAL_SECONDS)
    if starting.done() and not starting.cancelled() and starting.exception() is None:
        # It had started in that moment.
        await starting.result().stop(0.0)
    return code


async def _run(service: Service, signals: asyncio.Queue[int], *, reload: bool) -> int:
    """Run a service that has started until it is to end; drain it, and return the exit code."""
    manager = ServiceManager(os.environ)
    # The code that is loaded stays: the collector need not go through it while the event loop stands.
    gc.freeze()
    manager.ready()
    posting = asyncio.create_task(
        kept(partial(manager.keep_posted, lambda: status_line(service))), name="service manager"
    )
    if reload:
        service.watch_code()
    signalled: asyncio.Future[int] = asyncio.ensure_future(kept(signals.get))
    if reason := await _broke_down(signalled, service):
        service.fail(reason)
    manager.stopping(service.settings.drain_seconds + CLOSE_SECONDS)
    if signalled.done():
        signalled = asyncio.ensure_future(kept(signals.get))
    drained = await _drain(service, signalled)
    for task in (signalled, posting):
        task.cancel()
    if service.registry.taken_over:
        return EXIT_FENCED
    return EXIT_CLEAN if drained and not reason else EXIT_CUT_SHORT


async def _broke_down(signalled: asyncio.Future[int], service: Service) -> str:
    """Wait for a signal; what else ended the wait, which is logged, or nothing."""
    failed = service.side_tasks.failed
    over: list[asyncio.Future[Any]] = [signalled, failed]
    try:
        await kept(lambda: asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED))
    except BaseException as error:  # noqa: BLE001  whatever it is, the fleet is drained
        _log.critical("main_ended", reason=describe(error), exc_info=error)
        return f"main_ended: {describe(error)}"
    if not failed.done():
        return ""
    if not service.registry.taken_over:
        # That has been said.
        _log.critical("main_ended", reason=failed.result())
    return f"main_ended: {failed.result()}"


async def _drain(service: Service, signalled: asyncio.Future[int]) -> bool:
    """Stop the service, at once when another signal comes; whether all that ran ended in time, and nothing failed."""
    stopping = asyncio.ensure_future(service.stop())
    await _ended(stopping, signalled, service)
    if not stopping.done():
        stopping.cancel()
        await asyncio.wait([stopping], timeout=SECOND_SIGNAL_SECONDS)
        if not stopping.done():
            service.fail(f"cut short: what was left did not close within {SECOND_SIGNAL_SECONDS:g} s")
        return False
    if (failure := asyncio.CancelledError() if stopping.cancelled() else stopping.exception()) is not None:
        _log.critical("main_ended", reason=describe(failure), exc_info=failure)
        service.fail(f"main_ended: {describe(failure)} during the drain")
        return False
    return stopping.result() and not service.dead()


async def _ended(stopping: asyncio.Future[bool], signalled: asyncio.Future[int], service: Service) -> None:
    """Return once the service has stopped, or something cuts that short: a signal, or that no more time is left."""
    now = asyncio.get_running_loop().time
    seconds = service.settings.drain_seconds + CLOSE_SECONDS + LAST_SECONDS
    until = now() + seconds
    over: list[asyncio.Future[Any]] = [stopping, signalled]
    while not stopping.done():
        if signalled.done():
            _log.warning("stopping_at_once", reason="second signal")
            return
        if now() >= until:
            reason = f"the drain did not end within {seconds:g} s"
            _log.critical("stopping_at_once", reason=reason)
            service.fail(f"cut short: {reason}")
            return
        try:
            await kept(lambda: asyncio.wait(over, timeout=until - now(), return_when=asyncio.FIRST_COMPLETED))
        except BaseException as error:  # noqa: BLE001  whatever it is, the end goes on
            _log.critical("main_ended", reason=describe(error), exc_info=error)
            service.fail(f"main_ended: {describe(error)} during the drain")


def status_line(service: Service) -> str:
    """How the fleet is, for the service manager."""
    states = service.fleet.states()
    line = f"{states.get(AgentState.ONLINE, 0)} of {sum(states.values())} agents online"
    return "; ".join([line, *service.problems()])
