"""A running supervisor with ``JOURNAL_ENCRYPTION``: what people, handlers and tracebacks say is not on the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from supervisor.core.states import MessageState
from supervisor.protocol import InboundMessage
from supervisor.settings.secrets import generate_key
from supervisor.store import Registry
from tests.support.stack import Stack, stack

HANDLER = """
async def on_message(message, ctx):
    if "please fail" in message.content:
        raise RuntimeError(f"cannot stomach {message.content}")
    return f"mangosteen for {message.content}"
"""
WORDS = ("kumquat", "rambutan", "mangosteen", "cannot stomach", "please fail", "Traceback")


def keys(*each: str) -> tuple[SecretStr, ...]:
    return tuple(map(SecretStr, each))


def found(fleet: Stack) -> list[str]:
    """Those of the words that are in the database's files, its log included."""
    files = list(fleet.folder.glob("supervisor.db*"))
    assert any(file.name.endswith("-wal") for file in files)
    raw = b"".join(file.read_bytes() for file in files)
    return [word for word in WORDS if word.encode() in raw]


async def talk(fleet: Stack, identity: str) -> None:
    """A question that is answered, and one whose handler fails with its words in the traceback."""
    [reply] = await fleet.ask(identity, "kumquat")
    assert reply.content == "mangosteen for kumquat"
    await fleet.ask(identity, "please fail, rambutan")
    await fleet.service.registry.journal.flush()


def handlers(folder: Path) -> Path:
    made = folder / "handlers"
    made.mkdir()
    (made / "fruit.py").write_text(HANDLER)
    return made


async def test_nothing_that_was_said_is_on_the_disk(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"agents_dir": handlers(tmp_path), "secret_keys": keys(generate_key())}
    async with stack(tmp_path, journal_encryption=True, **settings) as fleet:
        identity = await fleet.add(handler="fruit", settings={"max_attempts": 1})
        await fleet.online()
        await talk(fleet, identity)
        assert found(fleet) == []
        [dead] = await fleet.service.registry.journal.messages(agent_id=identity, states=[MessageState.DEAD])
        assert dead.message.content == "please fail, rambutan"
        assert "cannot stomach please fail, rambutan" in str(dead.error)
        # Turned off, new text is in the clear and the old one is read all the same.
        await fleet.restart(journal_encryption=False)
        await fleet.online()
        await talk(fleet, identity)
        assert found(fleet) == list(WORDS)
        told = await fleet.service.registry.journal.messages(agent_id=identity)
        assert [row.message.content for row in told] == ["please fail, rambutan", "kumquat"] * 2


async def test_a_key_that_is_gone_is_said_and_the_agent_goes_on(
    tmp_path: Path, log: Callable[[], list[dict[str, Any]]]
) -> None:
    old, new = generate_key(), generate_key()
    settings: dict[str, Any] = {"agents_dir": handlers(tmp_path), "secret_keys": keys(old)}
    async with stack(tmp_path, journal_encryption=True, **settings) as fleet:
        identity = await fleet.add(handler="fruit", paused=True)
        journal = fleet.service.registry.journal
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        message = await user.say(conversation, "rambutan")
        # As a run that was killed leaves it.
        waiting = InboundMessage(id=message, conversation_id=conversation, role="user", content="rambutan")
        assert await journal.add(identity, waiting, key=message, received_at=1.0, claim=False)
        await fleet.restart(secret_keys=keys(new))
        await fleet.service.control.resume(identity)
        await fleet.online()
        await fleet.until(lambda: "journaled_text_unreadable" in [line["event"] for line in log()])
        [reply] = await fleet.ask(identity, "kumquat")
        assert reply.content == "mangosteen for kumquat"
        [dead] = await fleet.service.registry.journal.messages(states=[MessageState.DEAD])
        assert "SUPERVISOR_SECRET_KEYS" in str(dead.error)
        # With the key listed again a person may replay it.
        await fleet.restart(secret_keys=keys(new, old))
        await fleet.online()
        [again] = await fleet.service.registry.journal.messages(states=[MessageState.DEAD])
        beside = await Registry.open(fleet.settings.registry_url)
        assert await beside.journal.dead_letters.replay(again)
        await beside.close()
        replies = await user.wait_for_reply(conversation, after=message, count=2)
        assert [reply.content for reply in replies] == ["mangosteen for kumquat", "mangosteen for rambutan"]
