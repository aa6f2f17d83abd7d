"""A supervisor on a real registry, a paper platform and virtual time: what property-based tests play with.

Everything between the socket's seam and the disk is the product: fleet, runners, connections, inbox, lanes, executor,
outbox, journal. It can be stopped, killed and started again, and its disk can be made to refuse.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord
from supervisor.core.states import MESSAGE_TRANSITIONS, REPLY_TRANSITIONS, MessageState, ReplyState, check_transition
from supervisor.handlers import HandlerLoader
from supervisor.net import Session
from supervisor.platform.transport import Transport
from supervisor.service import Service
from supervisor.service.assembly import build_shared
from supervisor.settings import Settings
from supervisor.store import LockInfo, Registry
from supervisor.store.sql.columns import MESSAGE_STATES, REPLY_STATES, decode_key
from tests.support.clock import ManualClock
from tests.support.paper_platform import PaperPlatform, PaperSession, PaperTransport
from tests.support.registries import sqlite_of
from tests.support.virtual import EPOCH, VirtualClock, VirtualLoop

_Step = tuple[Any, ...]

SECRET_FILE = "agent-secret"
#: Each change of state that was committed, noted by the database itself.
_NOTE_MOVES = """
CREATE TABLE moves (kind TEXT, id INTEGER, old INTEGER, new INTEGER, attempts INTEGER, replay INTEGER);
CREATE TRIGGER note_message AFTER INSERT ON inbox
BEGIN INSERT INTO moves VALUES ('inbox', NEW.id, NULL, NEW.state, NEW.attempts, NEW.replay); END;
CREATE TRIGGER note_message_move AFTER UPDATE ON inbox
BEGIN INSERT INTO moves VALUES ('inbox', NEW.id, OLD.state, NEW.state, NEW.attempts, NEW.replay); END;
CREATE TRIGGER note_reply AFTER INSERT ON outbox
BEGIN INSERT INTO moves VALUES ('outbox', NEW.id, NULL, NEW.state, NEW.attempts, 0); END;
CREATE TRIGGER note_reply_move AFTER UPDATE ON outbox
BEGIN INSERT INTO moves VALUES ('outbox', NEW.id, OLD.state, NEW.state, NEW.attempts, 0); END;
"""
#: What the disk may refuse, as triggers; ``all`` makes it read-only.
REFUSALS = {
    "arrivals": "BEFORE INSERT ON inbox",
    "settling": "BEFORE UPDATE ON inbox WHEN NEW.state >= 3",
    "claims": "BEFORE UPDATE ON inbox WHEN NEW.state = 2",
    "replies": "BEFORE INSERT ON outbox",
    "acks": "BEFORE UPDATE ON outbox",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A message of the inbox."""

    id: int
    key: str
    conversation: str
    state: MessageState
    attempts: int
    replay: int
    body: str
    error: str | None


@dataclass(frozen=True, slots=True)
class ReplyRow:
    """A reply of the outbox."""

    id: int
    inbox_id: int | None
    part: int
    conversation: str
    state: ReplyState
    body: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Move:
    """A change of state that was committed; ``old`` is None for a new row."""

    kind: str
    id: int
    old: int | None
    new: int
    attempts: int
    replay: int


async def make_template(folder: Path) -> Path:
    """An empty registry that a supervisor has held, and that notes its own moves; made once, copied for each script."""
    path = folder / "template.db"
    # Held as time begins: a gap begins no earlier than lives are remembered.
    url, clock = f"sqlite+aiosqlite:///{path}", ManualClock(EPOCH)
    await (await Registry.open(url, upgrade=True, lock=LockInfo(), clock=clock)).close()
    with closing(sqlite3.connect(path)) as sql:
        sql.executescript(_NOTE_MOVES)
        sql.execute("PRAGMA journal_mode=DELETE")
    return path


def player(play: Callable[[Path, Path, dict[str, Any], list[_Step]], None], folder: Path) -> Callable[..., None]:
    """Plays ``(world, script)``, each in a folder of its own that is gone afterwards.

    Args:
        play: takes the template of the registry, the folder, world and script.
    """
    template = asyncio.run(make_template(folder))

    def play_in_its_folder(world: dict[str, Any], script: list[_Step]) -> None:
        with TemporaryDirectory(dir=folder) as own:
            play(template, Path(own), world, script)

    return play_in_its_folder


