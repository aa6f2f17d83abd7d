"""Whole fleets as YAML: reading, comparing with a registry, writing. Pure: no files, no registry.

::

    agents:
      - id: "650000000000000000000001"
        handler: echo
        secret: env:AGENT_SECRET
        name: Front desk                # optional, as are the rest
        settings: {concurrency: 2}
        labels: {team: sales}
        paused: false
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import yaml

from supervisor.core.errors import ConfigurationError
from supervisor.core.problems import Problems
from supervisor.core.records import AgentRecord
from supervisor.store.dialect.history import SEALED
from supervisor.telemetry.redaction import mask

_REQUIRED: Final = ("id", "handler", "secret")
#: Values in a file, aliases written out: a few lines of them can stand for billions.
MAX_VALUES: Final = 10_000_000
_FIELDS: Final = (*_REQUIRED, "name", "settings", "labels", "paused")
_REFERENCES: Final = ("env:", "file:/", "fernet:")
# JSON writes 1e-07, which YAML 1.1 takes for text: here it is a number for reading and for writing.
# A sign is needed: 24 digits with an "e" among them are an id.
_EXPONENT: Final = ("tag:yaml.org,2002:float", re.compile(r"-?\d+[eE][-+]\d+\Z"), list("-0123456789"))


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key given twice is an error, not a silent change of mind."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    made: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            problem = f"the key {key!r} is not text; put it in quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        if key in made:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", key_node.start_mark)
        made[key] = loader.construct_object(value_node, deep=True)
    return made


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_implicit_resolver(*_EXPONENT)


class _Dumper(yaml.SafeDumper):
    """Safe YAML that keeps the line breaks which PyYAML would fold away."""


def _text_node(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    odd = any(character in text for character in "\x85\u2028\u2029\ufeff")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if odd else None)


_Dumper.add_representer(str, _text_node)
_Dumper.add_implicit_resolver(*_EXPONENT)


@dataclass(frozen=True, slots=True)
class Change:
    """An agent that is there and is to be different.

    Args:
        record: as it is to be.
        fields: the names of the row's fields that change.
        before, after: those fields as they may be shown, of settings and labels what changes: a ciphertext is a mark,
            what looks secret is masked.
    """

    record: AgentRecord
    fields: tuple[str, ...]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import does to a registry."""

    add: tuple[AgentRecord, ...] = ()
    change: tuple[Change, ...] = ()
    remove: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.add or self.change or self.remove)


def _load(text: str) -> Any:
    """One document; JSON, which is YAML too, is read as JSON, in a fiftieth of the time.

    Raises:
        yaml.YAMLError: it is none, or its aliases stand for more than :data:`MAX_VALUES`.
    """
    if text.lstrip().startswith("{"):
        # What is wrong with it is for YAML to say, which knows the line.
        with suppress(ValueError):
            return json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_number)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _expanded(node, {}) > MAX_VALUES:
            problem = f"its aliases stand for more than {MAX_VALUES:,} values; that is no fleet"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key is there twice")
    return made


