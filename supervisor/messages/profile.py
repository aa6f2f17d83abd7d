"""One agent as its messages and its handler know it: row, settings, token, handler, health."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from supervisor.core.command_words import command_in
from supervisor.core.errors import HandlerError
from supervisor.core.records import AgentRecord, JournaledMessage
from supervisor.handler import AgentInfo, Permission
from supervisor.handlers import MountedHandler
from supervisor.handlers.mounted import IN_THREADS
from supervisor.messages.health import Health
from supervisor.messages.ledger import Ledger
from supervisor.messages.scope import Scope
from supervisor.messages.secrecy import Secrecy
from supervisor.messages.spending import Spending
from supervisor.platform.hosts.agent_api import Access
from supervisor.platform.tokens import Grant
from supervisor.protocol.answers import ConnectAnswer
from supervisor.settings import AGENT_SETTING_NAMES, EffectiveSettings, Settings
from supervisor.settings.schemas import misfits
from supervisor.settings.secrets import SecretResolver
from supervisor.settings.slips import slips

_NO_ANSWER: Final = ConnectAnswer(access_token="")


def _own_settings(record: AgentRecord) -> dict[str, Any]:
    """The part of a row's settings that is the handler's."""
    return {name: value for name, value in record.settings.items() if name not in AGENT_SETTING_NAMES}


class Profile:
    """One agent at this moment. The agent's life writes; its messages and contexts read, each time anew.

    Attributes:
        scope: who the agent is, its log, its journal.
        deployment: the settings of the deployment.
        secrecy, health, spending: of this agent.
        record: the row that the agent runs with, and ``settings`` what it and the deployment say together.
        grant: the token with what came along; None before the first one.
        notes: what somebody should know of the row, though nothing fails.
    """

    def __init__(
        self, record: AgentRecord, scope: Scope, deployment: Settings, secrets: SecretResolver, ledger: Ledger
    ) -> None:
        self.scope = scope
        self.deployment = deployment
        self.secrecy = Secrecy(secrets, lambda: self.token)
        self.health = Health(scope.log, self.secrecy)
        self.spending = Spending(scope, ledger, lambda: self.record.handler)
        self.notes: tuple[str, ...] = ()
        self.record = record
        self.settings = deployment.effective({})
        self.grant: Grant | None = None
        self._handler: MountedHandler | None = None

    @property
    def mounted(self) -> MountedHandler | None:
        """The handler; None while the agent has none."""
        return self._handler

    @property
    def handler(self) -> MountedHandler:
        """The handler.

        Raises:
            HandlerError: the agent has none.
        """
        if self._handler is None:
            raise HandlerError(f"Agent {self.record.id} has no handler")
        return self._handler

    @property
    def concurrency(self) -> int:
        """How many conversations are handled at once: as the row or the deployment says, else as suits the handler."""
        if (chosen := self.settings.concurrency) is not None:
            return chosen
        return self._handler.concurrency(self.deployment.concurrency) if self._handler else IN_THREADS

    def collects(self, row: JournaledMessage) -> bool:
        """Whether a message may be answered together with others: somebody said it, and it is no command."""
        own = self.settings
        return own.when_busy != "queue" and row.message.said and not (own.commands and command_in(row.message))

    def configure(self, record: AgentRecord, settings: EffectiveSettings) -> None:
        """Take over a row and what it comes to."""
        self.record = record
        self.settings = settings
        self._take_notes()

    def _take_notes(self) -> None:
        """A row may have been written in SQL, or before it was checked: it runs, and what is wrong with it is told."""
        if self._handler is None:
            self.notes = ()
            return
        declared, before = self._handler.settings, self.notes
        unknown = () if declared is None else slips(self.record.settings, declared)
        unfit = misfits(self.record.settings, self._handler.schema)
        self.notes = (*self._handler.notes, *unknown, *unfit)
        events = dict.fromkeys(unknown, "setting_unknown") | dict.fromkeys(unfit, "setting_unfit")
        for note in self.notes:
            if note not in before:
                self.scope.log.warning(events.get(note, "handler_doubtful"), reason=note)

    def describe(self, record: AgentRecord) -> None:
        """Take over a row in which only that differs on which nothing that runs depends."""
        self.record = record

    def authorize(self, grant: Grant) -> None:
        """Take over a token."""
        self.grant = grant

    def mount(self, handler: MountedHandler | None) -> None:
        """Messages that begin from now on are for this handler."""
        self._handler = handler

    @property
    def token(self) -> str:
        """The current token; empty before the first one."""
        return self.grant.token if self.grant else ""

    @property
    def answer(self) -> ConnectAnswer:
        """What came with the token: instruction, settings, tool servers; all of it empty before the first one."""
        return self.grant.answer if self.grant else _NO_ANSWER

    @property
    def info(self) -> AgentInfo:
        """Who the agent is, as handlers and people see it."""
        name = self.record.name or self.answer.name or self.record.id
        return AgentInfo(self.record.id, name, self.record.labels)

    @property
    def own_settings(self) -> Mapping[str, Any]:
        """The handler's settings in the row."""
        return _own_settings(self.record)

    def suits_handler(self, record: AgentRecord) -> bool:
        """Whether the handler may go on under another row. It reads its settings when it starts."""
        same_settings = _own_settings(record) == _own_settings(self.record)
        return self._handler is not None and record.handler == self.record.handler and same_settings

    @property
    def merged_settings(self) -> Mapping[str, Any]:
        """The platform's settings for the agent, overlaid with those of its row."""
        return {**self.answer.settings, **_own_settings(self.record)}

    def access(self) -> Access:
        """The platform's REST API as this agent sees it, and its current token."""
        return Access(self.settings.api_url, self.token)

    def reaches(self, url: str) -> bool:
        """Whether the agent's token may be sent to a URL: its host is the platform's, or one that is allowed."""
        return urlsplit(url).hostname in self.deployment.hosts

    def permits(self, permission: Permission) -> bool:
        """Whether the deployment lets handlers do something that reaches beyond them."""
        allowed = {
            "commands": self.deployment.allow_commands,
            "private_webhooks": self.deployment.allow_private_webhooks,
        }
        return allowed.get(permission, False)
