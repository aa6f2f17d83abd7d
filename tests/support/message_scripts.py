"""Scripts of what people say and what goes wrong, played on a whole supervisor over a paper platform in virtual time.

After a script all faults are taken away, everything settles, and journal and platform are compared.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from supervisor.core.errors import RegistryError
from supervisor.core.records import JournaledMessage
from supervisor.core.states import FINAL_MESSAGE_STATES, FINAL_REPLY_STATES, MessageState, ReplyState
from supervisor.messages.notices import APOLOGY, APOLOGY_TIMEOUT
from supervisor.messages.reply_sender import RETRY_SECONDS
from tests.support.paper_fleet import PaperFleet, ReplyRow, Row
from tests.support.paper_platform import HOME, PaperPlatform
from tests.support.stage import FAILURES, FINAL_FAILURES, SINGLE, STREAMING, Stage, open_stage
from tests.support.virtual import VirtualLoop, run

AGENT = "a" * 24
CONVERSATIONS = (HOME, "c" * 23 + "1", "c" * 23 + "2")
TIMEOUT_SECONDS = 30.0
MAX_ATTEMPTS = 3
INBOX_LIMIT = 8

#: A verb of :class:`Play` and what it takes.
Step = tuple[Any, ...]
#: How a script's world is: see :func:`play_script`.
World = dict[str, Any]


@dataclass
class Said:
    """A message that a person said.

    Attributes:
        certain: it came in and nothing excuses its not being in the journal.
    """

    text: str
    payload: dict[str, Any]
    certain: bool = False
    times: int = 0


@dataclass
class Play:
    """One script on its way."""

    loop: VirtualLoop
    fleet: PaperFleet
    platform: PaperPlatform
    stage: Stage
    said: list[Said] = field(default_factory=list)
    replayed: set[str] = field(default_factory=set)
    refusals: set[str] = field(default_factory=set)

    async def step(self, step: Step) -> None:
        await getattr(self, f"do_{step[0]}")(*step[1:])

    async def do_say(self, where: int, plan: list[str], with_id: bool) -> None:
        number = len(self.said)
        text = f"m{number}"
        self.stage.plans[text] = plan
        payload = {"conversationId": CONVERSATIONS[where], "role": "user", "content": text}
        if with_id:
            payload["_id"] = f"{number + 0xD00000:024x}"
        said = Said(text, payload)
        self.said.append(said)
        self._deliver(said)

    async def do_again(self, which: int) -> None:
        """The platform sends a message that has an id once more."""
        known = [said for said in self.said if "_id" in said.payload]
        if known:
            self._deliver(known[which % len(known)])

    def _deliver(self, said: Said) -> None:
        inbox = self.inbox()
        full = inbox is not None and inbox.waiting >= INBOX_LIMIT
        if self.platform.say(AGENT, said.payload):
            said.times += 1
            # Past the bound, or where the disk refuses it for good, it is refused aloud.
            said.certain |= not full and self.fleet.refused != "arrivals"

    def inbox(self) -> Any:
        return self.fleet.service.fleet.runner(AGENT).agent.pipeline.inbox

    async def do_turns(self, number: int) -> None:
        await self.loop.turns(number)

    async def do_wait(self, seconds: float) -> None:
        await self.loop.advance(seconds)

    async def do_cut(self, reason: str) -> None:
        self.platform.cut(reason)

    async def do_platform(self, fate: str) -> None:
        self.platform.standing_connect = fate

    async def do_sends(self, fates: list[str]) -> None:
        self.platform.sends.extend(fates)

    async def do_disk(self, what: str) -> None:
        if what == "mend":
            self.fleet.mend()
            return
        self.fleet.refuse(what)
        self.refusals.add(what)
        if what == "arrivals":
            self._excuse()

    def _excuse(self) -> None:
        """Whatever is not in the journal yet may never get there."""
        committed = {row.body for row in self.fleet.inbox()}
        for said in self.said:
            said.certain &= said.text in committed

    async def do_crash(self) -> None:
        self._excuse()
        self.stage.fall()
        await self.loop.complete(self.fleet.crash())

    async def do_restart(self, grace: float) -> None:
        await self.loop.complete(self.fleet.restart(grace))

    async def do_pause(self) -> None:
        await self._change(paused=True)

    async def do_resume(self) -> None:
        await self._change(paused=False)

    async def do_concurrency(self, number: int) -> None:
        await self._change(concurrency=number)

    async def do_reload(self) -> None:
        self.fleet.service.fleet.runner(AGENT).reload()

    async def _change(self, *, paused: bool | None = None, concurrency: int | None = None) -> None:
        [now] = await self.loop.complete(self.fleet.registry.agents())
        values = dict(now.settings) | ({} if concurrency is None else {"concurrency": concurrency})
        record = self.fleet.record(AGENT, settings=values, paused=now.paused if paused is None else paused)
        await self.loop.complete(self.fleet.change(change=[record]))

    async def do_replay(self, which: int) -> None:
        """A person replays a dead letter; the supervisor notices."""
        row = await self._dead_letter(which)
        if row is not None and await self.loop.complete(
            self._maintained(self.fleet.registry.journal.dead_letters.replay(row))
        ):
            self.replayed.add(row.message.content)
            await self.loop.complete(self.fleet.service.fleet.journal.take_up_replays())

    async def do_discard(self, which: int) -> None:
        """A person discards a dead letter."""
        row = await self._dead_letter(which)
        if row is not None and self.fleet.refused != "settling" and not self.fleet.read_only:
            await self.loop.complete(self.fleet.registry.journal.settle(row, MessageState.CANCELLED))

    async def _dead_letter(self, which: int) -> JournaledMessage | None:
        reading = self.fleet.registry.journal.messages(states=[MessageState.DEAD])
        dead = await self.loop.complete(reading)
        return dead[which % len(dead)] if dead else None

    async def _maintained(self, work: Any) -> bool:
        """Maintenance that the disk may refuse in the end."""
        try:
            return bool(await work)
        except RegistryError:
            return False

    async def heal(self) -> None:
        """Take every fault away and wait until nothing is left to do."""
        self.platform.heal()
        self.fleet.mend()
        await self.do_resume()
        self.fleet.service.fleet.runner(AGENT).retry_now()
        longest = sum(RETRY_SECONDS) + 60 + (TIMEOUT_SECONDS + 70) * MAX_ATTEMPTS * (1 + len(self.said))
        for _ in range(20):
            await self.loop.advance(longest / 20)
            if not self._unsettled():
                break
        assert not self._unsettled(), self._unsettled()

    def _unsettled(self) -> list[Row | ReplyRow]:
        rows: list[Row | ReplyRow] = [*self.fleet.inbox(), *self.fleet.outbox()]
        return [row for row in rows if not _is_final(row)]


def _is_final(row: Row | ReplyRow) -> bool:
    return row.state in (FINAL_MESSAGE_STATES if isinstance(row, Row) else FINAL_REPLY_STATES)


def check_nothing_lost(play: Play) -> None:
    """What came in is in the journal, once where it has an id."""
    found = Counter(row.body for row in play.fleet.inbox())
    for said in play.said:
        assert not said.certain or found[said.text] >= 1, f"{said} is lost"
        if "_id" in said.payload:
            assert found[said.text] <= 1, f"{said} is there {found[said.text]} times"


def check_ends(play: Play) -> None:
    """Each message ended as its handler did, and each reply as the platform answered."""
    replies: dict[int | None, list[ReplyRow]] = {}
    for reply in play.fleet.outbox():
        replies.setdefault(reply.inbox_id, []).append(reply)
    for row in play.fleet.inbox():
        made = replies.get(row.id, [])
        ids = [reply.body.partition('"_id":"')[2][:24] for reply in made]
        assert len(ids) == len(set(ids)), f"a reply to {row} was made twice: {made}"
        check_end(play, row, made)


def check_end(play: Play, row: Row, made: list[ReplyRow]) -> None:
    played = play.stage.played[row.body]
    good = [act for (text, act), count in play.stage.ended.items() if text == row.body and count]
    if row.state is MessageState.DONE:
        assert [act for act in good if act not in FAILURES], f"{row} is done, but {played} were played"
        # What an interrupted attempt had sent already is not made again: parts are told by their numbers.
        begun = {"parts", "part_then_fail"} & set(played[:-1])
        whole = any(f"{row.body} end" in reply.body for reply in made)
        assert whole or begun or "silence" in good or row.body in play.replayed, (row, made)
    if row.state is MessageState.DEAD:
        # A part that the database refuses is the handler's failure, and the time that it waits for the disk is its own.
        excused = row.attempts >= MAX_ATTEMPTS or bool(play.refusals & {"replies", "all"})
        assert FINAL_FAILURES & set(played) or excused, f"{row} is dead, but {played} were played"
        apologies = [r for r in made if APOLOGY in r.body or APOLOGY_TIMEOUT in r.body]
        assert apologies, (row, made)
        if row.body not in play.replayed:
            assert len(apologies) == 1, (row, made)


def check_delivery(play: Play, *, at_most_once: bool) -> None:
    """At least once, and exactly once on a platform that keeps ids; or at most once."""
    platform = play.platform
    stored = Counter(one.id for one in platform.stored)
    for reply in play.fleet.outbox():
        reply_id = reply.body.partition('"_id":"')[2][:24]
        fates = platform.fates[reply_id]
        if reply.state is ReplyState.ACKED and platform.keeps_ids:
            assert stored[reply_id] == 1, (reply, fates)
        if reply.state is ReplyState.ACKED:
            assert set(fates) & {"ok", "slow", "lost_ack", "lost_all", "cut_after"}, (reply, fates)
        if reply.state is ReplyState.UNKNOWN:
            assert at_most_once, (reply, fates)
        if reply.state is ReplyState.DEAD:
            assert "forbid" in fates or len(fates) > len(RETRY_SECONDS), (reply, fates)
        if at_most_once:
            surely_refused = {"refuse", "forbid", "no_conversation"}
            assert sum(fate not in surely_refused for fate in fates) <= 1, (reply, fates)


def check_order(play: Play) -> None:
    """Messages keep the order in which they came, and so do the answers."""
    rows = play.fleet.inbox()
    number = {row.body: row.id for row in rows}
    for conversation in CONVERSATIONS:
        came = [s.text for s in play.said if s.payload["conversationId"] == conversation and s.times == 1 and s.certain]
        assert came == sorted(came, key=lambda text: number.get(text, 0)), came
        answers = [one.content.split(" ") for one in play.platform.stored if one.conversation == conversation]
        told = list(dict.fromkeys((a[0], a[1]) for a in answers if a[0] in number and a[0] not in play.replayed))
        assert [number[t] for t, _ in told] == sorted(number[t] for t, _ in told), told


def check_attempts(play: Play) -> None:
    """No message was begun more often than it may be; a drain gives its attempt back."""
    begun: Counter[tuple[int, int]] = Counter()
    for move in play.fleet.moves():
        if move.kind == "inbox" and move.new == 2:
            assert move.attempts >= 1, move
            begun[move.id, move.replay] = move.attempts
    # The claim after the last attempt only buries.
    assert all(attempts <= MAX_ATTEMPTS + 1 for attempts in begun.values()), begun


async def check_counts(play: Play) -> None:
    """What is shown agrees with the journal once it was corrected from it."""
    service = play.fleet.service
    await play.loop.complete(service.fleet.journal.correct_counts())
    inbox = play.inbox()
    dead = sum(row.state is MessageState.DEAD for row in play.fleet.inbox())
    assert (inbox.waiting, inbox.dead) == (0, dead)
    pipeline = service.fleet.runner(AGENT).agent.pipeline
    assert (pipeline.lanes.running, service.shared.dispatcher.running, pipeline.outbox.waiting) == (0, 0, 0)
    assert pipeline.lanes.in_memory == 0


async def play_script(
    loop: VirtualLoop, template: Path, folder: Path, world: dict[str, Any], script: list[Step]
) -> None:
    """Play one script and judge what came of it."""
    loop.job_turns = world["job_turns"]
    platform = PaperPlatform(keeps_ids=world["keeps_ids"])
    fleet = PaperFleet(
        loop,
        platform,
        template,
        folder,
        timeout_seconds=TIMEOUT_SECONDS,
        max_attempts=MAX_ATTEMPTS,
        inbox_limit=INBOX_LIMIT,
        delivery="at_most_once" if world["at_most_once"] else "at_least_once",
        drain_seconds=10,
        ack_seconds=5,
    )
    (fleet.agents_dir / "stage.py").write_text(STREAMING if world["streams"] else SINGLE)
    stage = open_stage()
    await loop.complete(fleet.begin())
    play = Play(loop, fleet, platform, stage)
    with structlog.testing.capture_logs() as log:
        try:
            await loop.complete(fleet.change(add=[fleet.record(AGENT)]))
            await loop.advance(1)
            for step in script:
                await play.step(step)
                fleet.check_moves()
            await play.heal()
            await check_counts(play)
        finally:
            await loop.complete(fleet.stop(5))
        # A handler that swallowed its cancellation has left the stage by then.
        await loop.advance(60)
    fleet.check_moves()
    check_nothing_lost(play)
    check_ends(play)
    check_delivery(play, at_most_once=world["at_most_once"])
    check_order(play)
    check_attempts(play)
    assert stage.clashes == [], stage.clashes
    assert platform.broken == [], platform.broken
    fleet.check_nothing_left()
    defects = {"work_failed", "agent_crashed", "chore_failed", "side_task_died"}
    told = [entry for entry in log if entry["event"] in defects]
    assert told == [], told


def play(template: Path, folder: Path, world: World, script: list[Step]) -> None:
    """Play one script on an event loop of its own; the same script always goes the same way."""
    random.seed(0)
    run(lambda loop: play_script(loop, template, folder, world, script))
