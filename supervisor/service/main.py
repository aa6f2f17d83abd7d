"""``supervisor run`` as a process: its signals, what it says to the service manager, and its exit code."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from supervisor.core.states import AgentState
from supervisor.service.service import CLOSE_SECONDS, Service
from supervisor.service.stall import StallExit
from supervisor.service.systemd import ServiceManager
from supervisor.settings import Settings
from supervisor.telemetry.logs import get_logger

#: Drained cleanly; cut short by a second signal, the end of the grace period or the service's own failure.
EXIT_CLEAN, EXIT_CUT_SHORT = 0, 1
#: How long closing may take once a second signal came: the process then ends within 5 s (docs/faults.md#r15).
SECOND_SIGNAL_SECONDS = 4.0


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
    stall = asyncio.create_task(StallExit(0 if reload else settings.stall_seconds).run(), name="stall exit")
    manager = ServiceManager(os.environ)
    service = await Service.start(settings)
    manager.ready()
    posting = asyncio.create_task(manager.keep_posted(lambda: status_line(service)), name="service manager")
    if reload:
        service.watch_code()
    signalled: asyncio.Future[int] = asyncio.ensure_future(signals.get())
    failed = await _broke_down([signalled, service.side_tasks.failed]) or service.side_tasks.failed.done()
    manager.stopping(settings.drain_seconds + CLOSE_SECONDS)
    if signalled.done():
        signalled = asyncio.ensure_future(signals.get())
    drained = await _drain(service, signalled)
    for task in (signalled, posting, stall):
        task.cancel()
    return EXIT_CLEAN if drained and not failed else EXIT_CUT_SHORT


async def _broke_down(over: list[asyncio.Future[Any]]) -> bool:
    """Wait until one of ``over`` is done; whether something else ended the wait, which is logged."""
    try:
        await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
    except BaseException as error:  # noqa: BLE001  whatever it is, the fleet is drained
        get_logger("supervisor.service").critical("main_ended", reason=type(error).__name__, exc_info=error)
        return True
    return False


async def _drain(service: Service, signalled: asyncio.Future[int]) -> bool:
    """Stop the service, at once when another signal comes; whether all that ran ended in time."""
    stopping = asyncio.ensure_future(service.stop())
    over: list[asyncio.Future[Any]] = [stopping, signalled]
    await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
    if stopping.done():
        return stopping.result()
    get_logger("supervisor.service").warning("stopping_at_once", reason="second signal")
    stopping.cancel()
    await asyncio.wait([stopping], timeout=SECOND_SIGNAL_SECONDS)
    return False


def status_line(service: Service) -> str:
    """How the fleet is, for the service manager."""
    states = service.fleet.states()
    line = f"{states.get(AgentState.ONLINE, 0)} of {sum(states.values())} agents online"
    return "; ".join([line, *service.problems()])
