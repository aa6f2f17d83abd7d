"""Changes of agents' rows that people ask for, by command or over the admin API: checked before anything is written."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from supervisor.core.errors import ConfigurationError, HandlerError, SupervisorError
from supervisor.core.problems import Problems
from supervisor.core.records import AgentRecord
from supervisor.handlers import Folders, find_agents_dir
from supervisor.handlers.declared import declared_schema, declared_settings, missing_requirements
from supervisor.handlers.folder import split_reference
from supervisor.protocol.text import is_object_id
from supervisor.settings import Settings, parse_agent_settings
from supervisor.settings.schemas import as_written, misfits
from supervisor.settings.secrets import SecretBox, SecretResolver
from supervisor.settings.slips import slip, slips
from supervisor.store import Registry
from supervisor.store.dialect.rows import check_id, checked_values, record_values
from supervisor.telemetry.redaction import REDACTED


class Checker:
    """What the deployment allows in an agent's row; made once for a whole fleet.

    Args:
        settings: the deployment's.
        agents_dir: where handlers are; found as the supervisor finds it unless given.
    """

    def __init__(self, settings: Settings, agents_dir: Path | None = None) -> None:
        self._settings = settings
        self._folders = Folders(agents_dir or find_agents_dir(settings.agents_dir), settings.bundled_handlers)
        #: Of each handler that was looked for: its folder, and the settings that it says it has with their schemas.
        self._homes: dict[str, Path] = {}
        self._declared: dict[str, tuple[tuple[str, ...] | None, Mapping[str, Mapping[str, Any]]]] = {}
        self._box = SecretBox.of(settings.secret_keys)
        self._warnings: dict[str, None] = {}

    def take_warnings(self) -> list[str]:
        """What may be wrong, and only the running supervisor can know; each once."""
        taken = list(self._warnings)
        self._warnings.clear()
        return taken

    def check(self, record: AgentRecord, where: str = "", *, keep_going: bool = False) -> None:
        """Check a whole row; what may be wrong goes to :meth:`take_warnings`.

        Args:
            where: what to put before an error, such as the file and the entry.
            keep_going: what keeps this agent from running is left to :meth:`take_warnings` too, as it harms no other;
                only a row that cannot be stored is an error.

        Raises:
            ConfigurationError: the row cannot work; says which parts and why.
        """
        problems = Problems(where)
        faults = Problems(where) if keep_going else problems
        with problems.gathered():
            self.id(record.id)
        with problems.gathered():
            self.given(record.settings)
        with faults.gathered():
            self.handler(record.handler)
        with faults.gathered():
            self.secret(record.secret, record.id)
        with faults.gathered():
            self.settings(record.settings)
        problems.raise_found()
        try:
            record_values(record)
        except SupervisorError as error:
            raise ConfigurationError(f"{where}: {error}" if where else str(error)) from None
        for fault in faults:
            self._warn(f"{fault}; until that is mended the agent is faulted")

    def check_changes(self, agent_id: str, changes: Mapping[str, Any]) -> None:
        """Check what changes and nothing else: the rest may be wrong since long before, and must not be in the way.

        Raises:
            ConfigurationError: it cannot work; says which part and why.
        """
        problems = Problems()
        with problems.gathered():
            if "handler" in changes:
                self.handler(changes["handler"])
        with problems.gathered():
            if "secret" in changes:
                self.secret(changes["secret"], agent_id)
        with problems.gathered():
            if "settings" in changes:
                self.settings(changes["settings"])
        problems.raise_found()
        try:
            checked_values(agent_id, changes)
        except SupervisorError as error:
            raise ConfigurationError(str(error)) from None

    def id(self, agent_id: str) -> None:
        """Refuse what cannot be an id; warn of one that the platform would not have made.

        Raises:
            RegistryError: it is empty, too long, or holds a character that no id has.
        """
        check_id(agent_id)
        if not is_object_id(agent_id):
            self._warn(f"agent {agent_id}: ids of the platform are 24 hex digits; it will refuse this one")

    def handler(self, reference: str) -> None:
        """Refuse a handler that is not there, naming near ones; its code is not run here.

        What the handler needs may be installed where the supervisor runs and not here: that is a warning.

        Raises:
            HandlerError: there is none of that name.
        """
        module, _ = split_reference(reference)
        if "." in module:
            self._check_package(module)
            return
        missing = missing_requirements(module, self._home(module))
        for command in dict.fromkeys(missing.values()):
            packages = " and ".join(package for package in missing if missing[package] == command)
            self._warn(f"handler {module} needs {packages}, not installed here; where the supervisor runs: {command}")

    def _home(self, module: str) -> Path:
        if module not in self._homes:
            self._homes[module] = self._folders.home(module)
        return self._homes[module]

    def spelling(
        self, record: AgentRecord, old: AgentRecord | None = None, where: str = "", *, keep_going: bool = False
    ) -> None:
        """Refuse settings that are slips for others, and values that do not fit, where the handler says what it takes.

        Args:
            old: the row as it is; what stands there already was taken before, and is told by the supervisor.
            where, keep_going: as for :meth:`check`.

        Raises:
            ConfigurationError: some are slips, with the names that may be meant; or do not fit, with what is taken.
        """
        try:
            declared, schema = self._declares(record.handler)
        except HandlerError:
            # Whether the handler is there is asked elsewhere, or was when the row was made.
            return
        kept = old.settings if old is not None and old.handler == record.handler else {}
        new = {name: value for name, value in record.settings.items() if name not in kept}
        changed = {name: value for name, value in record.settings.items() if name in new or kept[name] != value}
        slipped = slips(new, declared) if declared is not None else ()
        problems = Problems(where)
        for found in slipped:
            problems.add(found)
        for name, value in changed.items():
            for found in misfits({name: value}, schema):
                if misfits({name: as_written(value)}, schema):
                    problems.add(found)
                else:
                    self._warn(f"{found}: write it without quotes; the next version refuses it")
        if not keep_going:
            problems.raise_found()
        for problem in problems:
            self._warn(problem)

    def _declares(self, handler: str) -> tuple[tuple[str, ...] | None, Mapping[str, Mapping[str, Any]]]:
        """The settings that a handler says it has, and what values they take."""
        module, _ = split_reference(handler)
        if "." in module:
            return None, {}
        if module not in self._declared:
            home = self._home(module)
            self._declared[module] = declared_settings(module, home), declared_schema(module, home)
        return self._declared[module]

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
        name = reference.removeprefix("env:")
        # The variable stands in as set: what still fails is outside the deployment's bounds.
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
            self._warn(f"agent {agent_id}: {error}")
        if environ and not os.environ.get(name):
            self._warn(f"{name} is not set here; the supervisor needs it in its environment")

    def given(self, settings: Mapping[str, Any]) -> None:
        """Refuse what stands for a secret where settings are shown: given back, it would be stored over the secret.

        A key that is nearly one of the supervisor's own is the handler's all the same, and a warning.

        Raises:
            ConfigurationError: a value holds it.
        """
        for key, value in settings.items():
            if near := slip(key):
                self._warn(f"settings: {key} is left to the handler; did you mean {near}?")
            if _holds(value, REDACTED):
                raise ConfigurationError(
                    f"settings: {REDACTED} stands for a secret that is not shown; leave that key out, or give its value"
                    f" ({key!r})"
                )

    def settings(self, values: Mapping[str, Any]) -> None:
        """Refuse settings of the wrong kind, or beyond the deployment's bounds.

        Raises:
            ConfigurationError: they are.
        """
        parse_agent_settings(values, self._settings)

    def _warn(self, text: str) -> None:
        self._warnings[text] = None


def _holds(value: object, text: str) -> bool:
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str) and text in one:
            return True
        left.extend(one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
    return False


@dataclass(frozen=True)
class Changes:
    """What is to change of a row; the rest stays.

    Args:
        fields: handler, secret, name, paused.
        settings, labels: these keys get these values, the others stay.
        unset, unlabel: these keys go.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    unset: Collection[str] = ()
    unlabel: Collection[str] = ()

    @property
    def touched(self) -> list[str]:
        """The names of the fields that change."""
        merged = {"settings": self.settings or self.unset, "labels": self.labels or self.unlabel}
        return sorted({*self.fields, *(name for name, some in merged.items() if some)})

    @property
    def empty(self) -> bool:
        """Whether nothing is to change."""
        return not self.touched

    def merged(self, old: AgentRecord) -> dict[str, Any]:
        """The settings and labels as they are to be, where any of them changes."""
        made: dict[str, Any] = {}
        if self.settings or self.unset:
            settings = {**old.settings, **self.settings}
            made["settings"] = {key: value for key, value in settings.items() if key not in self.unset}
        if self.labels or self.unlabel:
            labels = {**old.labels, **self.labels}
            made["labels"] = {key: value for key, value in labels.items() if key not in self.unlabel}
        return made


