"""One agent's messages, from the socket that brings them to the acknowledged reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from supervisor.core.command_words import command_in
from supervisor.core.records import JournaledMessage
from supervisor.core.states import FINAL_MESSAGE_STATES, MessageState
from supervisor.core.status import InboxCounts, Reading
from supervisor.core.tasks import first_of
from supervisor.handler import Attachment
from supervisor.messages.agent_history import AgentHistory
from supervisor.messages.answers import Answers
from supervisor.messages.backfill import Backfill, Reach
from supervisor.messages.catch_up import CatchUp, Register
from supervisor.messages.commands import AgentActions, Commands
from supervisor.messages.delivery_check import DeliveryCheck
from supervisor.messages.dispatcher import Dispatcher
from supervisor.messages.duties import Duties
from supervisor.messages.executor import MessageExecutor
from supervisor.messages.gap import Gap
from supervisor.messages.inbox import Inbox, Intake
from supervisor.messages.lanes import Ended, Lanes, Work, tasked
from supervisor.messages.notices import FULL_NOTICE
from supervisor.messages.outbox import Outbox
from supervisor.messages.participation import Participation
from supervisor.messages.profile import Profile
from supervisor.messages.recall import Recall
from supervisor.messages.reply_sender import Terms
from supervisor.messages.roster import Listing, Roster
from supervisor.messages.standby import Standby
from supervisor.platform.connection import Connection
from supervisor.platform.conversations import PlatformConversations
from supervisor.platform.endpoint import host_of
from supervisor.platform.files import PlatformFiles
from supervisor.platform.history import PlatformHistory
from supervisor.platform.hosts.deliveries import Deliveries
from supervisor.protocol.text import clean_text
from supervisor.settings import EffectiveSettings


@dataclass(frozen=True, slots=True)
class PlatformApis:
    """What the platform's HTTP API has for an agent's messages."""

    history: PlatformHistory
    conversations: PlatformConversations
    files: PlatformFiles


class Pipeline:
    """The parts that one agent's messages go through, and the way between them.

    Nothing runs before :meth:`restore` and :meth:`resume`; without a connection messages are answered all the same, and
    the replies wait.

    Args:
        actions: what the commands of the agent's chats may ask for.
        on_event: told every event of a socket that is no message: its name and payload.

    Attributes:
        inbox, lanes, outbox: the parts that hold messages, to be counted, corrected and replayed into.
        answers: those that are being made, to be shown and stopped.
        duties: what the platform asks of the agent beside its conversations.
        roster: the agent's conversations as the platform lists them.
        standby: what is heard while another process answers for the agent.
    """

    # What is taken in, and the settings that it was made of.
    _made_intake: tuple[EffectiveSettings, Intake] | None = None

    def __init__(
        self,
        profile: Profile,
        dispatcher: Dispatcher,
        platform: PlatformApis,
        deliveries: Deliveries,
        actions: AgentActions,
        on_event: Callable[[str, object], None],
    ) -> None:
        self._profile = profile
        self._scope = scope = profile.scope
        self._on_event = on_event
        self._restored = self._restored_once = False
        own_history = AgentHistory(scope, platform.history, profile.access)
        ack_seconds = profile.deployment.ack_seconds
        self.lanes = self._make_lanes(dispatcher)
        self.inbox = Inbox(
            scope,
            self.lanes,
            dispatcher.memory,
            handler=lambda: profile.record.handler,
            intake=self._intake,
            on_full=self._send_full_notice,
            on_command=self._start_command,
        )
        self.outbox = Outbox(scope, _terms(profile, self.inbox, deliveries, own_history))
        self._participation = self._participate(own_history, platform.files)
        self._executor = MessageExecutor(profile, self._participation, self.outbox)
        self.answers = Answers(scope, self.lanes, self._executor)
        self._commands = Commands(
            profile, self.inbox, self.outbox, actions, stop_answer=self.answers.stop, on_settled=self._settled
        )
        self.duties = Duties(profile, self.inbox, self.outbox, self._participation, actions, self.answers.stop)
        reach = Reach.of(profile.deployment)
        self._gap = Gap(
            scope,
            lambda: profile.record.created_at,
            reach.seconds,
            platform_now=lambda: profile.grant.platform_now(scope.clock) if profile.grant else None,
        )
        backfill = Backfill(
            AgentHistory(scope, platform.history, profile.access, at_leisure=True),
            self.inbox,
            reach,
            self._gap,
            urgent=own_history,
        )
        self.roster = Roster(scope, self.inbox, backfill, self._gap, _listing(profile, platform), ack_seconds)
        self._catch_up = CatchUp(scope, self._participation, backfill, self.roster, ack_seconds)
        self.standby = Standby(scope, self.restore, self._catch_up.go_on, self.receive, lambda: profile.settings.roles)

    def _make_lanes(self, dispatcher: Dispatcher) -> Lanes:
        return Lanes(
            dispatcher,
            self._scope.clock,
            concurrency=lambda: self._profile.concurrency,
            begin=self._begin,
            refill=self._read_page,
            collects=self._profile.collects,
            on_behind=lambda row: self._executor.came_behind(row),  # noqa: PLW0108  it is made later
        )

    def _participate(self, history: AgentHistory, files: PlatformFiles) -> Participation:
        profile = self._profile
        recall = Recall(history, has_commands=lambda: profile.settings.commands)

        async def upload(content: bytes, name: str, media_type: str) -> Attachment:
            return await files.upload(profile.access(), content, name, media_type)

        ack_seconds = profile.deployment.ack_seconds
        return Participation(self._scope, self.inbox.conversations, recall, ack_seconds, upload)

    @property
    def connection(self) -> Connection | None:
        """The connection that is in use; None while the agent is offline."""
        return self._participation.connection

    @property
    def restored(self) -> bool:
        """Whether what waits in the journal was taken up; what a person replays before that is found there then."""
        return self._restored

    @property
    def counts(self) -> InboxCounts:
        """Messages by where they are."""
        return self.inbox.counts

    @property
    def reading(self) -> Reading:
        """What the metrics read of the agent."""
        sent = self.outbox.in_flight
        pending = self.outbox.waiting - sent
        failing = self._profile.health.failing
        return Reading(self.inbox.counts, self.lanes.oldest_at, pending, sent, failing, self.roster.unjoined)

    @property
    def idle(self) -> bool:
        """Whether no handler works on a message and no reply is on its way."""
        return not self.counts.running and not self.outbox.waiting

    @property
    def abandoned(self) -> int:
        """Handlers that were cancelled and go on all the same."""
        return self._executor.abandoned

    async def connect(self, register: Register) -> Connection:
        """Have a connection opened, its conversations joined and what was missed asked for.

        Args, Raises: as :meth:`CatchUp.connect`.
        """
        if self.standby.waits:
            await self.inbox.conversations.restore(_oldest(self._profile))
            return await self._catch_up.stand_by(register)

        async def register_then(opened: Callable[[Connection], None]) -> Connection:
            # What may be missing is held for by now.
            self.standby.bring()
            return await register(opened)

        return await self._catch_up.connect(register_then)

    def use(self, connection: Connection | None) -> None:
        """Send over ``connection`` from now on; None: offline."""
        self._participation.use(connection)
        self.outbox.use(connection)

    def lost(self) -> None:
        """The agent's connection went away just now: messages may be missed from here on."""
        self._catch_up.lost()

    def catch_up(self, connection: Connection) -> None:
        """Ask what was missed: another connection was thought to be there, and had died silently."""
        self._catch_up.missed(connection)

    async def restore(self) -> None:
        """Take up what an earlier run left in the journal: replies are sent, messages run again.

        Raises:
            RegistryError: the journal cannot be read.
        """
        scope = self._scope
        if self._restored_once:
            # What was claimed in the last moment before a pause and not given back; nothing of it runs any more.
            await scope.journal.maintenance.rescue(scope.agent_id)
        self._restored_once = True
        life = await scope.journal.lives.of(scope.agent_id)
        self.duties.restore(life)
        await self._gap.restore(life)
        await self.inbox.conversations.restore(_oldest(self._profile))
        await self.outbox.restore()
        # Last: what is journaled from here on, and not by us, is put into the lanes by whoever notices it.
        self.lanes.restore()
        self._restored = True

    def pause(self) -> None:
        """Start no message from now on."""
        self.lanes.pause()

    def resume(self) -> None:
        """Start messages again."""
        self.lanes.resume()

    async def drain(self) -> None:
        """Start nothing more; return once what runs has ended.

        While there is a connection its replies are out by then, and what waits for older messages is journaled.
        """
        await self.lanes.drain(None)
        if (connection := self.connection) is not None:
            await first_of(self.inbox.until_none_is_held(), beside=[connection.closed])
            await self.outbox.flush(None)

    async def close(self) -> None:
        """Stop at once; what is not settled stays in the journal, from where :meth:`restore` takes it up."""
        self._restored = False
        await self.standby.close()
        self._catch_up.stop()
        await self.inbox.close()
        await self._commands.close()
        await self.duties.close()
        await self.lanes.close()
        await self.outbox.close()

    def receive(self, connection: Connection, event: str, payload: object) -> None:
        """Take an event from one of the agent's sockets; returns at once."""
        if self.standby.waits:
            self.standby.keep(connection, event, payload)
        elif event == "message:new":
            self.inbox.receive(payload, connection)
        elif event == "agent:command":
            self.duties.orders.receive(payload, connection)
        elif event == "__malformed__":
            self._scope.metrics.dropped(str(payload))
        elif event == "exception":
            said = payload.get("message") if isinstance(payload, dict) else None
            # Redacted before it is cut: half a token no longer looks like one.
            redact = self._profile.secrecy.redact
            reason = redact(clean_text(said, 1000)[0])[:200] if isinstance(said, str) else "no message"
            self._scope.log.warning("platform_exception", reason=reason, namespace=connection.namespace)
        else:
            self._on_event(event, payload)

    def _begin(self, row: JournaledMessage, ended: Ended) -> Work:
        """Have a message worked on whose turn it is."""

        def over(again_at: float | None) -> None:
            if again_at is None or row.state in FINAL_MESSAGE_STATES:
                again_at = None
                self._settled(row)
            ended(again_at)

        if self._profile.settings.commands and command_in(row.message):
            return tasked(self._commands.work_in_turn(row), f"message {row.agent_id}", over)
        return self._executor.begin(row, over)

    def _start_command(self, row: JournaledMessage) -> None:
        self._commands.start(row)

    def _settled(self, row: JournaledMessage) -> None:
        for one in (*row.earlier, row) if row.earlier else (row,):
            self.inbox.settled(dead=one.state is MessageState.DEAD)
            self._scope.traces.settled(one)

    async def _read_page(self, after_id: int, limit: int) -> list[JournaledMessage]:
        return await self._scope.journal.unsettled(self._scope.agent_id, after_id=after_id, limit=limit)

    def _intake(self) -> Intake:
        own, asleep = self._profile.settings, self.duties.sleeping.current is not None
        made = self._made_intake
        # Made anew only when it is another: it is asked for with each message.
        if made is None or made[0] is not own or made[1].asleep is not asleep:
            intake = Intake(own.roles, own.inbox_limit, own.loop_limit, own.commands, asleep)
            made = self._made_intake = own, intake
        return made[1]

    def _send_full_notice(self, conversation_id: str) -> None:
        """Refuse a message aloud: a short notice, sent without the journal that has no room."""
        notice = {"role": "assistant", "content": FULL_NOTICE, "participantId": self._scope.agent_id}
        self._participation.emit("message:send", {**notice, "conversationId": conversation_id})


def _oldest(profile: Profile) -> float:
    """Since when conversations count that were quiet since, in seconds since the epoch."""
    return profile.scope.clock.now() - profile.deployment.journal_retention


def _listing(profile: Profile, platform: PlatformApis) -> Listing:
    return Listing(platform.conversations, profile.access, profile.deployment.conversations_seconds)


def _terms(profile: Profile, inbox: Inbox, deliveries: Deliveries, history: AgentHistory) -> Terms:
    """On what terms an agent's replies are sent."""
    return Terms(
        deliveries,
        lambda: host_of(profile.settings.ws_url),
        ack_seconds=profile.deployment.ack_seconds,
        at_most_once=lambda: profile.settings.delivery == "at_most_once",
        on_sending=inbox.remember_own,
        was_delivered=DeliveryCheck(history),
        on_permission=profile.health.permitted,
    )
