"""``supervisor messages`` on a registry that no supervisor runs: listed, shown, replayed, discarded, erased."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from supervisor.core.states import MessageState, ReplyState
from supervisor.handler import AttachmentDetails
from supervisor.protocol import InboundMessage
from supervisor.store import Registry
from tests.support.command import Command, InProcess, one_line
from tests.support.journaling import add, answer

pytestmark = pytest.mark.timeout(300)

T = TypeVar("T")

A1, A2 = "a" * 24, "b" * 24
TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 3, in on_message\nValueError: no such order'
SUMMARY = [
    *("id", "agent_id", "conversation_id", "message_id", "sender", "role", "content", "content_chars", "state"),
    *("attempts", "replays", "received_at", "settled_at", "not_before", "reason"),
]
DETAILS = [*SUMMARY, "type", "attachments", "error", "replies"]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    made = InProcess(tmp_path, {"AGENT_SECRET": "x"})
    for agent in (A1, A2):
        made.ok("agents", "add", agent, "--handler", "echo", "--secret-env", "AGENT_SECRET")
    return made


def journal(command: Command, work: Callable[[Registry], Awaitable[T]]) -> T:
    """Do something with the registry as a supervisor would."""

    async def run() -> T:
        registry = await Registry.open(f"sqlite+aiosqlite:///{command.folder / 'supervisor.db'}", upgrade=True)
        try:
            return await work(registry)
        finally:
            await registry.close()

    return asyncio.run(run())


def bury(command: Command, key: str, *, age_seconds: float = 10.0, error: str = TRACEBACK, **fields: Any) -> int:
    """A dead letter and the apology that was sent; the letter's number."""

    async def work(registry: Registry) -> int:
        row = await add(registry.journal, key, at=time.time() - age_seconds, claim=True, **{"agent": A1} | fields)
        replies = [answer("Sorry", conversation=row.conversation_id)]
        settled = await registry.journal.settle(row, MessageState.DEAD, error=error, replies=replies)
        assert settled is not None
        await registry.journal.settle_reply(settled[0], ReplyState.ACKED)
        return row.id

    return journal(command, work)


def finish(command: Command, key: str, fate: ReplyState) -> int:
    """A message that was answered, and what became of the answer; its number."""

    async def work(registry: Registry) -> int:
        row = await add(registry.journal, key, at=time.time(), claim=True, agent=A1)
        settled = await registry.journal.settle(row, MessageState.DONE, replies=[answer("the answer")])
        assert settled is not None
        await registry.journal.settle_reply(settled[0], fate, "You do not have permission to create.")
        return row.id

    return journal(command, work)


def numbers(command: Command, *options: str) -> list[int]:
    return [message["id"] for message in command.json("messages", "list", *options)]


def states(command: Command) -> dict[int, str]:
    options = [option for state in MessageState for option in ("--state", str(state))]
    return {message["id"]: message["state"] for message in command.json("messages", "list", *options)}


def test_each_command_about_messages_works_as_a_process(command: Command) -> None:
    process = Command(command.folder, command.env)
    first, second = bury(command, "k1"), bury(command, "k2")
    assert "no such order" in process.ok("messages", "list")
    assert "x.py" in process.ok("messages", "show", str(first))
    assert "replayed" in process.ok("messages", "replay", str(first))
    assert "discarded" in process.ok("messages", "discard", str(second))
    assert "Erased 4" in process.ok("messages", "purge", "--agent", A1, "--yes")


def test_no_dead_letter_is_one_plain_line_and_an_empty_list(command: Command) -> None:
    done = command("messages", "list")
    assert (done.returncode, done.stdout, one_line(done.stderr)) == (0, "", "No dead letters")
    assert command.json("messages", "list") == []
    bury(command, "k1")
    assert one_line(command("messages", "list", "--state", "done").stderr) == "No message matches"


