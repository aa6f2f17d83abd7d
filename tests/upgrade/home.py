"""Where a version of the supervisor runs: a folder, an environment, and processes of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Collection
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from supervisor.sandbox import Sandbox

SECONDS: Final = 60.0
SECRET: Final = "secret-of-the-story"
KEY: Final = "key-of-the-story"
#: Handlers that come with a version and are tried as they are.
BUNDLED: Final = ("echo.py", "webhook.py", "_addresses.py", "_bounded.py", "_charset.py", "_exchange.py")


#: Runs commands of a version one after the other in one process, for each asked for by a line of JSON: the entry point
#: and the exit are those of the command, and a second of imports is saved each time.
_COMMANDS: Final = """
import io, json, os, sys
from supervisor import cli

def stream(data=b""):
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", write_through=True)

def text(written):
    written.seek(0)
    return written.read()

asked_on, answered_on = sys.stdin, sys.stdout
for line in asked_on:
    asked = json.loads(line)
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = ["supervisor", *asked["args"]]
    sys.stdin, sys.stdout, sys.stderr = stream(asked["stdin"].encode()), stream(), stream()
    out, err, code = sys.stdout, sys.stderr, None
    try:
        cli.main()
    except SystemExit as ended:
        code = ended.code
    sys.stdout, sys.stderr = answered_on, sys.__stderr__
    print(json.dumps({"code": code, "out": text(out), "err": text(err)}), flush=True)
"""


def agent_id(number: int) -> str:
    """The id of an agent of the story."""
    return f"{number:024x}"


@dataclass(frozen=True)
class Version:
    """The code that runs: a checkout of it, and the interpreter."""

    root: Path
    python: str = sys.executable


@dataclass
class Home:
    """A folder in which a version runs, against a platform.

    Args:
        given: what every version is given: handlers, a fleet, settings.
    """

    version: Version
    folder: Path
    given: Path
    settings: dict[str, str] = field(default_factory=dict)
    _commands: asyncio.subprocess.Process | None = field(default=None, init=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._commands is not None:
            self._commands.kill()
            await self._commands.wait()

    def __post_init__(self) -> None:
        agents = self.folder / "agents"
        shutil.copytree(self.given / "handlers", agents, ignore=shutil.ignore_patterns("__pycache__"))
        for name in BUNDLED:
            # Not every version has each part.
            if (file := self.version.root / "agents" / name).exists():
                shutil.copy(file, agents)

    @property
    def database(self) -> Path:
        """The registry file."""
        return self.folder / "supervisor.db"

    def at(self, sandbox: Sandbox) -> None:
        """Use this platform."""
        self.settings |= {"API_URL": sandbox.api_url, "WS_URL": sandbox.ws_url}

    def environment(self, **settings: str) -> dict[str, str]:
        """The environment of a process of the version."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("SUPERVISOR_", "AGENT_"))
        }
        mine = {
            "REGISTRY_URL": f"sqlite+aiosqlite:///{self.database}",
            "AGENTS_DIR": str(self.folder / "agents"),
            "ADMIN_PORT": "0",
            "LOG_FORMAT": "json",
            "BACKOFF_INITIAL_SECONDS": "0.05",
            "BACKOFF_CAP_SECONDS": "0.4",
            "PRICES": '{"large": {"input": 3, "output": 15, "cached": 0.3}}',
            "BUDGET_TOKENS": "1000000",
            "ALLOW_PRIVATE_WEBHOOKS": "true",
            **self.settings,
            **settings,
        }
        return {
            **inherited,
            "PYTHONPATH": str(self.version.root),
            "AGENT_SECRET": SECRET,
            "AGENT_KEY": KEY,
            **{f"SUPERVISOR_{name}": value for name, value in mine.items()},
        }

    async def command(self, *args: str, codes: Collection[int] = (0,), stdin: str = "", **settings: str) -> str:
        """Run a command to its end; what it wrote to standard output."""
        if self._commands is None:
            self._commands = await asyncio.create_subprocess_exec(
                *(self.version.python, "-c", _COMMANDS),
                env=self.environment(),
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                limit=1 << 24,
            )
        assert self._commands.stdin is not None
        assert self._commands.stdout is not None
        asked = {"args": args, "env": self.environment(**settings), "stdin": stdin}
        async with asyncio.timeout(SECONDS):
            self._commands.stdin.write(json.dumps(asked).encode() + b"\n")
            done = json.loads(await self._commands.stdout.readline())
        assert done["code"] in codes, (args, done)
        return str(done["out"])

    async def json(self, *args: str, codes: Collection[int] = (0,), **settings: str) -> Any:
        """Run a command that writes JSON."""
        return json.loads(await self.command(*args, "--json", codes=codes, **settings))

    async def python(self, code: str) -> Any:
        """Run Python with the version on its path; what it printed, as JSON."""
        process = await asyncio.create_subprocess_exec(
            *(self.version.python, "-c", code), env=self.environment(), cwd=self.folder, stdout=subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(out)

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """What is committed in the registry file."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=SECONDS)) as database:
            return database.execute(query).fetchall()

    def states(self, number: int) -> list[int]:
        """The states of an agent's messages, in order."""
        return [
            state
            for (state,) in self.sql(
                "SELECT state FROM inbox JOIN agent_keys ON key = agent_key "
                f"WHERE agent_id = '{agent_id(number)}' ORDER BY id"
            )
        ]


@dataclass
class Run:
    """``supervisor run`` in a process of its own."""

    home: Home
    process: asyncio.subprocess.Process
    url: str

    @classmethod
    async def start(cls, home: Home, **settings: str) -> Run:
        """Start it; returns once its admin server answers."""
        path = home.folder / "log"
        with path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(home.version.python, "-m", "supervisor", "run"),
                env=home.environment(**settings),
                cwd=home.folder,
                stdout=log,
                stderr=log,
            )

        def started() -> list[dict[str, Any]]:
            assert process.returncode is None, path.read_text()
            lines = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
            return [line for line in lines if line["event"] == "started"]

        await until(started, "the supervisor to start")
        return cls(home, process, str(started()[0]["admin"]))

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Ask the admin server; the status and the text."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}{path}", headers=headers) as answer:
            return answer.status, await answer.text()

    async def get_json(self, path: str) -> Any:
        """Ask the admin server for JSON."""
        _, text = await self.get(path)
        return json.loads(text)

    async def online(self, count: int) -> None:
        """Wait until so many agents are online."""

        async def reached() -> bool:
            return bool((await self.get_json("/api/v1/status"))["agents"].get("online", 0) >= count)

        try:
            await until(reached, f"{count} agents to be online")
        except AssertionError:
            agents = await self.get_json("/api/v1/agents")
            away = [(one["id"], one["state"], one["reason"]) for one in agents if one["state"] != "online"]
            raise AssertionError(f"not online: {away}") from None

    async def end(self, number: signal.Signals) -> int:
        """End it with a signal; its exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(SECONDS):
            return await self.process.wait()


async def until(condition: Callable[[], object | Awaitable[object]], what: str) -> None:
    """Wait until ``condition`` holds."""
    deadline = asyncio.get_running_loop().time() + SECONDS
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return
        assert asyncio.get_running_loop().time() < deadline, f"waited {SECONDS:.0f} s for {what}"
        await asyncio.sleep(0.05)


def checkpointed(database: Path) -> bytes:
    """The registry as one file, its write-ahead log worked in; the processes that had it open are dead."""
    with closing(sqlite3.connect(database)) as sql:
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return database.read_bytes()
