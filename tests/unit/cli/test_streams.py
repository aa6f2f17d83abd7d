"""What a command writes, in any encoding, or into nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.core.records import AgentRecord
from supervisor.management.fleet_file import parse
from supervisor.store import Registry
from tests.support.command import Command

NAME = "Jürgen 你好 😀"
ID = "650000000000000000000001"
#: Encodings as people have them: by the locale, or set by hand.
ENCODINGS = {
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""},
}


@pytest.fixture
async def command(tmp_path: Path) -> Command:
    url = f"sqlite+aiosqlite:///{tmp_path}/supervisor.db"
    registry = await Registry.open(url, upgrade=True)
    await registry.add_agent(AgentRecord(ID, "echo", "env:AGENT_SECRET", name=NAME))
    await registry.close()
    return Command(tmp_path, {"SUPERVISOR_REGISTRY_URL": url})


def output(command: Command, *args: str, encoding: str) -> bytes:
    pipe = subprocess.PIPE
    with command.process(args, ENCODINGS[encoding], stdout=pipe, stderr=pipe) as process:
        assert process.stdout
        written = process.stdout.buffer.read()  # type: ignore[attr-defined]
        assert process.wait(60) == 0
        return bytes(written)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_programs_read_is_the_same_in_every_encoding(command: Command, encoding: str) -> None:
    [agent] = json.loads(output(command, "agents", "list", "--json", encoding=encoding))
    assert agent["name"] == NAME
    [record] = parse(output(command, "agents", "export", encoding=encoding).decode("ascii"), "fleet.yaml")
    assert record.name == NAME


def test_what_people_read_loses_nothing_and_keeps_its_signs(command: Command) -> None:
    table = output(command, "agents", "list", encoding="C").decode("ascii")
    assert "J\\xfcrgen \\u4f60\\u597d \\U0001f600" in table
    assert "o stopped" in table


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_said(command: Command, unbuffered: str) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123  a device
        env = {"PYTHONUNBUFFERED": unbuffered}
        with command.process(("agents", "list"), env, stdout=full, stderr=subprocess.PIPE) as process:
            _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.startswith("Error: ")
    assert "No space left on device" in said
    assert len(said.splitlines()) == 1


def test_a_reader_that_has_gone_is_no_trouble(command: Command) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with command.process(("agents", "list"), {}, stdout=writes, stderr=subprocess.PIPE) as process:
        os.close(writes)
        _, said = process.communicate(timeout=60)
    assert said == ""


def test_closed_streams_are_written_to_in_vain_and_are_no_place_for_files(command: Command) -> None:
    shell = f"exec {sys.executable} -m supervisor agents add {ID[:-1]}2 --handler echo --secret-env AGENT_SECRET"
    done = subprocess.run(
        ["sh", "-c", f"{shell} <&- >&- 2>&-"], cwd=command.folder, env={**os.environ, **command.env}, check=False
    )
    assert done.returncode == 0
    assert len(json.loads(output(command, "agents", "list", "--json", encoding="C"))) == 2
