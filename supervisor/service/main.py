"""``supervisor run`` as a process: its signals, what it says to the service manager, and its exit code."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from supervisor.core.states import AgentState
from supervisor.service.service import CLOSE_SECONDS, Service
from supervisor.service.systemd import ServiceManager
from supervisor.settings import Settings
from supervisor.telemetry.logs import get_logger

#: Drained cleanly; cut short by a second signal, the end of the grace period or the service's own failure.
EXIT_CLEAN, EXIT_CUT_SHORT = 0, 1
#: How long closing may take once a second signal came: the process then ends within 5 s (docs/faults.md#r15).
SECOND_SIGNAL_SECONDS = 4.0


async def run_until_stopped(settings: Settings, *, reload: bool = False) -> int:
    """Run until SIGTERM or SIGINT, drain, and return the exit code; a second signal ends the drain at once.

    Args:
        reload: follow changes of the handlers' code.

    Raises:
        ConfigurationError, RegistryError: the supervisor cannot start like this.
    """
    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    manager = ServiceManager(os.environ)
    service = await Service.start(settings)
    manager.ready()
    posting = asyncio.create_task(manager.keep_posted(lambda: status_line(service)), name="service manager")
    if reload:
        service.watch_code()
    signalled: asyncio.Future[int] = asyncio.ensure_future(signals.get())
    over: list[asyncio.Future[Any]] = [signalled, service.side_tasks.failed]
    await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
    manager.stopping(settings.drain_seconds + CLOSE_SECONDS)
    if signalled.done():
        signalled = asyncio.ensure_future(signals.get())
    drained = await _drain(service, signalled)
    signalled.cancel()
    posting.cancel()
    return EXIT_CLEAN if drained and not service.side_tasks.failed.done() else EXIT_CUT_SHORT


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