def test_of_files_that_came_along_the_host_and_the_name_are_shown(command: Command) -> None:
    url = "https://api.telegram.org/file/bot123:KEY/photos/1.jpg"
    message = InboundMessage(
        conversation_id="c1",
        role="user",
        content="look",
        attachments=(url, "document:7"),
        attachment_details=(AttachmentDetails(name="me.jpg", media_type="image/jpeg"), AttachmentDetails()),
    )

    async def work(registry: Registry) -> int:
        row = await registry.journal.add(A1, message, key="k1", received_at=time.time(), claim=False)
        assert row is not None
        return row.id

    number = str(journal(command, work))
    shown = ["https://api.telegram.org/… (me.jpg, image/jpeg)", "document:7"]
    assert command.json("messages", "show", number)["attachments"] == shown
    text = command.ok("messages", "show", number)
    assert ", ".join(shown) in text
    assert "KEY" not in text


def test_dead_letters_are_listed_a_line_each(command: Command) -> None:
    old = bury(command, "k1", age_seconds=3 * 3600)
    new = bury(command, "k2", conversation="c2", error="RuntimeError: \x1b[31mred\x1b[0m \u202eflip")
    finish(command, "k3", ReplyState.ACKED)
    done = command("messages", "list")
    head, first, second = done.stdout.splitlines()
    assert head.split() == [
        *("NUMBER", "AGENT", "NAME", "CONVERSATION", "STATE", "AGE", "ATTEMPTS", "FROM", "SAID", "REASON")
    ]
    assert first.split()[:5] == [str(new), A1, "-", "c2", "dead"]
    assert first.endswith("RuntimeError: [31mred[0m flip")
    assert second.split() == [
        *(str(old), A1, "-", "c1", "dead", "3", "h", "1", "-", "hello", "ValueError:", "no", "such", "order")
    ]
    assert one_line(done.stderr) == f"show one with: supervisor messages show {new}"
    one = command("messages", "list", "--limit", "1")
    assert len(one.stdout.splitlines()) == 2
    assert one_line(one.stderr).startswith("1 more match, see --limit; ")


def test_filters_choose_what_is_listed(command: Command) -> None:
    old = bury(command, "k1", age_seconds=3 * 3600)
    new = bury(command, "k2", conversation="c2")
    foreign = bury(command, "k3", agent=A2)
    acked, refused, unknown = (
        finish(command, fate, fate) for fate in (ReplyState.ACKED, ReplyState.DEAD, ReplyState.UNKNOWN)
    )
    assert numbers(command) == [refused, foreign, new, old]
    assert numbers(command, "--state", "dead") == [foreign, new, old]
    assert numbers(command, "--agent", A1) == [refused, new, old]
    assert numbers(command, "--conversation", "c1") == [refused, foreign, old]
    assert numbers(command, "--older-than", "2h") == [old]
    assert numbers(command, "--newer-than", "1.5h", "--agent", A1) == [refused, new]
    assert numbers(command, "--state", "done") == [unknown, refused, acked]
    assert numbers(command, "--state", "done", "--state", "dead", "--limit", "3") == [unknown, refused, acked]
    assert numbers(command, "--undelivered") == [unknown, refused]
    assert numbers(command, "--undelivered", "--state", "dead") == []


def test_a_message_is_shown_with_all_that_is_known_of_it(command: Command) -> None:
    number = bury(command, "k1", content="first line\nsecond line" + "x" * 5000)
    text = command.ok("messages", "show", str(number))
    assert all(part in text for part in (A1, "c1", "dead", "first line\n", TRACEBACK.splitlines()[1].strip()))
    assert "part 0 (text) acked" in text
    assert "Sorry" in text
    assert "3022 more characters; --full shows them" in text
    assert "x" * 5000 in command.ok("messages", "show", str(number), "--full")
    shown = command.json("messages", "show", str(number))
    assert list(shown) == DETAILS
    assert (shown["state"], shown["attempts"], shown["replays"], shown["error"]) == ("dead", 1, 0, TRACEBACK)
    assert shown["reason"] == "ValueError: no such order"
    assert [(reply["state"], reply["content"], reply["attempts"]) for reply in shown["replies"]] == [
        ("acked", "Sorry", 0)
    ]
    [listed] = command.json("messages", "list")
    assert list(listed) == SUMMARY
    assert (len(listed["content"]), listed["content_chars"]) == (1000, 5022)