class PaperFleet:
    """One supervisor after the other on one registry.

    Args:
        template: from :func:`make_template`.
        given: settings of the deployment.
    """

    def __init__(self, loop: VirtualLoop, platform: PaperPlatform, template: Path, folder: Path, **given: Any) -> None:
        self.loop = loop
        self.platform = platform
        self.folder = folder
        self.agents_dir = folder / "agents"
        self.agents_dir.mkdir(exist_ok=True)
        (folder / SECRET_FILE).write_text("s3cret-of-the-test")
        self.path = folder / "life0.db"
        self.path.write_bytes(template.read_bytes())
        self.clock = VirtualClock(loop)
        self._given = given
        self._numbers = itertools.count(1)
        self.read_only = False
        self.refused: str | None = None

    async def begin(self) -> None:
        """Start a supervisor, all but what listens and polls."""
        settings = Settings(
            registry_url=f"sqlite+aiosqlite:///{self.path}",
            api_url="https://paper.example/api",
            ws_url="wss://paper.example/chat",
            agents_dir=self.agents_dir,
            secret_dirs=(self.folder,),
            **self._given,
        )
        self.session = PaperSession(self.platform)
        loader = HandlerLoader(self.agents_dir)
        self.registry = await Registry.open(settings.registry_url, clock=self.clock)
        session, transport = cast("Session", self.session), cast("Transport", PaperTransport(self.session))
        shared = build_shared(settings, self.registry, session, transport, loader, clock=self.clock)
        self.service = Service(self.registry, shared, session)
        await self.registry.journal.maintenance.rescue()
        await self.service.fleet.reconcile()

    def record(self, agent_id: str, **fields: Any) -> AgentRecord:
        """A row of the registry."""
        return AgentRecord(id=agent_id, **{"handler": "stage", "secret": f"file:{self.folder / SECRET_FILE}", **fields})

    async def change(self, *args: Any, **kwargs: Any) -> bool:
        """Change the registry as other programs do; whether the disk let us."""
        try:
            await self.registry.apply(*args, **kwargs)
        except RegistryError:
            return False
        await self.service.fleet.reconcile()
        return True

    async def stop(self, grace_seconds: float) -> None:
        """Drain and stop."""
        await self.service.stop(grace_seconds)

    async def restart(self, grace_seconds: float) -> None:
        """Stop, and start another on the same file."""
        self.mend()
        await self.stop(grace_seconds)
        await self.begin()

    async def crash(self) -> None:
        """The process dies: what is committed stays, as it is at this moment; another one starts on that."""
        died_at = self.folder / f"life{next(self._numbers)}.db"
        with closing(sqlite3.connect(self.path)) as old, closing(sqlite3.connect(died_at)) as new:
            old.backup(new)
        self.session.alive = False
        self.platform.cut()
        # Only to free what it holds: the file that it still writes to is no longer the registry.
        await self.service.stop(0)
        self.path = died_at
        self.read_only, self.refused = False, None
        self.mend()
        await self.begin()

    def refuse(self, what: str) -> None:
        """Let the disk refuse some writes, or ``all``."""
        self.mend()
        if what == "all":
            self.read_only = True
            self._pragma("query_only=ON")
        else:
            self.refused = what
            self.sql(f"CREATE TRIGGER refuse {REFUSALS[what]} BEGIN SELECT RAISE(ABORT, 'refused'); END")

    def mend(self) -> None:
        """Let it take everything again."""
        if self.read_only:
            self._pragma("query_only=OFF")
        self.sql("DROP TRIGGER IF EXISTS refuse")
        self.read_only, self.refused = False, None

    def _pragma(self, text: str) -> None:
        # Between two transactions: each of them is one job of the loop.
        sqlite_of(self.registry).writer.connection().execute(f"PRAGMA {text}")

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Say something to the database as another program."""
        with closing(sqlite3.connect(self.path, timeout=5)) as database:
            rows = database.execute(statement).fetchall()
            database.commit()
        return rows

    def inbox(self) -> list[Row]:
        """Every message, by number."""
        rows = self.sql(
            "SELECT id, message_key, conversation_id, state, attempts, replay, json_extract(body, '$.content'), error "
            "FROM inbox ORDER BY id"
        )
        return [Row(r[0], decode_key(r[1]), r[2], MESSAGE_STATES[r[3]], r[4], r[5], r[6], r[7]) for r in rows]

    def outbox(self) -> list[ReplyRow]:
        """Every reply, by number."""
        rows = self.sql("SELECT id, inbox_id, part, conversation_id, state, body, error FROM outbox ORDER BY id")
        return [ReplyRow(r[0], r[1], r[2], r[3], REPLY_STATES[r[4]], r[5].decode(), r[6]) for r in rows]

    def moves(self) -> Iterator[Move]:
        """Every change of state that was committed, in order."""
        return (Move(*row) for row in self.sql("SELECT * FROM moves ORDER BY rowid"))

    def check_moves(self) -> None:
        """Only legal transitions were committed."""
        for move in self.moves():
            if move.old is None or move.old == move.new:
                assert move.old is not None or move.new in (0, 2), move
            elif move.kind == "inbox":
                check_transition(MESSAGE_TRANSITIONS, MESSAGE_STATES[move.old], MESSAGE_STATES[move.new])
            else:
                check_transition(REPLY_TRANSITIONS, REPLY_STATES[move.old], REPLY_STATES[move.new])

    def check_nothing_left(self) -> None:
        """After a stop: no task, no connection, no complaint of the event loop."""
        tasks = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert tasks == [], tasks
        assert self.platform.sockets == [], self.platform.sockets
        assert self.loop.complaints == [], self.loop.complaints
