"""Reads a Dockerfile as far as the checks need it: its stages, and what the last one says about running."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

_TEXTS = {"USER": "user", "WORKDIR": "workdir", "STOPSIGNAL": "stop_signal"}
_LISTS = {"VOLUME": "volumes", "ENTRYPOINT": "entrypoint", "CMD": "command"}
_OPTION = re.compile(r"--([\w-]+)=(\S+)\s+")


@dataclass
class Stage:
    """One FROM and what follows it."""

    base: str
    env: dict[str, str] = field(default_factory=dict)
    copies: list[list[str]] = field(default_factory=list)
    user: str = "0"
    workdir: str = "/"
    volumes: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    stop_signal: str = ""


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions with their arguments, comments left out and broken lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    words = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name.upper(), rest.strip()) for name, _, rest in words]


def read(path: Path) -> list[Stage]:
    """The stages of a Dockerfile."""
    stages: list[Stage] = []
    for name, rest in instructions(path.read_text(encoding="utf-8")):
        if name == "FROM":
            stages.append(Stage(rest))
        elif stages:
            _apply(stages[-1], name, rest)
    return stages


def _apply(stage: Stage, name: str, rest: str) -> None:
    if name == "ENV":
        stage.env |= {key: value for key, _, value in (pair.partition("=") for pair in shlex.split(rest))}
    elif name == "COPY":
        words = shlex.split(rest)
        if not words[0].startswith("--from="):
            stage.copies.append([word for word in words if not word.startswith("--")])
    elif name == "HEALTHCHECK":
        stage.health = _words(_OPTION.sub("", rest).removeprefix("CMD").strip())
    elif name in _TEXTS:
        setattr(stage, _TEXTS[name], rest)
    elif name in _LISTS:
        setattr(stage, _LISTS[name], _words(rest))


def _words(rest: str) -> list[str]:
    return [str(word) for word in json.loads(rest)] if rest.startswith("[") else shlex.split(rest)
