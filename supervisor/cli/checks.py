"""Checks of what a person gives for an agent, before anything is written."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from supervisor.cli.errors import UsageError, warn
from supervisor.errors import ConfigurationError, HandlerError, SupervisorError
from supervisor.protocol import is_object_id
from supervisor.records import AgentRecord
from supervisor.settings import Settings, parse_agent_settings


def key_values(pairs: Sequence[str], option: str) -> dict[str, str]:
    """``KEY=VALUE`` options as a mapping; the last of a key wins.

    Raises:
        UsageError: one is not of that form.
    """
    made = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{option} wants KEY=VALUE, not {pair!r}")
        made[key.strip()] = value
    return made


def setting_values(pairs: Sequence[str]) -> dict[str, Any]:
    """``--set KEY=VALUE``: the value is JSON where it parses as such, else text."""
    return {key: _json_or_text(value) for key, value in key_values(pairs, "--set").items()}


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class Checker:
    """What the deployment allows in an agent's row; made once for a whole fleet.

    Args:
        settings: the deployment's.
    """

    def __init__(self, settings: Settings) -> None:
        from supervisor.handlers import find_agents_dir  # noqa: PLC0415  only where handlers are checked
        from supervisor.secrets import SecretBox  # noqa: PLC0415

        self._settings = settings
        self._agents_dir = find_agents_dir(settings.agents_dir)
        self._handlers: list[str] | None = None
        keys = [key.get_secret_value() for key in settings.secret_keys]
        self._box = SecretBox(keys) if keys else None
        self._warnings: dict[str, None] = {}

    def warn(self) -> None:
        """Say, once each, what may be wrong: called when all is well enough to go on."""
        for text in self._warnings:
            warn(text)
        self._warnings.clear()

    def check(self, record: AgentRecord, where: str = "", *, keep_going: bool = False) -> None:
        """Check a whole row; what only the running supervisor can know is left to :meth:`warn`.

        Args:
            where: what to put before an error, such as the file and the entry.
            keep_going: what keeps this agent from running is left to :meth:`warn` too, as it harms no other; only an id
                that cannot be stored is an error.

        Raises:
            ConfigurationError: the row cannot work; says which part and why.
        """
        prefix = f"{where}: " if where else ""
        try:
            self.id(record.id)
        except SupervisorError as error:
            raise ConfigurationError(f"{prefix}{error}") from None
        try:
            self.handler(record.handler)
            self.secret(record.secret, record.id)
            parse_agent_settings(record.settings, self._settings)
        except SupervisorError as error:
            if not keep_going:
                raise ConfigurationError(f"{prefix}{error}") from None
            self._note(f"{prefix}{error}; until that is mended the agent is faulted")

    def id(self, agent_id: str) -> None:
        """Refuse what cannot be an id; warn of one that the platform would not have made (PROTOCOL §1)."""
        from supervisor.registry.agents import check_id  # noqa: PLC0415  SQLAlchemy is slow to import

        check_id(agent_id)
        if not is_object_id(agent_id):
            self._note(f"agent {agent_id}: ids of the platform are 24 hex digits; it will refuse this one")

    def handler(self, reference: str) -> None:
        """Refuse a handler that is not there, naming near ones; its code is not run here.

        Raises:
            HandlerError: there is none of that name.
        """
        module = reference.partition(":")[0]
        if not module or not all(part.isidentifier() for part in module.split(".")):
            raise HandlerError(f"{reference!r} is no handler; write echo, echo:Handler or package.module:attribute")
        if "." in module:
            self._check_package(module)
            return
        known = self._known_handlers()
        if module not in known:
            near = difflib.get_close_matches(module, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or 'none'}"
            raise HandlerError(f"There is no handler {module!r} in {self._agents_dir}; {hint}")

    def _known_handlers(self) -> list[str]:
        from supervisor.handlers import HandlerLoader  # noqa: PLC0415

        if self._handlers is None:
            loader = HandlerLoader(self._agents_dir)
            self._handlers = loader.names()
            loader.close()
        return self._handlers

    def _check_package(self, module: str) -> None:
        top = module.partition(".")[0]
        if top not in self._settings.handler_packages:
            raise HandlerError(f"Handlers of package {top!r} are not allowed; add it to SUPERVISOR_HANDLER_PACKAGES")

    def secret(self, reference: str, agent_id: str) -> None:
        """Refuse a reference that the deployment does not allow or whose file cannot be read.

        A variable need not be set here, only in the supervisor's environment: that is a warning.

        Raises:
            ConfigurationError: it is no reference, or outside what is allowed.
        """
        from supervisor.secrets import SecretResolver  # noqa: PLC0415

        name = reference.removeprefix("env:")
        # With the variable given, whatever still fails is the deployment's bounds.
        environ = {name: "set"} if name != reference else {}
        try:
            SecretResolver(
                environ=environ,
                env_prefixes=self._settings.secret_env_prefixes,
                dirs=self._settings.secret_dirs,
                box=self._box,
            ).resolve(reference)
        except ConfigurationError as error:
            if not reference.startswith("fernet:"):
                raise
            self._note(f"agent {agent_id}: {error}")
        if environ and not os.environ.get(name):
            self._note(f"{name} is not set here; the supervisor needs it in its environment")

    def _note(self, text: str) -> None:
        self._warnings[text] = None


def read_secret() -> str:
    """The secret from standard input, without the newline at its end; a person is asked for it unseen.

    Raises:
        ConfigurationError: there is none.
    """
    import getpass  # noqa: PLC0415

    try:
        text = getpass.getpass("Secret: ") if sys.stdin.isatty() else sys.stdin.read()
    except (UnicodeDecodeError, EOFError):
        text = ""
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret.strip():
        raise ConfigurationError("Standard input held no secret; try: supervisor agents … --secret-stdin < file")
    return secret


def seal(secret: str, settings: Settings) -> str:
    """``secret`` as a ciphertext that may be stored.

    Raises:
        ConfigurationError: there is no key to seal with; says how to make one.
    """
    from supervisor.secrets import SecretBox  # noqa: PLC0415

    return SecretBox([key.get_secret_value() for key in settings.secret_keys]).seal(secret)