def test_a_reply_that_was_refused_is_shown_with_the_reason(command: Command) -> None:
    number = finish(command, "k1", ReplyState.DEAD)
    text = command.ok("messages", "show", str(number))
    assert "part 0 (text) dead: You do not have permission to create." in text


def test_a_reply_that_did_not_arrive_is_a_dead_letter_that_is_sent_again(command: Command) -> None:
    undelivered, dead = finish(command, "k1", ReplyState.DEAD), bury(command, "k2")
    finish(command, "k3", ReplyState.ACKED)
    _, _, second = command("messages", "list").stdout.splitlines()
    assert second.split()[:5] == [str(undelivered), A1, "-", "c1", "done"]
    assert "undelivered: You do not have permission" in second
    before = command.json("messages", "show", str(undelivered))["replies"][0]
    left = command("messages", "discard", str(undelivered))
    assert left.returncode == 1
    assert one_line(left.stderr) == (
        f"Error: Message {undelivered} is done, only a reply did not arrive: it can be replayed, "
        "there is nothing to discard"
    )
    assert command("messages", "discard", "--all").stderr.startswith("Error: Discard 1 dead letter?")
    done = command("messages", "replay", "--all", "--yes")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    assert states(command) == {undelivered: "done", dead: "available", dead + 1: "done"}
    assert numbers(command) == []
    after = command.json("messages", "show", str(undelivered))["replies"][0]
    assert after == before | {"state": "pending"}
    again = command("messages", "replay", str(undelivered))
    assert again.returncode == 1
    assert one_line(again.stderr).endswith("is done; only a dead letter can be replayed or discarded")


def test_what_looks_secret_in_a_failure_is_not_shown(command: Command) -> None:
    number = bury(command, "k1", error="RuntimeError: refused, token=s3cr3t-value")
    everything = command.ok("messages", "show", str(number)) + command.ok("messages", "list")
    everything += str(command.json("messages", "show", str(number)))
    assert "token=[redacted]" in everything
    assert "s3cr3t" not in everything


def test_a_dead_letter_is_replayed_with_all_its_attempts(command: Command) -> None:
    number = bury(command, "k1")
    done = command("messages", "replay", str(number))
    assert (done.returncode, done.stdout) == (0, f"Message {number} of agent {A1} replayed\n")
    assert "supervisor run" in one_line(done.stderr)
    shown = command.json("messages", "show", str(number))
    assert (shown["state"], shown["attempts"], shown["replays"]) == ("available", 0, 1)


@pytest.mark.parametrize(("verb", "state"), [("replay", "available"), ("discard", "cancelled")])
def test_one_that_is_not_dead_is_an_error_and_the_others_go(command: Command, verb: str, state: str) -> None:
    first, answered, last = bury(command, "k1"), finish(command, "k2", ReplyState.ACKED), bury(command, "k3")
    wanted = [str(number) for number in (last, answered, 99, first, last)]
    done = command("messages", verb, *wanted)
    assert done.returncode == 1
    assert [line.split()[1] for line in done.stdout.splitlines()] == [str(first), str(last)]
    not_dead, missing, *_ = done.stderr.splitlines()
    assert not_dead == f"Error: Message {answered} is done; only a dead letter can be replayed or discarded"
    assert missing == "Error: There is no message 99; see: supervisor messages list"
    assert states(command) == {first: state, answered: "done", last: state}
    again = command("messages", verb, str(first), "--json")
    assert again.returncode == 1
    assert f'"error": "Message {first} is {state}' in again.stdout


