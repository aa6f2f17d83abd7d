"""``supervisor agents new``: a handler and its test, to begin with."""

from __future__ import annotations

import keyword
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from supervisor.cli.errors import UsageError, warn
from supervisor.cli.local import command, python
from supervisor.cli.templates import TEMPLATES, Kind, Template


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A Python module's name.", show_default=False)],
    *,
    template: Annotated[
        Kind,
        typer.Option(
            help="function: one answer; class: state and hooks; stream: several parts; tools: a tool at work; "
            "llm: a language model with a tool."
        ),
    ] = "function",
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="The folder of handlers.")] = Path("agents"),
) -> None:
    """Write a handler and its test to begin with; nothing that is there is overwritten.

    Example: `supervisor agents new weather`, or `supervisor agents new weather --template tools`
    """
    _check_name(name)
    folder_name = folder.resolve().name
    handler, test = folder / f"{name}.py", folder.parent / "tests" / f"test_{name}.py"
    for path in (handler, folder / name, test):
        if path.exists():
            raise UsageError(f"{path} is there already; choose another name or remove it")
    words = name.strip("_").split("_")
    values = {
        "name": name,
        "title": " ".join(words).capitalize(),
        "cls": "".join(word[:1].upper() + word[1:] for word in words),
        "folder": folder_name,
    }
    chosen = TEMPLATES[template]
    for path, text in ((handler, chosen.handler), (test, chosen.test)):
        _write(path, text.format(**values))
    _tell_next(name, handler, test, chosen)


def _tell_next(name: str, handler: Path, test: Path, chosen: Template) -> None:
    """Say what was written, and what to do with it: what is missing here, its test, a try, the platform."""
    from supervisor.handlers.declared import is_installed  # noqa: PLC0415  import what is slow only when it runs

    folder = handler.parent
    setting = "" if str(folder) == "agents" else f"SUPERVISOR_AGENTS_DIR={folder} "
    installs = [(chosen.needs, _extra("llm")), ("pytest", f"{python()} -m pip install pytest")]
    missing = [f"  {install}\n" for module, install in installs if module and not is_installed(module)]
    print(
        f"Wrote {handler} and {test}\n\n"
        f"Next:\n"
        f"{''.join(missing)}"
        f"  {python()} -m pytest {_alone(test)}{test}\n"
        f"  {command()} dev {handler}{chosen.options}\n\n"
        f"Then, with the id that the platform gave it:\n"
        f"  {setting}{command()} agents add ID --handler {name} --secret-env AGENT_SECRET\n"
        f"  {setting}{command()} run"
    )


def _extra(name: str) -> str:
    """The command that installs an extra: of the clone that this is, or of the package."""
    root = Path(__file__).parents[2]
    if not (root / "pyproject.toml").is_file():
        return f"{python()} -m pip install 'aiwm-supervisor[{name}]'"
    where = os.path.relpath(root)
    return f"{python()} -m pip install -c {where}/constraints.txt -e '{where}[{name}]'"


def _alone(test: Path) -> str:
    """Options for a test that stands in a clone of ours: the tests there have options and fixtures that need more."""
    return "-c /dev/null --noconftest " if Path(__file__).parents[2] == test.resolve().parents[1] else ""


def _check_name(name: str) -> None:
    """Refuse what the loader would not find as a handler; say what else has the name.

    Raises:
        UsageError: with a name that would do, if there is one.
    """
    from supervisor.handlers.declared import is_installed  # noqa: PLC0415  import what is slow only when it runs
    from supervisor.settings.kinds import BUNDLED_HANDLERS  # noqa: PLC0415

    if name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_") and name.isascii():
        if name in BUNDLED_HANDLERS:
            warn(f"{name} is a bundled handler, whose place this one takes in every row that names it")
        elif is_installed(name):
            warn(f"{name} is a module of this Python too: whoever reads `import {name}` thinks of that one")
        return
    better = re.sub(r"\W+|^(?=\d)", "_", name, flags=re.ASCII).strip("_").lower()
    if keyword.iskeyword(better):
        better += "_agent"
    hint = f"; how about {better}?" if better.isidentifier() else "; use letters, digits and _"
    raise UsageError(f"{name!r} is no name for a handler: it becomes a Python module{hint}")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None
