"""Runs a program for each message: the question as JSON on its standard input, the answer on its standard output.

Needs SUPERVISOR_ALLOW_COMMANDS. Settings of the agent:

* ``command``: the program and its arguments, a list; no shell sees it. Name files by their whole path: the program runs
  in an empty folder of its own, which is also its HOME and is deleted afterwards
* ``output`` (``json``): ``json``, one document; ``ndjson``, a part to a line, sent as they come; ``text``
* ``history`` (0): how many earlier messages go along
* ``cpu_seconds`` (60) and ``memory_bytes`` (1 GiB, of data): bounds of each of its processes

`_exchange` describes question and answer; an empty output says nothing. Exit status 0 is success, 64 to 78 (sysexits)
final, anything else is tried again. What it writes to standard error ends up in the log, the last of it. Its
environment is PATH, LANG, HOME and TMPDIR, nothing of the supervisor's. Whatever it starts in its process group is
killed when it ends, on a time-out, on ``/stop`` and when the supervisor stops; what has left the group does not hold
up the answer, which is what was written until the program's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import SubprocessStreamProtocol
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Final, Literal, cast

import msgspec

from supervisor.handler import AgentContext, ConfigurationError, Context, Handler, Message, Part, Permanent

from ._exchange import (
    MAX_HISTORY,
    MAX_PART_BYTES,
    CutOffError,
    InvalidAnswerError,
    StreamedParts,
    parts_of,
    question,
    text_of,
)

#: All that a row may set of it: a slip for one of these is refused by commands.
SETTINGS: Final = {
    "command": {
        "type": "array",
        "items": {"type": "string"},
        "description": "The program by its whole path, then its arguments; no shell sees them.",
    },
    "output": {"enum": ["json", "ndjson", "text"], "description": "json: what the program writes."},
    "history": {"type": "integer", "description": "0: how many earlier messages go along."},
    "cpu_seconds": {"type": "number", "description": "60: bound of each of its processes."},
    "memory_bytes": {"type": "integer", "description": "1 GiB, of data: bound of each of its processes."},
}
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_ERROR_BYTES: Final = 4000
#: How long a killed program may take to go; one in the kernel's hands (a dead network disk) goes later by itself.
KILL_SECONDS: Final = 5.0
#: How long a program that has ended is read from: all that it wrote is in the pipe by then.
LINGER_SECONDS: Final = 0.2
#: Enough for the megabyte that a pipe may hold, and an end for what a child that was left behind goes on to write.
_MAX_LATE_READS: Final = 32
_READ_BYTES: Final = 65_536
_SYSEXITS: Final = range(64, 79)
#: Sets the bounds and becomes the program. Between fork and exec in a process with threads, Python may deadlock; and
#: bounds set from outside come too late. RLIMIT_DATA, not RLIMIT_AS: V8 and Go reserve addresses they never use.
#: What is open besides the three pipes is closed: uvloop hands down every descriptor that is inheritable.
_LAUNCHER: Final = """
import os, resource, sys
cpu, memory = int(sys.argv[1]), int(sys.argv[2])
for fd in map(int, os.listdir("/dev/fd")):
    try:
        fd > 2 and os.close(fd)
    except OSError:
        pass  # the listing's own
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
try:
    os.execve(sys.argv[3], sys.argv[4:], os.environ)
except OSError as error:
    sys.exit(f"{sys.argv[3]} cannot be run: {error.strerror}")
"""


class CommandFailedError(Exception):
    """The program failed in a way that may pass."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one agent; what else there is belongs to others."""

    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    output: Literal["json", "ndjson", "text"] = "json"
    history: Annotated[int, msgspec.Meta(ge=0, le=MAX_HISTORY)] = 0
    cpu_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 60
    memory_bytes: Annotated[int, msgspec.Meta(ge=1_000_000)] = 1 << 30


def read_options(ctx: AgentContext) -> Options:
    """The settings, checked, with the whole path of the program as the first of ``command``.

    Raises:
        ConfigurationError: the deployment does not allow commands, or a setting is missing or wrong; says which.
    """
    if not ctx.permits("commands"):
        raise ConfigurationError("this deployment does not let agents run programs; set SUPERVISOR_ALLOW_COMMANDS=true")
    try:
        options = msgspec.convert(dict(ctx.own_settings), Options)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"settings of command: {error}") from None
    if any("\0" in argument for argument in options.command):
        raise ConfigurationError("settings: command: an argument holds a NUL")
    name = options.command[0]
    if "/" in name and not name.startswith("/"):
        raise ConfigurationError(f"settings: command: {name} has to be a whole path, or a name on the PATH")
    if shutil.which(name, path=PATH) is None:
        raise ConfigurationError(f"settings: command: there is no program {name} (looked in {PATH})")
    return options


class Command(Handler):
    """One agent's program."""

    #: Each message is a process, which needs more of the machine than a wait.
    concurrency = 4

    def __init__(self) -> None:
        self._options: Options | None = None

    def on_start(self, ctx: AgentContext) -> None:
        """Check the settings; looks for the program on disk, so it runs in a thread."""
        self._options = read_options(ctx)

    async def on_message(self, message: Message, ctx: Context) -> AsyncGenerator[Part, None]:
        """Run the program and pass on what it answers."""
        assert self._options is not None  # noqa: S101  on_start comes first
        asked = await question(message, ctx, self._options.history)
        folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="agent-command-")
        try:
            async with aclosing(run(self._options, asked, folder, ctx)) as parts:
                async for part in parts:
                    yield part
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


