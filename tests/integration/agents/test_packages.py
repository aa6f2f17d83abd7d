"""Handlers of packages and of the folder that import openai-agents as ``agents``; and the types as authors see them."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fake_models import MODEL_KEY, Answer, fake_models
from tests.support.paths import ROOT, STRICT_MYPY

pytestmark = pytest.mark.timeout(300)

#: In the environment, and not among its packages: mypy would take it for our folder of handlers.
OPENAI_AGENTS = Path(sys.prefix) / "openai-agents"
#: What handlers of both kinds share: a run of openai-agents on the model that their row names.
_RUN = """
from agents import Agent, OpenAIChatCompletionsModel, RunConfig, Runner, function_tool
from openai import AsyncOpenAI


@function_tool
def price(fruit: str) -> str:
    '''The price of a fruit.'''
    return f"{fruit}: 3 euros"


async def answer(message, ctx, name):
    client = AsyncOpenAI(base_url=ctx.settings["base_url"], api_key=ctx.secret(ctx.own_settings["api_key"]))
    model = OpenAIChatCompletionsModel("gpt-4o", client)
    agent = Agent(name=name, instructions=f"You are {name}.", model=model, tools=[price])
    run = Runner.run_streamed(agent, message.content, run_config=RunConfig(tracing_disabled=True))
    async for _ in run.stream_events():
        pass
    return f"{name}: {run.final_output}"
"""
#: A handler of the deployment's own folder, which is called ``agents`` as well.
OWN = f"{_RUN}\n\nasync def on_message(message, ctx):\n    return await answer(message, ctx, 'own')\n"
SHOP = f"""{_RUN}
from supervisor.handler import Handler


class Shop(Handler):
    async def on_message(self, message, ctx):
        return await answer(message, ctx, "shop")
"""
TALK = """
import asyncio, sys
from supervisor.testing import sandboxed

async def talk(handler):
    settings = {"base_url": sys.argv[1], "api_key": "env:AGENT_MODEL_KEY"}
    async with sandboxed(handler, settings=settings) as chat:
        return (await chat.ask("What is a pear?")).content

for handler in ("own", "acme_bots.shop:Shop", "echo"):
    try:
        print(asyncio.run(talk(handler)))
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.fixture
def openai_agents() -> Path:
    """The folder that openai-agents is installed in; without it the test is skipped, in CI it fails."""
    if not (OPENAI_AGENTS / "agents").is_dir():
        command = f"pip install --no-deps --target {OPENAI_AGENTS} -r tests/openai-agents.txt"
        if os.environ.get("CI"):
            pytest.fail(f"there is no openai-agents: {command}")
        pytest.skip(f"there is no openai-agents: {command}")
    return OPENAI_AGENTS


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


async def test_handlers_of_packages_and_of_the_folder_run_openai_agents(tmp_path: Path, openai_agents: Path) -> None:
    site, own = tmp_path / "site", tmp_path / "agents"
    for file, code in ((site / "acme_bots" / "shop.py", SHOP), (own / "own.py", OWN), (tmp_path / "talk.py", TALK)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
    (site / "acme_bots" / "__init__.py").touch()
    path = os.pathsep.join(map(str, (openai_agents, site)))
    async with fake_models() as models:
        for _ in range(2):
            models.say(Answer(tool_calls=(("price", {"fruit": "pear"}),)), Answer("3 euros."))
        said = await asyncio.to_thread(
            python, tmp_path, "talk.py", models.openai_url, PYTHONPATH=path, AGENT_MODEL_KEY=MODEL_KEY
        )
    assert said.splitlines() == [
        "own: 3 euros.",
        "shop: 3 euros.",
        # The bundled handlers stay beside the deployment's folder.
        "Echo: What is a pear?",
    ]
    assert {request.key for request in models.requests} == {MODEL_KEY}
    own_run, shop_run = models.requests[:2], models.requests[2:]
    for name, (first, second) in (("own", own_run), ("shop", shop_run)):
        assert f"You are {name}." in first.texts
        assert first.tools == ["price"]
        assert "pear: 3 euros" in second.texts


def test_the_public_api_passes_a_strict_type_check_from_outside(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "typing" / "api.py", tmp_path / "api.py")
    assert "Success" in python(tmp_path, "-m", *STRICT_MYPY, "api.py")


def test_a_wrong_use_of_the_api_is_found_from_outside(tmp_path: Path) -> None:
    """The types are there: without ``py.typed`` all would be Any, and nothing wrong."""
    (tmp_path / "wrong.py").write_text(
        "from supervisor.handler import Context, Message\n"
        "async def on_message(message: Message, ctx: Context) -> int:\n"
        "    return message.content\n"
    )
    with pytest.raises(AssertionError, match="Incompatible return value type"):
        python(tmp_path, "-m", *STRICT_MYPY, "wrong.py")
