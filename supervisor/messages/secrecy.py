"""Keeps one agent's secrets out of what is shown, logged, journaled or said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from supervisor.protocol.text import clean_text
from supervisor.settings.secrets import SecretResolver
from supervisor.telemetry.redaction import REDACTED, redact

#: A shorter secret would blank out ordinary words; the platform's are long.
MIN_SECRET_CHARS: Final = 5
#: Secrets that an agent's handler may have asked for before the oldest is no longer looked for.
MAX_RESOLVED: Final = 64
#: What stands this far behind does not survive a cut to what is shown.
MAX_READ_CHARS: Final = 10_000


class Secrecy:
    """The secrets of one agent: its own, its token, and those that its handler asked for.

    Args:
        token: gives the agent's current token; empty while it has none.
    """

    def __init__(self, secrets: SecretResolver, token: Callable[[], str]) -> None:
        self._secrets = secrets
        self._token = token
        self._own = ""
        # In the order in which they were asked for; a secret that was rotated since is one still.
        self._resolved: dict[str, None] = {}

    def use(self, reference: str) -> None:
        """From now on the agent's own secret is what a row's reference stands for.

        Raises:
            ConfigurationError: the reference cannot be resolved.
        """
        self._own = self._secrets.resolve(reference)

    def resolve(self, reference: str) -> str:
        """The secret that a handler asks for.

        Args:
            reference: comes from a row's settings, where it may be anything.

        Raises:
            ConfigurationError: the reference cannot be resolved.
        """
        secret = self._secrets.resolve(str(reference))
        self._resolved[secret] = None
        if len(self._resolved) > MAX_RESOLVED:
            del self._resolved[next(iter(self._resolved))]
        return secret

    def redact(self, text: str) -> str:
        """``text`` without this agent's secrets, by value, and without whatever else looks like one."""
        for value in (*tuple(self._resolved), self._own, self._token()):
            if len(value) >= MIN_SECRET_CHARS:
                text = text.replace(value, REDACTED)
        return redact(text)

    def shown(self, text: object, max_chars: int) -> str:
        """``text`` as one redacted line of ``max_chars`` at most."""
        # Redacted before it is cut: half a secret no longer looks like one.
        return " ".join(clean_text(self.redact(str(text)[:MAX_READ_CHARS]))[0].split())[:max_chars]
