"""``supervisor agents new``: a handler and its test, to begin with."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import Annotated

import typer

from supervisor.cli.errors import UsageError
from supervisor.cli.templates import TEMPLATES, Kind


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
    from supervisor.handlers.declared import is_installed  # noqa: PLC0415  import what is slow only when it runs

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
    setting = "" if str(folder) == "agents" else f"SUPERVISOR_AGENTS_DIR={folder} "
    installs = [*((chosen.needs,) if chosen.needs else ()), ("pytest", "python -m pip install pytest")]
    missing = [f"  {command}\n" for module, command in installs if not is_installed(module)]
    print(
        f"Wrote {handler} and {test}\n\n"
        f"Next:\n"
        f"{''.join(missing)}"
        f"  python -m pytest {_alone(test)}{test}\n"
        f"  supervisor dev {handler}{chosen.options}\n\n"
        f"Then, with the id that the platform gave it:\n"
        f"  {setting}supervisor agents add ID --handler {name} --secret-env AGENT_SECRET\n"
        f"  {setting}supervisor run"
    )


def _alone(test: Path) -> str:
    """Options for a test that stands in a clone of ours: the tests there have options and fixtures that need more."""
    return "-c /dev/null --noconftest " if Path(__file__).parents[2] == test.resolve().parents[1] else ""


def _check_name(name: str) -> None:
    """Refuse what the loader would not find as a handler.

    Raises:
        UsageError: with a name that would do, if there is one.
    """
    if name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_") and name.isascii():
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
