"""Handlers of installed packages, beside one whose import name is ``agents``; and the types as authors see them."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)

#: As openai-agents is imported.
OPENAI_AGENTS = {
    "agents/__init__.py": "from agents.runner import Runner\n",
    "agents/runner.py": "class Runner:\n    def run(self, text):\n        return f'ran {text}'\n",
}
SHOP = {
    "acme_bots/__init__.py": "",
    "acme_bots/shop.py": (
        "from agents import Runner\n"
        "from supervisor.handler import Handler\n"
        "class Shop(Handler):\n"
        "    async def on_message(self, message, ctx):\n"
        "        return 'shop ' + Runner().run(message.content)\n"
    ),
}
#: A handler of the deployment's own folder, which is called ``agents`` as well.
OWN = """
from agents import Runner

async def on_message(message, ctx):
    return "own " + Runner().run(message.content)
"""
TALK = """
import asyncio
from supervisor.testing import sandboxed

async def talk(handler):
    async with sandboxed(handler) as chat:
        return (await chat.ask("hello")).content

for handler in ("own", "acme_bots.shop:Shop", "echo"):
    try:
        print(asyncio.run(talk(handler)))
    except Exception as error:
        print(type(error).__name__, error)
"""


def wheel(folder: Path, name: str, files: Mapping[str, str]) -> Path:
    """A wheel made by hand: building one would want a network."""
    info = f"{name}-1.0.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in contents.items()]
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in contents.items():
            archive.writestr(member, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def python(folder: Path, *args: str, **env: str) -> str:
    """Run Python in a folder; its output, once it succeeded."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SUPERVISOR_")}
    done = subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env=inherited | env,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_handlers_of_packages_and_of_the_folder_import_another_package_called_agents(tmp_path: Path) -> None:
    site, own = tmp_path / "site", tmp_path / "agents"
    wheels = [wheel(tmp_path, "openai_agents", OPENAI_AGENTS), wheel(tmp_path, "acme_bots", SHOP)]
    install = ("-m", "pip", "install", "-q", "--no-index", "--no-deps", "--disable-pip-version-check")
    python(tmp_path, *install, "--target", str(site), *map(str, wheels))
    own.mkdir()
    (own / "own.py").write_text(OWN)
    (tmp_path / "talk.py").write_text(TALK)
    said = python(tmp_path, "talk.py", PYTHONPATH=str(site)).splitlines()
    assert said[:2] == ["own ran hello", "shop ran hello"]
    # The deployment's folder takes the place of the bundled one.
    assert said[2:] == [f"HandlerError There is no handler 'echo' in {own}; there are: own"]


def test_the_public_api_passes_a_strict_type_check_from_outside(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "typing" / "api.py", tmp_path / "api.py")
    assert "Success" in python(tmp_path, "-m", "mypy", "--strict", "--config-file=", "api.py")


def test_a_wrong_use_of_the_api_is_found_from_outside(tmp_path: Path) -> None:
    """The types are there: without ``py.typed`` all would be Any, and nothing wrong."""
    (tmp_path / "wrong.py").write_text(
        "from supervisor.handler import Context, Message\n"
        "async def on_message(message: Message, ctx: Context) -> int:\n"
        "    return message.content\n"
    )
    with pytest.raises(AssertionError, match="Incompatible return value type"):
        python(tmp_path, "-m", "mypy", "--strict", "--config-file=", "wrong.py")
