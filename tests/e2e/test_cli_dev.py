"""An author's loop: ``supervisor dev`` in one terminal, ``supervisor chat`` in another."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.sandbox import Sandbox
from supervisor.testing import sandboxed
from tests.support.command import Command, until
from tests.support.observing import handlers_folder
from tests.support.paths import ROOT

#: Many processes: on a busy machine they take their time.
pytestmark = pytest.mark.timeout(300)

SHOUT = """\
async def on_message(message, ctx):
    if message.content == "fail":
        raise LookupError("nothing there")
    return message.content.upper() + ctx.settings.get("end", "")
"""
#: Works on after its first part, for longer than a pause between parts.
PARTS = """\
import asyncio
from supervisor.handler import Thinking

async def on_message(message, ctx):
    yield "one"
    yield Thinking("and then")
    while message.content == "for ever":
        await asyncio.sleep(0.2)
        yield Thinking("hm")
    for _ in range(4):
        await asyncio.sleep(0.3)
    yield "two"
    yield "three"
"""
#: Says nothing, fails, or brings a file.
BESIDE = """\
from supervisor.handler import Reply

async def on_message(message, ctx):
    match message.content:
        case "fail":
            raise LookupError("nothing there")
        case "file":
            return Reply("here", attachments=["https://x.example/a.png"])
"""
#: Hangs, in the event loop or in a thread.
HANGING = """\
import asyncio

async def on_message(message, ctx):
    ctx.log.info("it hangs now")
    await asyncio.sleep(3600)
"""
HANGING_IN_A_THREAD = """\
import threading

def on_message(message, ctx):
    ctx.log.info("it hangs now")
    threading.Event().wait(3600)
"""
#: Hangs after a part of its answer is out.
HANGING_MIDWAY = """\
import asyncio

async def on_message(message, ctx):
    yield "one"
    ctx.log.info("it hangs now")
    await asyncio.sleep(3600)
"""
STARTS_BADLY = """
class Shout(Handler):
    def on_message(self, message, ctx): ...
    def on_start(self, ctx):
        raise LookupError("no key")
