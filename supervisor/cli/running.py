"""``supervisor run`` and ``supervisor sandbox``: the long-lived commands."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import typer

T = TypeVar("T")

#: How long tasks that are left may take to end once all is closed; a second signal ends the process within 5 s (R15).
LEFT_SECONDS = 0.5
#: How long threads that are left may take, with the interpreter's own end.
THREADS_SECONDS = 1.0
#: How many objects there are more than at the last collection before the collector looks for cycles. Agents that come
#: online and messages under way are hundreds of objects each and none of them a cycle: with Python's own figure looking
#: at them is a tenth of all work.
COLLECT_AFTER: Final = 10_000
#: How long the interpreter may give none of its threads a turn then, before the process is ended from below.
STUCK_SECONDS = 60.0

Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
Profile = Annotated[
    Literal["v1", "v2", "v3"], typer.Option(help="The platform's generation to play; v3 was read, not run.")
]


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end on uvloop, or on asyncio's own loop where that is missing; nothing else ends it."""
    from supervisor.service import loop  # noqa: PLC0415  import what is slow only when it runs

    try:
        import uvloop  # noqa: PLC0415  there is none for some platforms
    except ImportError:
        return loop.run_loop(main)
    return loop.run_loop(main, uvloop.new_event_loop)


def run(
    agents_dir: Annotated[
        Path | None,
        typer.Option(help="The folder of handlers; else ./agents, else the bundled ones.", show_default=False),
    ] = None,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload", help="Reload agents when their code changes, and log tracebacks; for development only."
        ),
    ] = False,
) -> int:
    """Run the fleet until SIGTERM or Ctrl-C, then drain; a second signal stops at once.

    Settings come from SUPERVISOR_* variables, .env, /run/secrets and systemd's credentials: `supervisor config` shows
    them.

    Example: `supervisor run --agents-dir ./agents`
    """
    gc.set_threshold(COLLECT_AFTER)
    from supervisor.service import run_until_stopped  # noqa: PLC0415
    from supervisor.settings import load_settings  # noqa: PLC0415
    from supervisor.settings.environment import env_file_notes  # noqa: PLC0415
    from supervisor.store.opening import dialect_of  # noqa: PLC0415
    from supervisor.telemetry import logs, standard_streams  # noqa: PLC0415  import what is slow only when it runs

    given: dict[str, Any] = {} if agents_dir is None else {"agents_dir": agents_dir}
    if reload:
        given["log_tracebacks"] = True
    standard_streams.divert()
    settings = load_settings(**given)
    stream = sys.stdout if settings.log_format == "json" else sys.stderr
    logs.configure(settings.log_level, settings.log_format, stream)
    for note in env_file_notes(settings.secret_env_prefixes):
        logs.get_logger("supervisor.settings").warning("env_file_reference", reason=note)
    # What it imports would hold the event loop up: signals, and the watchdog that looks at it.
    dialect_of(settings.registry_url)
    return run_loop(_leaving_nothing(run_until_stopped(settings, reload=reload)))


async def _leaving_nothing(main: Coroutine[Any, Any, int]) -> int:
    """Await ``main``, then end the process with its exit code, whatever still runs.

    The loop's own end would wait for ever for a handler that swallows its cancellation, the interpreter's for a thread
    that it began (docs/faults.md#r26).
    """
    from supervisor.core.tasks import cancel_all  # noqa: PLC0415
    from supervisor.telemetry import logs  # noqa: PLC0415

    try:
        code = await main
    except BaseException:
        # Whoever called says why first.
        _end_within(STUCK_SECONDS, 1)
        raise
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if not await cancel_all(left, LEFT_SECONDS):
        logs.flush()
        os._exit(code)
    _end_within(THREADS_SECONDS, code)
    return code


def _end_within(seconds: float, code: int) -> None:
    """End the process with ``code`` if it has not ended by then: for a thread that is no daemon, or an executor's."""
    from supervisor.telemetry import logs, standard_streams  # noqa: PLC0415

    def end() -> None:
        time.sleep(seconds)
        main = threading.main_thread()
        if left := sorted(one.name for one in threading.enumerate() if not one.daemon and one is not main):
            logs.get_logger("supervisor.service").warning("ended_beside_threads", threads=left)
        logs.flush()
        os._exit(code)

    threading.Thread(target=end, name="end", daemon=True).start()
    # Where something holds the interpreter's lock for good, no thread of Python's gets that far.
    faulthandler.dump_traceback_later(seconds + STUCK_SECONDS, file=standard_streams.patient(2), exit=True)


