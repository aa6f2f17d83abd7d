"""Which agents commands are about: ids, names, beginnings of them, and selections by label, state and handler."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import Command, InProcess, one_line

pytestmark = pytest.mark.timeout(300)

ADA, GRACE, TWIN = "6500" + "a" * 20, "6500" + "b" * 20, "7700" + "c" * 20


@pytest.fixture
def command(tmp_path: Path) -> Command:
    made = InProcess(tmp_path, {"AGENT_SECRET": "x"})
    rows = [
        ("--handler", "echo", "--name", "Ada", "--label", "team=support"),
        ("--handler", "tour", "--name", "Grace", "--label", "team=support", "--label", "tier=1"),
        ("--handler", "echo", "--name", "Grace", "--paused"),
    ]
    for agent, options in zip((ADA, GRACE, TWIN), rows, strict=True):
        made.ok("agents", "add", agent, "--secret-env", "AGENT_SECRET", *options)
    return made


def ids(command: Command, *options: str) -> list[str]:
    return [agent["id"] for agent in command.json("agents", "list", *options)]


def paused(command: Command) -> list[str]:
    return [agent["id"] for agent in command.json("agents", "list") if agent["paused"]]


def test_an_agent_is_meant_by_its_id_its_name_or_the_beginning_of_either(command: Command) -> None:
    assert command.json("agents", "show", "Ada")["id"] == ADA
    assert command.json("agents", "show", "6500a")["id"] == ADA
    assert command.json("agents", "show", "7700")["id"] == TWIN
    command.ok("agents", "pause", "Ada")
    assert paused(command) == [ADA, TWIN]
    assert f"Resumed agent {ADA};" in command.ok("agents", "resume", "6500a")
    assert command.json("agents", "update", "Ada", "--set", "history=2")["settings"] == {"history": 2}
    assert command("messages", "list", "--agent", "Ada").returncode == 0
    assert command("usage", "--agent", "Ada").returncode == 0


@pytest.mark.parametrize(
    "args", [("agents", "show"), ("agents", "pause"), ("messages", "list", "--agent"), ("usage", "--agent")]
)
@pytest.mark.parametrize("text", ["Grace", "6500"])
def test_what_stands_for_several_agents_is_called_wrongly_and_names_them(
    command: Command, args: tuple[str, ...], text: str
) -> None:
    done = command(*args, text)
    assert (done.returncode, done.stdout) == (2, "")
    others = (GRACE, TWIN) if text == "Grace" else (ADA, GRACE)
    assert all(agent in one_line(done.stderr) for agent in others)
    assert paused(command) == [TWIN]


def test_what_deletes_takes_the_whole_of_an_id_or_a_name_or_asks(command: Command) -> None:
    for args in (("agents", "remove", "6500a"), ("messages", "purge", "--agent", "6500a")):
        unasked = command(*args)
        assert (unasked.returncode, "add --yes" in one_line(unasked.stderr)) == (2, True)
        refused = command(*args, "--yes")
        assert refused.returncode == 2
        assert f"write the whole id or name: {ADA} or 'Ada', not '6500a'" in one_line(refused.stderr)
    assert len(ids(command)) == 3
    assert command.json("agents", "remove", "Ada", "--yes") == {"removed": ADA}
    assert ids(command) == [GRACE, TWIN]


def test_lists_show_what_is_selected(command: Command) -> None:
    assert ids(command, "--label", "team=support") == [ADA, GRACE]
    assert ids(command, "--label", "team", "--label", "tier=1") == [GRACE]
    assert ids(command, "--handler", "echo", "--handler", "tour") == [ADA, GRACE, TWIN]
    assert ids(command, "--handler", "echo", "--state", "stopped") == [ADA]
    assert ids(command, "--state", "failing") == []
    none = command("agents", "list", "--label", "team=sales")
    assert (none.returncode, none.stdout, one_line(none.stderr)) == (0, "", "No agent matches")


def test_what_is_selected_is_paused_changed_and_removed_together(command: Command) -> None:
    shown = command.json("agents", "pause", "--label", "team=support")
    assert [(agent["id"], agent["paused"]) for agent in shown] == [(ADA, True), (GRACE, True)]
    assert paused(command) == [ADA, GRACE, TWIN]
    assert command.ok("agents", "resume", "--all").count("Resumed agent") == 3
    command.ok("agents", "update", "--where-handler", "echo", "--label", "new=yes", "--set", "history=3")
    assert ids(command, "--label", "new=yes") == [ADA, TWIN]
    assert ids(command, "--handler", "tour") == [GRACE]
    asked = command("agents", "remove", "--handler", "echo")
    assert (asked.returncode, "Remove 2 agents? Nobody is there" in one_line(asked.stderr)) == (2, True)
    assert command.json("agents", "remove", "--handler", "echo", "--yes") == {"removed": [ADA, TWIN]}
    assert ids(command) == [GRACE]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("agents", "pause"), "Say which agents"),
        (("agents", "pause", "Ada", "--all"), "not both"),
        (("agents", "update", "Ada", "--where-handler", "echo", "--name", "x"), "not both"),
        (("agents", "list", "--state", "asleep"), "no state 'asleep'; there are: "),
        (("agents", "list", "--label", "=x"), "KEY=VALUE or KEY"),
        (("messages", "list", "--agent", "Ada", "--label", "team"), "not both"),
        (("usage", "--agent", "Ada", "--label", "team"), "not both"),
        (
            ("agents", "add", "x1", "--handler", "echo", "--secret-env", "AGENT_SECRET", "--paused", "--wait"),
            "--paused",
        ),
    ],
)
def test_a_selection_that_makes_no_sense_is_called_wrongly(command: Command, args: tuple[str, ...], said: str) -> None:
    done = command(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in one_line(done.stderr)
    assert len(ids(command)) == 3


def test_an_agent_that_cannot_run_yet_is_added_when_asked(command: Command) -> None:
    given = ("agents", "add", "8800" + "d" * 20, "--handler", "ecco", "--secret-env", "AGENT_SECRET")
    refused = command(*given)
    assert (refused.returncode, "did you mean echo?" in one_line(refused.stderr)) == (1, True)
    added = command(*given, "--keep-going")
    assert (added.returncode, "until that is mended the agent is faulted" in one_line(added.stderr)) == (0, True)
    assert len(ids(command)) == 4


def test_nobody_waits_where_no_supervisor_runs(command: Command) -> None:
    given = ("agents", "add", "8800" + "d" * 20, "--handler", "echo", "--secret-env", "AGENT_SECRET", "--wait")
    done = command(*given)
    assert (done.returncode, "start it with: supervisor run" in one_line(done.stderr)) == (1, True)
    assert len(ids(command)) == 3, "nothing is added"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("supervisor agents pau", ["pause"]),
        ("supervisor agents show 65", [ADA, GRACE]),
        ("supervisor messages list --agent G", ["Grace", "Grace"]),
        ("supervisor agents show nobody", []),
    ],
)
def test_the_shell_completes_commands_and_agents(command: Command, words: str, offered: list[str]) -> None:
    given = {"_SUPERVISOR_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    process = Command(command.folder, command.env)
    assert process("", **given).stdout.split() == offered