class _Program(SubprocessStreamProtocol):
    """A program under way. Once it ends, what it left running in its process group is killed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=_READ_BYTES, loop=loop)
        self.ended: asyncio.Future[None] = loop.create_future()
        self._transport_of_program: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It runs."""
        super().connection_made(transport)
        # uvloop's is one by what it does, not by its class.
        self._transport_of_program = cast("asyncio.SubprocessTransport", transport)

    def process_exited(self) -> None:
        """It ended; its pipes may still be held by what it started."""
        super().process_exited()
        self.kill()
        if not self.ended.done():
            self.ended.set_result(None)

    @property
    def status(self) -> int:
        """What it ended with; the negative number of a signal."""
        code = self._transport_of_program.get_returncode() if self._transport_of_program else None
        return -signal.SIGKILL if code is None else code

    def kill(self) -> None:
        """Kill its whole process group."""
        if self._transport_of_program is not None and not self.ended.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._transport_of_program.get_pid(), signal.SIGKILL)


@asynccontextmanager
async def _started(options: Options, folder: str) -> AsyncIterator[_Program]:
    """The program, in ``folder``; gone afterwards with all its group."""
    loop = asyncio.get_running_loop()
    program = shutil.which(options.command[0], path=PATH) or options.command[0]
    bounds = (str(options.cpu_seconds), str(options.memory_bytes))
    transport, running = await loop.subprocess_exec(
        lambda: _Program(loop),
        *(sys.executable, "-I", "-S", "-c", _LAUNCHER, *bounds, program, *options.command),
        cwd=folder,
        env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder},
        start_new_session=True,
    )
    try:
        yield running
    finally:
        running.kill()
        await asyncio.wait({running.ended}, timeout=KILL_SECONDS)
        transport.close()


async def run(options: Options, asked: bytes, folder: str, ctx: Context) -> AsyncGenerator[Part, None]:
    """The parts that the program gives, and what its end means.

    Raises:
        CommandFailedError: it failed in a way that may pass.
        Permanent: it failed for good, or gave what is no answer.
    """
    stream = StreamedParts("the program")
    async with _started(options, folder) as program:
        assert program.stdin is not None and program.stdout is not None and program.stderr is not None  # noqa: S101, PT018
        complaint = bytearray()
        beside = (
            asyncio.create_task(_ask(program.stdin, asked)),
            asyncio.create_task(_keep_tail(program.stderr, complaint)),
        )
        try:
            raw = bytearray()
            async with aclosing(_written(program)) as chunks:
                async for chunk in chunks:
                    if options.output == "ndjson":
                        for part in stream.feed(chunk):
                            yield part
                    else:
                        raw += chunk
                        if len(raw) > MAX_PART_BYTES:
                            raise InvalidAnswerError(f"the program gave more than {MAX_PART_BYTES} bytes")
            await program.ended
            await asyncio.wait(beside, timeout=LINGER_SECONDS)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if complaint:
                ctx.log.info("command_stderr", text=complaint.decode("utf-8", "replace"))
        _check_status(program.status, bytes(complaint), options)
    for part in _rest(options, bytes(raw), stream):
        yield part


async def _written(program: _Program) -> AsyncGenerator[bytes, None]:
    """What the program writes, up to its end: a child that it left behind may hold the pipe open for ever."""
    assert program.stdout is not None  # noqa: S101
    reads_left = _MAX_LATE_READS
    reading: asyncio.Task[bytes] | None = None
    try:
        while reads_left > 0:
            reading = asyncio.ensure_future(program.stdout.read(_READ_BYTES))
            await asyncio.wait((reading, program.ended), return_when=asyncio.FIRST_COMPLETED)
            if program.ended.done():
                # What it wrote is in the pipe already; nothing more comes of it where that is read.
                await asyncio.wait({reading}, timeout=LINGER_SECONDS)
                if not reading.done():
                    return
                reads_left -= 1
            if not (chunk := reading.result()):
                return
            yield chunk
    finally:
        if reading is not None and not reading.done():
            reading.cancel()
            await asyncio.wait({reading})


def _rest(options: Options, raw: bytes, stream: StreamedParts) -> list[Part]:
    """The parts that only the end of the program completes."""
    if options.output == "ndjson":
        try:
            return stream.end()
        except CutOffError as error:
            raise InvalidAnswerError(str(error)) from None
    if options.output == "text":
        text = text_of(raw)
        return [text] if text else []
    return parts_of(raw) if raw.strip() else []


async def _ask(stdin: asyncio.StreamWriter, asked: bytes) -> None:
    """Write the question; a program need not read it."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(asked)
        await stdin.drain()
    stdin.close()


async def _keep_tail(stderr: asyncio.StreamReader, tail: bytearray) -> None:
    while chunk := await stderr.read(_READ_BYTES):
        tail += chunk
        del tail[:-MAX_ERROR_BYTES]


def _check_status(status: int, complaint: bytes, options: Options) -> None:
    """Raises CommandFailedError or Permanent unless the program succeeded."""
    if status == 0:
        return
    last = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
    said = f": {last}" if last else ""
    if status == -signal.SIGXCPU:
        raise Permanent(f"the program used more than cpu_seconds ({options.cpu_seconds} s)")
    if status < 0:
        raise CommandFailedError(f"the program was killed by {signal.Signals(-status).name}{said}")
    if status in _SYSEXITS:
        raise Permanent(f"the program ended with status {status}{said}")
    raise CommandFailedError(f"the program ended with status {status}{said}")