def test_without_a_supervisor_what_waits_is_cancelled_and_what_has_ended_is_an_error(command: Command) -> None:
    async def work(registry: Registry) -> int:
        return (await add(registry.journal, "waits", at=time.time(), agent=A1)).id

    waits, dead = journal(command, work), bury(command, "k1")
    done = command("messages", "cancel", str(dead), str(waits))
    assert done.returncode == 1
    assert done.stdout == f"Message {waits} of agent {A1} cancelled\n"
    assert one_line(done.stderr).startswith(f"Error: Message {dead} is dead: nothing runs")
    shown = command.json("messages", "show", str(waits))
    assert (shown["state"], shown["reason"]) == ("cancelled", "cancelled by an operator")


def test_all_that_match_are_replayed_in_order_and_the_rest_is_left(command: Command) -> None:
    letters = [bury(command, f"k{number}", age_seconds=7200) for number in range(3)]
    recent, foreign = bury(command, "recent"), bury(command, "foreign", agent=A2, age_seconds=7200)
    done = command("messages", "replay", "--agent", A1, "--older-than", "1h", "--all", "--yes")
    assert done.returncode == 0
    assert [int(line.split()[1]) for line in done.stdout.splitlines()] == letters
    assert done.stderr.startswith("Replay 3 dead letters\n")
    assert numbers(command) == [foreign, recent]
    discarded = command.json("messages", "discard", "--conversation", "c1", "--all", "--yes")
    assert discarded == [{"id": number, "done": True, "error": ""} for number in (recent, foreign)]
    empty = command("messages", "discard", "--all")
    assert (empty.returncode, one_line(empty.stderr)) == (0, "No dead letter matches")


def test_all_asks_with_the_count_first(command: Command) -> None:
    letters = [bury(command, f"k{number}") for number in range(2)]
    for verb in ("replay", "discard"):
        unasked = command("messages", verb, "--all")
        assert unasked.returncode == 2
        assert f"{verb.capitalize()} 2 dead letters? Nobody is there to ask; add --yes" in one_line(unasked.stderr)
    assert numbers(command) == letters[::-1]
    assert typed(command, "n", "messages", "replay", "--all") == 1
    assert numbers(command) == letters[::-1]
    assert typed(command, "y", "messages", "replay", "--all") == 0
    assert numbers(command) == []