def _no_number(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for once its aliases are written out; each node is counted once."""
    if id(node) not in known:
        # One that holds itself is refused when it is made.
        known[id(node)] = 0
        parts = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
        inner = 0 if isinstance(node, yaml.ScalarNode) else sum(_expanded(one, known) for one in parts)
        known[id(node)] = 1 + inner
    return known[id(node)]


def parse(text: str, source: str) -> list[AgentRecord]:
    """Read a fleet.

    Args:
        text: the YAML.
        source: what to call it in errors: the file's name.

    Raises:
        ConfigurationError: all that is wrong, each with the file, the entry and the key; no value of ``secret``.
    """
    problems = Problems()
    records = [record for _, record in entries(text, source, problems)]
    problems.raise_found()
    return records


def entries(text: str, source: str, problems: Problems) -> Iterator[tuple[int, AgentRecord]]:
    """As :func:`parse`: the entries that can be read, each with its number; what is wrong with others is noted.

    Raises:
        ConfigurationError: it is no fleet.
    """
    seen: set[str] = set()
    for number, entry in enumerate(_document(text, source), start=1):
        where = f"{source}: agent {number}"
        try:
            record = _record(entry, where)
        except ConfigurationError as error:
            problems.take(error)
            continue
        if record.id in seen:
            problems.add(f"{where}: id {record.id} is there twice")
            continue
        seen.add(record.id)
        yield number, record


def _document(text: str, source: str) -> list[object]:
    try:
        document = _load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{source}{where}: {error.problem or 'this is not YAML'}") from None
    except RecursionError:
        raise ConfigurationError(f"{source}: it is nested too deep to be read") from None
    except (yaml.YAMLError, ValueError):
        raise ConfigurationError(f"{source}: this is not YAML") from None
    if not isinstance(document, dict) or not isinstance(document.get("agents"), list):
        raise ConfigurationError(f'{source}: it must hold a list "agents:", each with id, handler and secret')
    if unknown := sorted(document.keys() - {"agents"}):
        raise ConfigurationError(f"{source}: unknown key {unknown[0]!r}; a fleet has only agents")
    agents: list[object] = document["agents"]
    return agents


def _record(entry: object, where: str) -> AgentRecord:
    if not isinstance(entry, dict):
        raise ConfigurationError(f"{where}: it must be a mapping with id, handler and secret")
    if isinstance(entry.get("id"), str):
        where = f"{where} ({entry['id'][:40]!r})"
    problems = Problems(where)
    for unknown in sorted(entry.keys() - set(_FIELDS)):
        problems.add(f"unknown key {unknown!r}; there are: {', '.join(_FIELDS)}")
    values = {}
    for name in _FIELDS:
        value = entry.get(name)
        if name in _REQUIRED and value in (None, ""):
            problems.add(f"{name} is missing")
        elif value is not None:
            with problems.gathered():
                values[name] = _CHECKS[name](value, name)
    problems.raise_found()
    return AgentRecord(**values)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{where} must be text; put it in quotes")
    return value


def _secret(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.startswith(_REFERENCES):
        # The value is not repeated: it may be the secret itself.
        raise ConfigurationError(
            f"{where} must be a reference, env:NAME or file:/path (or fernet:… of an export); never the secret itself"
        )
    return value


def _settings(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} must be a mapping")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{where} must be what JSON can hold: {error}; put dates in quotes") from None
    return value


def _labels(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} must be a mapping")
    problems = Problems()
    for key in (key for key, label in value.items() if not isinstance(label, str)):
        problems.add(f"{where}.{key} must be text; put it in quotes")
    problems.raise_found()
    return value


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{where} must be true or false")
    return value


_CHECKS: Final[Mapping[str, Callable[[object, str], Any]]] = {
    "id": _text,
    "handler": _text,
    "secret": _secret,
    "name": _text,
    "settings": _settings,
    "labels": _labels,
    "paused": _flag,
}


def plan(wanted: Iterable[AgentRecord], existing: Iterable[AgentRecord], *, prune: bool) -> Plan:
    """What makes ``existing`` into ``wanted``; agents that are not wanted stay unless ``prune``."""
    there = {record.id: record for record in existing}
    add: list[AgentRecord] = []
    change: list[Change] = []
    unchanged: list[str] = []
    asked: set[str] = set()
    for record in wanted:
        asked.add(record.id)
        old = there.get(record.id)
        if old is None:
            add.append(record)
        elif old.same_content(record):
            unchanged.append(record.id)
        else:
            change.append(_change(old, record))
    remove = sorted(there.keys() - asked) if prune else []
    return Plan(tuple(add), tuple(change), tuple(remove), tuple(unchanged))


def _change(old: AgentRecord, new: AgentRecord) -> Change:
    fields = tuple(name for name in _FIELDS if getattr(old, name) != getattr(new, name))
    before, after = _different({name: (getattr(old, name), getattr(new, name)) for name in fields})
    return Change(new, fields or ("unusable values in the row",), before, after)


def _different(fields: Mapping[str, tuple[Any, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is different, before and after, as it may be shown."""
    before, after = ({name: values[side] for name, values in fields.items()} for side in (0, 1))
    for name in {"settings", "labels"} & fields.keys():
        old, new = fields[name]
        kept = {key for key in old.keys() & new.keys() if old[key] == new[key]}
        before[name], after[name] = (
            mask({key: value for key, value in side.items() if key not in kept}) for side in (old, new)
        )
    for side in (before, after):
        if side.get("secret", "").startswith("fernet:"):
            side["secret"] = SEALED
    return before, after


def document(records: Sequence[AgentRecord]) -> dict[str, Any]:
    """A fleet as it stands in a file, defaults left out."""
    entries = []
    for record in records:
        optional = {"name": record.name, "settings": record.settings, "labels": record.labels, "paused": record.paused}
        required = {"id": record.id, "handler": record.handler, "secret": record.secret}
        entries.append(required | {name: value for name, value in optional.items() if value})
    return {"agents": entries}


def dump(records: Sequence[AgentRecord], *, ascii_only: bool = False) -> str:
    """A fleet as YAML that :func:`parse` reads back as the same records.

    Args:
        ascii_only: escape every other character, for an encoding that may not have it.
    """
    text: str = yaml.dump(document(records), Dumper=_Dumper, sort_keys=False, allow_unicode=not ascii_only, width=120)
    return text
