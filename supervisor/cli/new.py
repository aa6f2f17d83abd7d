"""``supervisor agents new``: a handler and its test, to begin with."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import Annotated, Final

import typer

from supervisor.cli.errors import UsageError

_HANDLER: Final = '''\
"""{title}: say here what it does."""

from supervisor.handler import Context, Message


async def on_message(message: Message, ctx: Context) -> str:
    """Answer one message."""
    return f"You said: {{message.content}}"
'''

_TEST: Final = '''\
"""The handler {name}: alone, and as people meet it."""

import asyncio
from pathlib import Path

from supervisor.testing import FakeContext, ask, sandboxed

AGENTS = Path(__file__).parent.parent / "{folder}"


def test_it_answers() -> None:
    ctx = FakeContext(settings={{"tone": "friendly"}})
    reply = asyncio.run(ask("{name}", "hello", ctx, agents_dir=AGENTS))
    assert reply.content == "You said: hello"


def test_it_answers_in_a_chat() -> None:
    async def talk() -> str:
        async with sandboxed("{name}", agents_dir=AGENTS) as chat:
            reply = await chat.ask("hello")
            return reply.content

    assert asyncio.run(talk()) == "You said: hello"
'''


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A Python module's name.", show_default=False)],
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="The folder of handlers.")] = Path("agents"),
) -> None:
    """Write a handler and its test to begin with; nothing that is there is overwritten.

    Example: `supervisor agents new weather`
    """
    _check_name(name)
    folder_name = folder.resolve().name
    handler, test = folder / f"{name}.py", folder.parent / "tests" / f"test_{name}.py"
    for path in (handler, folder / name, test):
        if path.exists():
            raise UsageError(f"{path} is there already; choose another name or remove it")
    values = {"name": name, "title": name.replace("_", " ").capitalize(), "folder": folder_name}
    for path, template in ((handler, _HANDLER), (test, _TEST)):
        _write(path, template.format(**values))
    setting = "" if str(folder) == "agents" else f"SUPERVISOR_AGENTS_DIR={folder} "
    print(
        f"Wrote {handler} and {test}\n\n"
        f"Next:\n"
        f"  python -m pip install pytest\n"
        f"  python -m pytest {test}\n"
        f"  {setting}supervisor agents add ID --handler {name} --secret-env AGENT_SECRET\n"
        f"  {setting}supervisor run"
    )


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