def typed(command: Command, key: str, *args: str) -> int:
    """Run a command at a terminal where a person types ``key``; the exit code."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, **command.env}
    with subprocess.Popen(
        [sys.executable, "-m", "supervisor", *args],
        cwd=command.folder,
        env=environment,
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.write(ours, f"{key}\n".encode())
        code = process.wait(60)
    os.close(ours)
    os.close(theirs)
    return code


def test_a_removed_agents_dead_letter_is_not_replayed_to_nobody(command: Command) -> None:
    number = bury(command, "k1")
    command.ok("agents", "remove", A1, "--yes")
    done = command("messages", "replay", str(number))
    assert done.returncode == 1
    assert f"Message {number} is of agent {A1}, which is registered no more" in one_line(done.stderr)
    assert command.ok("messages", "discard", str(number))


def test_a_purge_erases_an_agents_words_or_those_of_one_conversation(command: Command) -> None:
    bury(command, "k1", content="s3cr3t words")
    kept = bury(command, "k2", conversation="c2")
    foreign = bury(command, "k3", agent=A2)
    unasked = command("messages", "purge", "--agent", A1)
    assert unasked.returncode == 2
    assert "Erase for good" in one_line(unasked.stderr)
    assert "Erased 2" in command.ok("messages", "purge", "--agent", A1, "--conversation", "c1", "--yes")
    assert numbers(command) == [foreign, kept]
    assert command.json("messages", "purge", "--agent", A1, "--yes") == {"erased": 2, "copies": []}
    copy = command.folder / "supervisor.db.before-0003-20260131T120000Z"
    copy.write_text("as it was before an upgrade")
    said = command.json("messages", "purge", "--agent", A1, "--yes")
    assert said == {"erased": 0, "copies": [str(copy)]}
    assert not copy.exists(), "what held the same words is erased too"
    saved = command.folder / "supervisor.db.rescued-20260131T120000Z"
    saved.write_text("what was saved when it was lost")
    done = command("messages", "purge", "--agent", A1, "--yes")
    assert (done.returncode, f"{saved} was saved when" in done.stderr, saved.exists()) == (0, True, True)
    assert b"s3cr3t words" not in (command.folder / "supervisor.db").read_bytes()
    assert numbers(command) == [foreign]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("list", "--older-than", "soon"), "'--older-than': 'soon' is none; say 90s, 15m"),
        (("list", "--newer-than", "-1h"), "'--newer-than': '-1h' is none; say 90s, 15m"),
        (("list", "--older-than", "9" * 400 + "d"), "'--older-than': '9999"),
        (("list", "--state", "sleeping"), "sleeping"),
        (("list", "--limit", "0"), "limit"),
        (("list", "--agent", "\udcff"), "--agent wants an id"),
        (("show", "x"), "NUMBER"),
        (("show", "0"), "NUMBER"),
        (("show", "9" * 30), "NUMBER"),
        (("replay",), "their numbers, or --all"),
        (("replay", "1", "--all"), "not both"),
        (("replay", "1", "--agent", A1), "go with --all"),
        (("discard", "--agent", A1), "their numbers, or --all"),
        (("purge",), "--agent"),
        (("purge", "--agent", "", "--yes"), "--agent wants an id"),
        (("purge", "--agent", A1, "--conversation", "", "--yes"), "--conversation wants an id"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(command: Command, args: tuple[str, ...], said: str) -> None:
    done = command("messages", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in one_line(done.stderr)


def test_messages_are_listed_with_names_and_what_was_said(command: Command) -> None:
    command.ok("agents", "update", A1, "--name", "Ada", "--label", "team=support")
    own = bury(command, "k1", content="Where is my \x1b[31morder? " + "x" * 80)
    bury(command, "k2", agent=A2)
    head, line = command.ok("messages", "list", "--label", "team=support").splitlines()
    assert {"NAME", "FROM", "SAID"} <= set(head.split())
    assert line.split()[:3] == [str(own), A1, "Ada"]
    assert "Where is my [31morder? xxxxxxxxxxxxxxxx…" in line
    assert "x" * 30 not in line
    assert numbers(command, "--agent", "Ada") == [own]
    assert numbers(command, "--agent-state", "failing") == []
    assert numbers(command, "--label", "team=sales") == []
    done = command("messages", "discard", "--label", "team=support", "--all", "--yes")
    assert (done.returncode, done.stdout) == (0, f"Message {own} of agent {A1} discarded\n")


def test_a_purge_erases_what_one_person_said_and_was_answered(command: Command) -> None:
    async def work(registry: Registry) -> list[int]:
        said = []
        for number, (agent, person) in enumerate([(A1, "ann"), (A1, "bob"), (A2, "ann")]):
            message = InboundMessage(conversation_id="c1", role="user", content="s3cr3t", sender_user_id=person)
            row = await registry.journal.add(agent, message, key=f"k{number}", received_at=time.time(), claim=True)
            assert row is not None
            await registry.journal.settle(row, MessageState.DONE, replies=[answer("s3cr3t too")])
            said.append(row.id)
        return said

    first, bobs, second = journal(command, work)
    assert command("messages", "purge", "--person", "ann").returncode == 2, "it asks"
    assert command.json("messages", "purge", "--person", "nobody", "--yes") == {"erased": 0, "copies": []}
    assert command.json("messages", "purge", "--person", "ann", "--agent", A2, "--yes")["erased"] == 2
    assert sorted(states(command)) == [first, bobs]
    done = command("messages", "purge", "--person", "ann", "--yes")
    assert done.stdout == "Erased 2 messages and replies\n"
    assert "what ann said and was answered" in one_line(done.stderr)
    assert sorted(states(command)) == [bobs]
    assert second not in states(command)
