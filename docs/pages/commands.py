"""The page about commands."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import typer
from typer.models import OptionInfo, ParameterInfo

from docs.pages.markdown import HEAD, code, paragraphs, table, without_none
from supervisor.cli.app import app

_COMMANDS: Final = """
Every command has `--help`. What was asked for goes to standard output, everything else to standard error; an error is
one line there. Exit codes: 0 done, 1 it failed, 2 it was called wrongly; `supervisor doctor` has more.
`supervisor --debug …` shows tracebacks of failures.
"""


def commands_page() -> str:
    """The page about commands."""
    commands = list(_commands(app, "supervisor"))
    contents = "\n".join(f"- [`{name}`](#{name.replace(' ', '-')}): {_first_sentence(call)}" for name, call in commands)
    return "\n\n".join(
        ["# Commands", HEAD, paragraphs(_COMMANDS), contents, *(_command(name, call) for name, call in commands)]
    )


def _commands(group: typer.Typer, path: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command with its full name, groups last and each in the order of its help."""
    for command in group.registered_commands:
        if command.callback is not None:
            yield f"{path} {command.name or command.callback.__name__.replace('_', '-')}", command.callback
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            yield from _commands(inner.typer_instance, f"{path} {inner.name}")


def _first_sentence(call: Callable[..., Any]) -> str:
    return " ".join(inspect.cleandoc(call.__doc__ or "").partition("\n\n")[0].split())


def _command(name: str, call: Callable[..., Any]) -> str:
    text, _, example = inspect.cleandoc(call.__doc__ or "").partition("Example: ")
    arguments, options = [], []
    for parameter, hint, info in _parameters(call):
        if isinstance(info, OptionInfo):
            options.append(_option(parameter, hint, info))
        else:
            shown = info.metavar or parameter.name.upper()
            arguments.append([code(shown), info.help or ""])
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *(cells[0].strip("`") for cells in arguments)])
    parts = [f"## {name}", paragraphs(text), f"    {usage}"]
    if arguments or options:
        parts.append(table(["Argument or option", "Default", "Meaning"], [[a, "", m] for a, m in arguments] + options))
    if example:
        alone = re.fullmatch(r"`([^`]+)`", example.strip())
        parts.append(f"Example:\n\n    {alone[1]}" if alone else f"Example: {example.strip()}")
    return "\n\n".join(parts)


def _parameters(call: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, Any, ParameterInfo]]:
    hints = typing.get_type_hints(call, include_extras=True)
    for parameter in inspect.signature(call).parameters.values():
        hint = hints[parameter.name]
        extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
        info = next((extra for extra in extras if isinstance(extra, ParameterInfo)), None)
        plain = typing.get_args(hint)[0] if extras else hint
        yield parameter, without_none(plain), info or typer.Option()


def _option(parameter: inspect.Parameter, hint: Any, info: OptionInfo) -> list[str]:
    # In an annotation what stands first is taken for the default until it is looked at.
    declared = [
        one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str) and one.startswith("-")
    ]
    names = declared or [f"--{parameter.name.replace('_', '-')}"]
    value = "" if hint is bool else f" {info.metavar or _value(hint)}"
    default = "" if parameter.default in (parameter.empty, None) or hint is bool else code(str(parameter.default))
    required = parameter.default is parameter.empty and info.default_factory is None
    meaning = (info.help or "") + (" Required." if required else "") + _range(info)
    return [code(", ".join(sorted(names, key=len)) + value), default, meaning]


def _value(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "|".join(map(str, typing.get_args(hint)))
    words: Mapping[Any, str] = {int: "NUMBER", float: "NUMBER", str: "TEXT", Path: "PATH"}
    if hint not in words:
        named = getattr(hint, "__members__", None)
        return "|".join(str(one.value) for one in named.values()) if named else "VALUE"
    return words[hint]


def _range(info: OptionInfo) -> str:
    if info.min is None and info.max is None:
        return ""
    low, high = (f"{bound:g}" if bound is not None else None for bound in (info.min, info.max))
    return f" From {low} to {high}." if low and high else f" At least {low}." if low else f" At most {high}."