async def add_agent(registry: Registry, checker: Checker, record: AgentRecord) -> None:
    """Add an agent.

    Raises:
        ConfigurationError: it cannot work.
        AgentExistsError: there is one of that id.
    """
    checker.check(record)
    checker.spelling(record)
    await registry.add_agent(record)


async def change_agents(registry: Registry, checker: Checker, agent_ids: Sequence[str], changes: Changes) -> None:
    """Change some agents alike, all of them or none.

    Raises:
        AgentNotFoundError: there is none of one of the ids.
        ConfigurationError: one could not work like that.
    """
    # Checked before the transaction, which must not wait for files; what is given is given to all alike.
    for agent_id in agent_ids[:1]:
        checker.check_changes(agent_id, changes.fields)
    checker.given(changes.settings)
    if changes.settings:
        alone = len(agent_ids) == 1
        records = [await registry.agent(agent_ids[0])] if alone else await registry.agents()
        wanted = set(agent_ids)
        for old in (record for record in records if record.id in wanted):
            handler = changes.fields.get("handler", old.handler)
            checker.spelling(replace(old, handler=handler, settings=dict(changes.settings)), old)

    def change(old: AgentRecord) -> dict[str, Any]:
        merged = changes.merged(old)
        try:
            checker.check_changes(old.id, merged)
        except ConfigurationError as error:
            # Of several it has to be said which.
            raise error if len(agent_ids) == 1 else ConfigurationError(f"agent {old.id}: {error}") from None
        return {**changes.fields, **merged}

    await registry.alter_agents(agent_ids, change)