"""
#: What a person may have set for a supervisor of his own; none of it may reach this one.
HOSTILE = {"SUPERVISOR_API_URL": "https://api.invalid", "SUPERVISOR_UNKNOWN": "x", "SUPERVISOR_AGENTS_DIR": "/nowhere"}


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    (tmp_path / "tmp").mkdir()
    made = Command(tmp_path, HOSTILE | {"TMPDIR": str(tmp_path / "tmp")})
    yield made
    made.close()


def chat_address(command: Command) -> str:
    """Where the sandbox of the ``dev`` that was started is, once it says so."""
    return command.wait_for_log("dev", r"(http://127\.0\.0\.1:\d+)/\?agent=650{21}1")[1]


def test_a_handler_answers_fails_with_its_traceback_and_is_followed(command: Command) -> None:
    handler = command.folder / "agents" / "shout.py"
    handler.parent.mkdir()
    handler.write_text(SHOUT)
    process = command.start("dev", "agents/shout.py", "--port", "0", "--set", "end=!")
    url = chat_address(command)
    assert f"supervisor chat shout --url {url}" in command.log("dev").read_text()

    def ask(text: str) -> str:
        return command.ok("chat", "shout", "--url", url, "--once", text)

    assert ask("hello") == "HELLO!\n"
    failed = command("chat", "shout", "--url", url, "--once", "fail")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("Error: The agent answered with an error: ")
    log = command.log("dev").read_text()
    assert re.search(r'agents/shout.py", line 3, in on_message\n +raise LookupError', log)
    assert "handler_failed" not in log, "one attempt"

    handler.write_text(SHOUT.replace("upper", "title"))
    until(lambda: ask("hello") == "Hello!\n", "the new code")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert list((command.folder / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("hanging", "said"),
    [(HANGING, "HELLO\n"), (HANGING_IN_A_THREAD, "HELLO\n"), (HANGING_MIDWAY, "one\n")],
    ids=["in the loop", "in a thread", "after a part"],
)
def test_what_hangs_in_code_that_is_mended_is_let_go_of(command: Command, hanging: str, said: str) -> None:
    """It is answered by the new code, unless a part of the answer is out: that would be said twice."""
    handler = command.folder / "agents" / "shout.py"
    handler.parent.mkdir()
    handler.write_text(hanging)
    command.start("dev", "agents/shout.py", "--port", "0")
    chat = ("chat", "shout", "--url", chat_address(command), "--timeout", "50s", "--once", "hello")
    with command.process(chat, {}, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as person:
        command.wait_for_log("dev", "it hangs now")
        handler.write_text(SHOUT)
        answer, trouble = person.communicate(timeout=60)
    assert answer == said, trouble
    if hanging is HANGING_MIDWAY:
        assert person.returncode == 1
        command.wait_for_log("dev", "its code was changed while it answered, and a part of the answer was out")


def test_what_readme_shows_answers(command: Command) -> None:
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"```python\n# (agents/shout\.py)\n(.*?)```", readme, re.DOTALL)
    assert shown
    for line in (f"supervisor dev {shown[1]}\n", 'supervisor chat shout --once "hello"'):
        assert line in readme
    file = command.folder / shown[1]
    file.parent.mkdir()
    file.write_text(shown[2])
    command.start("dev", shown[1], "--port", "0")
    assert command.ok("chat", "shout", "--url", chat_address(command), "--once", "hello") == "HELLO\n"


def test_a_handler_that_does_not_load_is_named_with_its_line_and_tried_again(command: Command) -> None:
    handler = command.folder / "shout.py"
    handler.write_text("async def on_message(message):\n    return 'x'\n")
    command.start("dev", "shout.py", "--port", "0")
    url = chat_address(command)
    said = command.wait_for_log("dev", r"shout does not run: .*")[0]
    assert "on_message(message) is called with (message, ctx), which it does not take (shout.py, line 1)" in said
    # Mended in steps, each of which but the last fails otherwise, and shows where.
    handler.write_text("async def on_message(message, ctx):\n    return nothing\n\nnothing_there()\n")
    command.wait_for_log("dev", r'shout.py", line 4, in <module>\n +nothing_there')
    handler.write_text(f"from supervisor.handler import Handler\n{STARTS_BADLY}")
    command.wait_for_log("dev", r'shout.py", line 6, in on_start\n +raise LookupError')
    gone = command("chat", "shout", "--url", url, "--once", "x", "--timeout", "0.1")
    assert gone.returncode == 1
    assert "shout is still offline after 0.1 s" in gone.stderr
    handler.write_text(SHOUT)
    # It waits for the agent.
    assert command.ok("chat", "shout", "--url", url, "--once", "x") == "X\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("agents/nothing.py",), "supervisor agents new nothing"),
        (("ecko",), "did you mean echo?"),
        (("echo", "--set", "concurrency=many"), "concurrency"),
    ],
)
def test_what_cannot_be_tried_is_refused_at_once(command: Command, args: tuple[str, ...], said: str) -> None:
    done = command("dev", *args)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_lines_are_answered_in_turn_and_only_replies_are_printed(command: Command) -> None:
    async with sandboxed("tour") as chat:
        url = ("--url", chat.sandbox.base_url)
        done = await asyncio.to_thread(command, "chat", "Agent", *url, stdin="6 * 7\n\n1 + 1\n")
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert ("42" in first, "2" in second) == (True, True)
        # Whoever runs a fleet on a sandbox of another port has said so once.
        api = {"SUPERVISOR_API_URL": chat.sandbox.api_url}
        asked = await asyncio.to_thread(Command(command.folder, api).ok, "chat", "Agent", "--once", "1 + 1")
        assert asked.strip().endswith("2")
        nobody = await asyncio.to_thread(command, "chat", "somebody", *url, "--once", "hello")
        assert (nobody.returncode, nobody.stderr) == (
            2,
            f"Error: There is no agent 'somebody' on the sandbox at {chat.sandbox.base_url}; there are: "
            f"Agent ({'a' * 24}); another sandbox: the --url that its supervisor dev shows\n",
        )


async def test_all_parts_of_an_answer_are_printed_however_long_the_agent_works_in_between(command: Command) -> None:
    agents = handlers_folder(command.folder, {"parts": PARTS})
    async with sandboxed("parts", agents_dir=agents) as chat:
        url = ("--url", chat.sandbox.base_url)
        once = await asyncio.to_thread(command.ok, "chat", "Agent", *url, "--once", "go on", "--timeout", "2m")
        assert once == "one\ntwo\nthree\n"
        piped = await asyncio.to_thread(command, "chat", "Agent", *url, stdin="a\nb\n")
        assert piped.stdout == "one\ntwo\nthree\n" * 2
        endless = await asyncio.to_thread(command.ok, "chat", "Agent", *url, "--once", "for ever", "--timeout", "4s")
        assert endless == "one\n"


async def test_what_has_no_answer_is_said_and_the_next_line_is_asked(command: Command) -> None:
    agents = handlers_folder(command.folder, {"beside": BESIDE})
    async with sandboxed("beside", agents_dir=agents, max_attempts=1) as chat:
        ask = ("chat", "agent", "--url", chat.sandbox.base_url)
        done = await asyncio.to_thread(command, *ask, stdin="nothing\nfail\nfile\n")
        assert done.returncode == 1
        assert done.stdout.splitlines() == ["here", "attachment: https://x.example/a.png"]
        nothing, failed = done.stderr.splitlines()
        assert nothing == "Error: (the handler sent no answer: one that returns None says nothing)"
        assert failed.startswith("Error: The agent answered with an error: ")


async def test_a_users_token_leads_to_an_agent_of_a_platform(command: Command) -> None:
    async with sandboxed("echo", profile="v2") as chat:
        # A real platform is that of the settings.
        command.env.clear()
        env = {"SUPERVISOR_WS_URL": chat.sandbox.ws_url, "PERSON": chat.sandbox.tokens.for_user("d" * 24)}
        ask = ("chat", "a" * 24, "--token-env", "PERSON", "--once", "hello")
        assert await asyncio.to_thread(command.ok, *ask, **env) == "Echo: hello\n"
        wrong = await asyncio.to_thread(command, *ask, **env | {"PERSON": "not-a-token"})
        assert wrong.returncode == 1
        assert "not-a-token" not in wrong.stderr
        missing = await asyncio.to_thread(command, *ask, **env | {"PERSON": ""})
        assert missing.stderr == "Error: PERSON is empty; it is to hold a user's token of the platform\n"


async def test_where_there_is_no_sandbox_it_says_what_to_start(command: Command) -> None:
    async with Sandbox() as sandbox:
        url = sandbox.base_url
    done = await asyncio.to_thread(command, "chat", "echo", "--url", url, "--once", "hello")
    assert done.returncode == 1
    assert f"No sandbox answers at {url}" in done.stderr
    assert "supervisor dev FILE" in done.stderr
