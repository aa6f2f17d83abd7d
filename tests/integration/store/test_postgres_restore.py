"""The restore drill of docs/operate.md, as it stands there: what was copied under a running supervisor is all there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from supervisor.core.records import AgentRecord
from supervisor.store import LockInfo, Registry
from tests.support import postgres
from tests.support.journaling import AGENT, add, answer, settle
from tests.support.paths import ROOT
from tests.support.postgres_servers import programs

DRILL = re.compile(r"<!-- drill -->\n```sh\n(.*?)```", re.DOTALL)


@pytest.fixture
def url() -> str:
    """Of a database that is called as the one of the documentation, and its owner too."""
    for statement in (
        "DROP DATABASE IF EXISTS drill",
        "DROP DATABASE IF EXISTS supervisor WITH (FORCE)",
        "DROP ROLE IF EXISTS supervisor",
        "CREATE ROLE supervisor LOGIN",
        "CREATE DATABASE supervisor OWNER supervisor",
    ):
        postgres.on_server(statement)
    return postgres.database_url("supervisor").replace("postgres:@", "supervisor:@")


async def test_what_was_copied_while_it_ran_is_all_there(url: str, tmp_path: Path) -> None:
    running = await Registry.open(url, upgrade=True, lock=LockInfo())
    await running.add_agent(AgentRecord(AGENT, "echo", "env:AGENT_A"))
    await settle(running.journal, await add(running.journal, "answered", claim=True), answer("hi"))
    await add(running.journal, "began", claim=True)
    await add(running.journal, "waits")

    (drill,) = DRILL.findall((ROOT / "docs/operate.md").read_text())
    first, *steps, last = drill.splitlines()
    assert first.startswith("export DRILL_URL=")
    host = parse_qs(urlsplit(url).query)["host"][0]
    path = f"{programs(18)}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "PGHOST": host, "PGUSER": "postgres", "HOME": str(tmp_path)}
    environment["DRILL_URL"] = drilled = url.replace("/supervisor?", "/drill?")
    done = subprocess.run(
        ["sh", "-euxc", "\n".join(steps)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sound, schema" in done.stdout
    assert "1 agents" in done.stdout
    await running.close()

    restored = await Registry.open(drilled)
    assert restored.uuid == running.uuid
    assert [agent.id for agent in await restored.agents()] == [AGENT]
    rows = {row.key: row.state for row in await restored.journal.messages()}
    assert rows == {"answered": "done", "began": "running", "waits": "available"}
    assert [reply.message.content for reply in await restored.journal.unsent(AGENT)] == ["hi"]
    assert (await add(restored.journal, "new")).id > 3
    await restored.close()
    subprocess.run(["sh", "-euc", last], cwd=tmp_path, env=environment, check=True)
    assert postgres.on_server("SELECT count(*) FROM pg_database WHERE datname = 'drill'") == [(0,)]