def sandbox(
    port: Port = 8641,
    host: Annotated[str, typer.Option(help="Anything but loopback opens it to the network.")] = "127.0.0.1",
    profile: Profile = "v1",
    stage: Annotated[
        Literal["i", "ii", "iii"], typer.Option(help="v3: how far it has got; see docs/protocol.md.")
    ] = "iii",
    forget_after: Annotated[
        float, typer.Option(min=0.1, help="v2 and v3: seconds after its connect until an agent is not found any more.")
    ] = 3600.0,
    role: Annotated[
        Literal["viewer", "editor"], typer.Option(help="The role of agents that register themselves.")
    ] = "editor",
    people: Annotated[
        int, typer.Option(min=0, max=1000, help="So many people talk to the agents that are online.")
    ] = 0,
) -> None:
    """Run a local AIWM platform with a chat page, for development and tests, until Ctrl-C.

    An agent id that it does not know is registered with the secret that comes first. It goes wrong when it is asked to:
    `curl 127.0.0.1:8641/sandbox/faults` lists how, `curl -X PUT 127.0.0.1:8641/sandbox/faults/hang` begins one,
    `curl -X DELETE 127.0.0.1:8641/sandbox/faults` ends all.

    Example: `supervisor sandbox --profile v2`, or `supervisor sandbox --people 5` for traffic to look at
    """
    from supervisor.sandbox import SandboxConfig  # noqa: PLC0415  import what is slow only when it runs
    from supervisor.telemetry import standard_streams  # noqa: PLC0415

    standard_streams.divert()
    config = SandboxConfig(
        profile=profile,
        stage=stage,
        host=host,
        port=port,
        forget_after_seconds=forget_after,
        open_registration=True,
        registration_role=role,
    )
    run_loop(_sandbox(config, people))


async def _sandbox(config: Any, people: int) -> None:
    from supervisor.cli.naming import keep_named  # noqa: PLC0415
    from supervisor.core.errors import ConfigurationError  # noqa: PLC0415
    from supervisor.sandbox import Sandbox  # noqa: PLC0415
    from supervisor.sandbox.people import keep_talking  # noqa: PLC0415

    stopped = stop_signals()
    box = Sandbox(config)
    try:
        await box.start()
    except OSError as error:
        raise ConfigurationError(
            f"The sandbox cannot listen on {config.host}:{config.port}: {error.strerror or error}; give another --port"
        ) from None
    async with box:
        print(
            f"Sandbox ({config.profile}) is up; Ctrl-C ends it.\n\n"
            f"  Chat page  {box.base_url}/\n"
            f"  API_URL    {box.api_url}\n"
            f"  WS_URL     {box.ws_url}\n\n"
            f"Point a supervisor at it, in another terminal:\n\n"
            f"  export SUPERVISOR_API_URL={box.api_url} SUPERVISOR_WS_URL={box.ws_url} AGENT_SECRET=any\n"
            f"  supervisor agents add 650000000000000000000001 --handler echo --secret-env AGENT_SECRET\n"
            f"  supervisor run\n\n"
            f"It goes wrong on demand (curl -X PUT …/NAME, curl -X DELETE):\n\n"
            f"  curl {box.base_url}/sandbox/faults",
            flush=True,
        )
        naming = asyncio.create_task(keep_named(box))
        talking = asyncio.ensure_future(keep_talking(box, people))
        waiting = asyncio.ensure_future(stopped.wait())
        # The talk has no end of its own, but for a defect, which is to be seen; without people it is over at once.
        await asyncio.wait([talking, waiting] if people else [waiting], return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            await talking
        talking.cancel()
        naming.cancel()


def stop_signals() -> asyncio.Event:
    """An event that SIGTERM and Ctrl-C set, instead of what they do otherwise."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped
