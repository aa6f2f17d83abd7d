"""What one agent runs with: the row that it has taken over, and the token that belongs to that row."""

from __future__ import annotations

from urllib.parse import urlsplit

from supervisor.core.errors import ConfigurationError, TokenError
from supervisor.core.records import AgentRecord
from supervisor.fleet.agent import Agent
from supervisor.fleet.desired import Desired
from supervisor.fleet.shared import Shared
from supervisor.platform.tokens import Grant, TokenSource
from supervisor.protocol.answers import ConnectAnswer

#: Settings whose change needs a new token or a new socket; all others are taken over in place.
_CONNECTION_SETTINGS = ("api_url", "ws_url", "ws_namespace", "ws_path", "token_via")


def connection_differs(before: AgentRecord, after: AgentRecord) -> bool:
    """Whether a changed row asks for another token or socket."""
    return before.secret != after.secret or any(
        before.settings.get(name) != after.settings.get(name) for name in _CONNECTION_SETTINGS
    )


class Configuration:
    """One agent's row as it runs, and its token source."""

    def __init__(self, agent: Agent, desired: Desired, shared: Shared) -> None:
        self._agent = agent
        self._desired = desired
        self._shared = shared
        self._record: AgentRecord | None = None
        self._source: TokenSource | None = None
        self._accepted: Grant | None = None
        self._connection_due = False
        # What another process had got for the agent is as good as new to this one, once.
        self._resume = True

    @property
    def connection_due(self) -> bool:
        """Whether the agent needs a new connection: it runs with something that the present one was not made with."""
        return self._connection_due

    def is_of(self, record: AgentRecord) -> bool:
        """Whether the agent runs with a row, with that very one."""
        return self._record is record

    async def take_over(self) -> None:
        """Take over the row that is wanted, where it is another one than the agent runs with or a reload is due.

        Raises:
            ConfigurationError, HandlerError: the agent cannot run like this.
        """
        wanted, fresh = self._desired.record, self._desired.reload_due
        if self.is_of(wanted) and not fresh:
            return
        await self._agent.configure(wanted, fresh=fresh)
        before, self._record = self._record, wanted
        self._desired.reload_taken()
        if before is None or fresh or connection_differs(before, wanted):
            self._connection_due = True
            old, self._source = self._source, self._make_source(wanted)
            if self._resume and not fresh:
                self._source.resume()
            self._resume = False
            if old is not None:
                await old.close()

    def _make_source(self, wanted: AgentRecord) -> TokenSource:
        shared = self._shared
        return TokenSource(
            shared.tokens,
            wanted.id,
            self._agent.profile.settings.api_url,
            lambda: shared.secrets.resolve(wanted.secret),
            shared.clock,
            proxy=shared.settings.proxy,
            kept=shared.kept_tokens,
        )

    def describe(self, record: AgentRecord) -> None:
        """Take over a row where only the name, the labels or the key of a seal differ: nothing that runs needs them."""
        self._record = record
        self._agent.describe(record)

    async def grant(self) -> Grant:
        """A valid token, handed to the agent with what came along.

        Raises:
            TokenError: the platform gave none. HandlerError: the handler would not start.
        """
        grant = await self._required_source().get()
        await self._agent.use_grant(grant)
        return grant

    async def fetch_grant(self) -> None:
        """As :meth:`grant`, but with a new token whatever the age of the present one."""
        await self._agent.use_grant(await self._required_source().refresh())

    async def adopt(self, token: str) -> None:
        """Take over a fresh token that the platform gave unasked; the socket goes on with its own."""
        try:
            grant = self._required_source().adopt(token)
        except TokenError as error:
            self._agent.log.warning("token_not_adopted", reason=error.reason)
        else:
            await self._agent.use_grant(grant)

    def amend(self, grant: Grant, answer: ConnectAnswer) -> bool:
        """Take over what the platform tells of the agent now; whether ``grant`` was still the one in use."""
        amended = self._source.amend(grant, answer) if self._source is not None else None
        if amended is None or self._agent.grant is not grant:
            return False
        if self._accepted is grant:
            self._accepted = amended
        self._agent.amend(amended)
        return True

    @property
    def refetched(self) -> bool:
        """Whether instruction and settings are kept current without new tokens."""
        host = urlsplit(self._agent.profile.settings.api_url).netloc
        return self._shared.facts.api(host).has_instruction is True

    def _required_source(self) -> TokenSource:
        if self._source is None:
            raise ConfigurationError("the agent is not configured")
        return self._source

    def accepted(self, grant: Grant) -> None:
        """The platform let the agent come online with a token."""
        self._accepted = grant

    def refused(self) -> None:
        """The platform refused the agent's token, which is never used again."""
        if self._source is not None and self._agent.grant is not None:
            self._source.refuse(self._agent.grant)

    def untried_seconds(self) -> float | None:
        """The age of a token that the platform has never accepted; None for one that it has, which may have ended."""
        grant = self._agent.grant
        return None if grant is None or grant is self._accepted else grant.asked.age(self._shared.clock)

    def connected(self) -> None:
        """The agent's connection was made with all that it runs with now."""
        self._connection_due = False

    async def close(self) -> None:
        """Forget the row and the token."""
        if self._source is not None:
            await self._source.close()
            self._source = None
        self._record = None
