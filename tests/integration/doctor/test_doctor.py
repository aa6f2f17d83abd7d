"""``supervisor doctor`` against a platform over real sockets: each exit code, what it advises, whom it leaves alone."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import AgentState
from supervisor.doctor import Examiner, Finding, check_fleet, check_registry
from supervisor.doctor.findings import exit_code
from supervisor.handlers import HandlerLoader
from supervisor.platform.tokens.notes import VIEWER_NOTE
from supervisor.sandbox import Sandbox
from supervisor.settings import Settings
from supervisor.settings.secrets import SecretResolver
from tests.support.command import InProcess, until
from tests.support.stack import SECRET, agent_id, stack

PROFILES = pytest.mark.parametrize("profile", ["v1", "v2"])
#: Nothing listens on the discard port.
NOWHERE = "http://127.0.0.1:9"
A1, A2, A3 = agent_id(1), agent_id(2), agent_id(3)


@dataclass
class Report:
    """What the command said, as JSON and as text would be."""

    code: int
    checks: list[dict[str, Any]]
    everything: str

    def of(self, check: str, level: str = "FAIL") -> dict[str, Any]:
        """The one finding of a check at a level."""
        [found] = [one for one in self.checks if (one["check"], one["level"]) == (check, level)]
        return found


@dataclass
class Deployment:
    """A platform, a registry beside it, and the command."""

    sandbox: Sandbox
    command: InProcess

    async def doctor(self, *args: str, **settings: object) -> Report:
        """Run it; whatever it says, it never names the secret, and leaves no socket open."""
        given = {f"SUPERVISOR_{name.upper()}": str(value) for name, value in settings.items()}
        tokens = self.sandbox.agents
        done = await asyncio.to_thread(self.command, "doctor", *args, "--json", **given)
        everything = done.stdout + done.stderr
        assert SECRET not in everything
        assert "eyJ" not in everything, "no token"
        assert done.stderr == ""
        said = json.loads(done.stdout)
        assert said["exit_code"] == done.returncode
        assert not any(self.sandbox.messages(self.sandbox.conversation_of(one)) for one in tokens)
        await self.sandbox.wait_until(lambda: not any(self.sandbox.sockets_of(one) for one in tokens))
        return Report(done.returncode, said["checks"], everything)

    async def doctor_of(self, agents_dir: Path, *, load_seconds: float) -> Report:
        """What the command does without an id, for one that has not the patience that it has."""
        sandbox, registry_url = self.sandbox, f"sqlite+aiosqlite:///{self.command.folder / 'supervisor.db'}"
        settings = Settings(registry_url=registry_url, api_url=sandbox.api_url, ws_url=sandbox.ws_url)
        secrets = SecretResolver(environ=self.command.env, env_prefixes=settings.secret_env_prefixes, dirs=(), box=None)
        found: list[Finding] = []
        known = await check_registry(settings, found.append)
        assert known is not None
        with closing(HandlerLoader(agents_dir)) as loader:
            async with Examiner.open(settings, loader, secrets, load_seconds=load_seconds) as examiner:
                await check_fleet(examiner, known[1], None, found.append, limit=20)
        return Report(exit_code(found), [asdict(one) for one in found], "")


@asynccontextmanager
async def deployment(folder: Path, agents: int = 1, **sandbox_settings: Any) -> AsyncIterator[Deployment]:
    """A platform that knows some agents, and a registry with them."""
    async with Sandbox(**sandbox_settings) as sandbox:
        env = {
            "SUPERVISOR_API_URL": sandbox.api_url,
            "SUPERVISOR_WS_URL": sandbox.ws_url,
            "SUPERVISOR_HANDSHAKE_SECONDS": "10",
            "AGENT_SECRET": SECRET,
        }
        made = Deployment(sandbox, InProcess(folder, env))
        for number in range(1, agents + 1):
            sandbox.add_agent(agent_id(number), SECRET, instruction="Be brief.")
            added = ("agents", "add", agent_id(number), "--handler", "echo", "--secret-env", "AGENT_SECRET")
            await asyncio.to_thread(made.command.ok, *added)
        yield made


@PROFILES
async def test_all_is_well(tmp_path: Path, profile: str) -> None:
    async with deployment(tmp_path, profile=profile) as made:
        report = await made.doctor(A1)
        assert report.code == 0
        assert {one["level"] for one in report.checks} == {"ok"}
        names = [one["check"] for one in report.checks]
        assert names == [
            *("settings", "handlers", "registry", "supervisor", "descriptors"),
            *("row", "settings", "handler", "secret", "token", "connect", "registered", "round trip"),
        ]
        assert f"namespace {made.sandbox.connects[-1].namespace}" in report.of("connect", "ok")["text"]
        text = await asyncio.to_thread(made.command.ok, "doctor")
        assert "1: 1 of 1 tried were registered and answered" in text


async def test_a_viewers_role_is_a_note_and_no_failure(tmp_path: Path) -> None:
    async with deployment(tmp_path, profile="v2") as made:
        made.sandbox.agents[A1].role = "viewer"
        report = await made.doctor(A1)
        assert (report.code, report.of("role", "warn")["text"]) == (0, VIEWER_NOTE)
        assert (report.of("role", "warn")["agent"], report.of("round trip", "ok")["level"]) == (A1, "ok")
        made.sandbox.agents[A1].role = "editor"
        assert "role" not in [one["check"] for one in (await made.doctor(A1)).checks]


@PROFILES
async def test_a_refusal_is_4(tmp_path: Path, profile: str) -> None:
    async with deployment(tmp_path, profile=profile) as made:
        made.command.env["AGENT_SECRET"] = "wrong-secret"
        report = await made.doctor(A1)
        assert (report.code, report.of("token")["text"]) == (4, "401 Invalid credentials")
        assert "change AGENT_SECRET in the supervisor's environment and restart it" in report.of("token")["advice"]
        made.command.env["AGENT_SECRET"] = SECRET
        await asyncio.to_thread(
            made.command.ok, "agents", "add", A2, "--handler", "echo", "--secret-env", "AGENT_SECRET"
        )
        report = await made.doctor(A2)
        assert (report.code, "404" in report.of("token")["text"]) == (4, True)
        made.sandbox.faults.connect(mode="error", message="403 Forbidden: agent is suspended")
        report = await made.doctor(A1)
        assert (report.code, "suspended" in report.of("connect")["text"]) == (4, True)


@PROFILES
async def test_an_ill_platform_is_5(tmp_path: Path, profile: str) -> None:
    async with deployment(tmp_path, profile=profile) as made:
        made.sandbox.faults.rest("token", mode="status", status=503)
        report = await made.doctor(A1)
        assert (report.code, "503" in report.of("token")["text"]) == (5, True)
        made.sandbox.faults.clear()
        made.sandbox.faults.rest("token", mode="hang")
        report = await made.doctor(A1, handshake_seconds=0.3)
        assert (report.code, "within 0.3 s" in report.of("token")["text"]) == (5, True)
        made.sandbox.faults.clear()
        made.sandbox.faults.handshake(mode="refuse", status=503)
        report = await made.doctor(A1)
        assert (report.code, "503 to the upgrade" in report.of("connect")["text"]) == (5, True)
        made.sandbox.faults.clear()
        # The token is moments old: it is not that.
        made.sandbox.faults.connect(mode="kick")
        report = await made.doctor(A1)
        assert report.code == 5
        assert re.search("disconnected the agent|closed the connection without a reason", report.of("connect")["text"])
    done = await asyncio.to_thread(made.command, "doctor", A1, "--json")
    assert (done.returncode, "failed: Connection refused" in done.stdout) == (5, True)


@PROFILES
async def test_a_deaf_connection_is_6(tmp_path: Path, profile: str) -> None:
    async with deployment(tmp_path, profile=profile, namespaces=("/ws", "/chat")) as made:
        made.sandbox.faults.no_presence()
        report = await made.doctor(A1, handshake_seconds=1.0)
        assert report.code == 6
        assert "it would be deaf" in report.of("registered")["text"]
        assert "ask the people" in report.of("registered")["advice"]
        # Struck once: another namespace delivers, and is named.
        made.sandbox.faults.clear()
        made.sandbox.faults.no_presence(times=1)
        report = await made.doctor(A1, handshake_seconds=1.0)
        assert report.code == 6
        assert "set SUPERVISOR_WS_NAMESPACE=" in report.of("registered")["advice"]
        # These generations take anybody there and deliver nothing.
        report = await made.doctor(A1, ws_namespace="/", handshake_seconds=1.0)
        assert (report.code, "it would be deaf" in report.of("registered")["text"]) == (6, True)


@PROFILES
async def test_what_is_to_be_configured_is_3_and_told(tmp_path: Path, profile: str) -> None:
    # Upgrades at a wrong path are not answered at all, or by a proxy: a plain request tells.
    path = "/dev/aiwm/chat/socket.io"
    async with deployment(tmp_path, profile=profile, engine_path=path) as made:
        made.command.env["SUPERVISOR_WS_URL"] = f"ws://127.0.0.1:{made.sandbox.port}/dev/aiwm/chat"
        wrong_path = await made.doctor(A1, ws_path="/wrong/socket.io")
        assert wrong_path.code == 3
        assert "has no Socket.IO at /wrong/socket.io" in wrong_path.of("connect")["text"]
        assert "set SUPERVISOR_WS_PATH=/dev/aiwm/chat/socket.io" in wrong_path.of("connect")["advice"]
        found = await made.doctor(A1)
        assert (found.code, f"path {path}" in found.of("connect", "ok")["text"]) == (0, True)
        right = {"ws_path": "/dev/aiwm/chat/socket.io"}
        nowhere = await made.doctor(A1, ws_namespace="/nowhere", **right)
        assert (nowhere.code, nowhere.of("connect")["text"]) == (3, "the platform has no namespace /nowhere")
        assert "set SUPERVISOR_WS_NAMESPACE=/" in nowhere.of("connect")["advice"]
        assert (await made.doctor(A1, **right)).code == 0


async def test_a_proxys_403_to_an_upgrade_is_a_wrong_path_and_not_a_refusal(tmp_path: Path) -> None:
    """Even where no other path leads in, whatever keeps it from that: nobody has refused the agent."""
    settings: dict[str, Any] = {"profile": "v2", "engine_path": "/elsewhere/socket.io", "wrong_path_status": 403}
    async with deployment(tmp_path, **settings) as made:
        report = await made.doctor(A1)
        assert report.code == 3
        assert "has no Socket.IO at /socket.io" in report.of("connect")["text"]
        assert "the path goes into SUPERVISOR_WS_PATH" in report.of("connect")["advice"]


async def test_the_third_generation_is_found_and_what_proved_the_registration_is_told(tmp_path: Path) -> None:
    async with deployment(tmp_path, profile="v3") as made:
        report = await made.doctor(A1)
        assert report.code == 0
        assert "namespace /, path /agent/socket.io" in report.of("connect", "ok")["text"]
        assert "its own presence came" in report.of("registered", "ok")["text"]
        report = await made.doctor(A1, ws_path="/chat/socket.io", ws_namespace="/", handshake_seconds=4)
        assert report.code == 0
        assert "no presence came, and a heartbeat was answered" in report.of("registered", "ok")["text"]


async def test_what_is_wrong_here_is_3_and_the_platform_is_not_asked(tmp_path: Path) -> None:
    async with deployment(tmp_path) as made:
        cases: list[tuple[tuple[str, ...], str, dict[str, object]]] = [
            ((A1,), "settings", {"concurrency": "many"}),
            ((A1,), "settings", {"concurency": 3}),
            ((A1,), "settings", {"secret_keys": "no key"}),
            ((A1,), "handlers", {"agents_dir": tmp_path / "nowhere"}),
            ((A1,), "registry", {"registry_url": f"sqlite+aiosqlite:///{tmp_path}/none.db"}),
            ((A3,), "agent", {}),
        ]
        for args, check, settings in cases:
            report = await made.doctor(*args, **settings)
            assert report.code == 3, check
            assert report.of(check)["text"], check
        with closing(sqlite3.connect(tmp_path / "supervisor.db")) as sql:
            for column, value, check in (
                ("handler", "ecco", "handler"),
                ("secret", "env:AGENT_UNSET", "secret"),
                ("settings", '{"concurrency": 0}', "settings"),
                ("labels", "no json", "row"),
            ):
                (before,) = sql.execute(f"SELECT {column} FROM agents").fetchone()
                sql.execute(f"UPDATE agents SET {column} = ?", (value,))
                sql.commit()
                for args in ((A1,), ()):
                    report = await made.doctor(*args)
                    assert (report.code, report.of(check)["agent"]) == (3, A1)
                sql.execute(f"UPDATE agents SET {column} = ?", (before,))
                sql.commit()
        assert [request for request in made.sandbox.token_requests if request.agent_id == A1] == []
        assert (await asyncio.to_thread(made.command, "doctor", "--limit", "x")).returncode == 2


async def test_what_to_do_about_a_handler_depends_on_what_keeps_it_from_loading(tmp_path: Path) -> None:
    folder = tmp_path / "handlers"
    folder.mkdir()
    (folder / "needy.py").write_text("import not_there_1")
    (folder / "broken.py").write_text("1 / 0")
    async with deployment(tmp_path) as made:
        made.command.env["SUPERVISOR_AGENTS_DIR"] = str(folder)
        for handler, advice in (
            ("needy", "install what it needs where the supervisor runs"),
            ("broken", "mend its code"),
            ("ecco", "choose one that is there"),
        ):
            with closing(sqlite3.connect(tmp_path / "supervisor.db")) as sql:
                sql.execute("UPDATE agents SET handler = ?", (handler,))
                sql.commit()
            found = (await made.doctor(A1)).of("handler")
            assert found["advice"].startswith(advice)
            assert found["advice"].endswith(f"supervisor agents update {A1} --handler NAME")
        assert "did you mean echo?" in found["text"]


def test_in_an_empty_folder_it_says_how_to_begin(tmp_path: Path) -> None:
    # Nothing is given; the platform of the defaults cannot be reached from here, whatever there is of a network.
    done = InProcess(tmp_path)("doctor", "--json", SUPERVISOR_PROXY=NOWHERE)
    checks = {one["check"]: one for one in json.loads(done.stdout)["checks"]}
    assert done.returncode == 3
    assert "the first agent makes it too: supervisor agents add" in checks["registry"]["advice"]
    assert checks["token endpoint"]["advice"].endswith("to begin without a platform: supervisor demo")
    assert list(tmp_path.iterdir()) == []
    # Where there is no echo one that is there is named.
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "weather.py").touch()
    said = InProcess(tmp_path)("doctor", SUPERVISOR_PROXY=NOWHERE, SUPERVISOR_BUNDLED_HANDLERS="none").stdout
    assert "supervisor agents add ID --handler weather" in " ".join(said.split())


async def test_a_handler_that_hangs_while_it_loads_is_not_laid_to_the_others(tmp_path: Path) -> None:
    folder, gate = tmp_path / "handlers", threading.Event()
    folder.mkdir()
    answers = "async def on_message(message, ctx): return 'hi'\n"
    waits = "import threading\nnext(t for t in threading.enumerate() if t.name == 'test-gate').join(60)\n"
    (folder / "hangs.py").write_text(waits + answers)
    (folder / "quick.py").write_text(answers)
    holder = threading.Thread(target=gate.wait, name="test-gate", daemon=True)
    async with deployment(tmp_path, agents=3) as made:
        made.command.env["SUPERVISOR_AGENTS_DIR"] = str(folder)
        for identity, handler in ((A1, "hangs"), (A2, "quick"), (A3, "quick")):
            await asyncio.to_thread(made.command.ok, "agents", "update", identity, "--handler", handler)
        holder.start()
        try:
            report = await made.doctor_of(folder, load_seconds=0.5)
        finally:
            gate.set()
            holder.join()
        assert report.code == 3
        assert report.of("handler")["text"] == "Handler 'hangs' takes longer than 0.5 s to load"
        assert report.of("handler")["agent"] == A1
        untried = report.of("handler", "warn")
        assert (untried["agent"], untried["text"]) == (f"{A2}, {A3}", "quick was not tried: hangs still loads")
        assert "2 of 2 tried were registered and answered" in report.of("agents", "ok")["text"]


@pytest.mark.parametrize("args", [(A1,), ("--limit", "0")])
def test_where_there_is_no_registry_it_says_so_and_leaves_no_thread_behind(
    tmp_path: Path, args: tuple[str, ...]
) -> None:
    before = set(threading.enumerate())
    assert "There is no registry" in InProcess(tmp_path)("doctor", *args, SUPERVISOR_API_URL=NOWHERE).stdout
    until(lambda: set(threading.enumerate()) <= before, "the threads to end")


async def test_without_an_id_the_fleet_is_looked_at_in_few_lines(tmp_path: Path) -> None:
    async with deployment(tmp_path, agents=6) as made:
        made.sandbox.faults.rest("token", mode="status", status=503, agents=[agent_id(n) for n in (1, 2, 3, 4)])
        await asyncio.to_thread(made.command.ok, "agents", "pause", agent_id(6))
        report = await made.doctor()
        assert report.code == 5
        assert report.of("token")["agent"] == f"{A1}, {A2}, {A3} and 1 more"
        assert "6: 1 of 5 tried were registered and answered, 1 are paused" in report.of("agents", "warn")["text"]
        report = await made.doctor("--limit", "0")
        assert (report.code, report.of("token endpoint", "ok")["level"]) == (0, "ok")
        assert report.of("agents", "warn")["text"] == "5 were not tried over the network"
        # What answers there is no platform.
        made.sandbox.faults.clear()
        report = await made.doctor("--limit", "0", api_url=made.sandbox.base_url)
        assert (report.code, report.of("token endpoint")["advice"]) == (3, "mend SUPERVISOR_API_URL")
        report = await made.doctor(A1, api_url=made.sandbox.base_url)
        assert (report.code, "mend SUPERVISOR_API_URL" in report.of("token")["advice"]) == (3, True)


async def test_a_platform_that_acknowledges_nothing_is_a_warning(tmp_path: Path) -> None:
    async with deployment(tmp_path) as made:
        made.sandbox.faults.drop_acks(events=["conversation:online", "message:typing"])
        report = await made.doctor(A1, handshake_seconds=0.5)
        assert (report.code, "acknowledges no event" in report.of("round trip", "warn")["text"]) == (0, True)


async def test_beside_a_running_supervisor_its_sockets_are_left_alone(tmp_path: Path) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": "v2"}) as fleet:
        await fleet.add(1)
        await fleet.online()
        (tmp_path / "wrong").write_text("wrong-secret")
        refused = await fleet.add(2)
        await fleet.service.registry.update_agent(refused, secret=f"file:{tmp_path / 'wrong'}")
        await fleet.state(refused, AgentState.REJECTED)
        settings = fleet.settings
        env = {
            "SUPERVISOR_REGISTRY_URL": settings.registry_url,
            "SUPERVISOR_API_URL": settings.api_url,
            "SUPERVISOR_WS_URL": settings.ws_url,
            "SUPERVISOR_SECRET_DIRS": str(tmp_path),
        }
        command = InProcess(tmp_path, env)
        before, connects = fleet.sandbox.sockets_of(A1), len(fleet.sandbox.connects)
        done = await asyncio.to_thread(command, "doctor", A1)
        assert done.returncode == 0, done
        assert "the running supervisor has it online" in done.stdout
        assert "not tried: the running supervisor has the agent online" in done.stdout
        whole = await asyncio.to_thread(command, "doctor")
        assert whole.returncode == 4, whole
        assert "has it rejected: 401 Invalid credentials" in whole.stdout
        assert f"write a new {tmp_path / 'wrong'}, then supervisor agents reload" in whole.stdout
        elsewhere = await asyncio.to_thread(command, "doctor", refused, SUPERVISOR_API_URL=fleet.sandbox.base_url)
        advice = (
            "mend SUPERVISOR_API_URL or the agent's setting api_url; a variable counts once the supervisor is restarted"
        )
        assert advice in elsewhere.stdout
        assert "2: 0 of 1 tried were registered and answered, 1 are online" in whole.stdout
        # One that is refused by what is no platform is not told to look at its page there.
        await fleet.service.registry.update_agent(refused, settings={"api_url": fleet.sandbox.base_url})
        await fleet.until(lambda: "is API_URL right?" in fleet.service.control.status(refused).reason)
        lost = await asyncio.to_thread(command, "doctor", refused)
        assert "mend SUPERVISOR_API_URL or the agent's setting api_url" in lost.stdout
        assert "look at the agent's page" not in lost.stdout
        # One that cannot be asked may have any of them online.
        await fleet.restart(admin_token=type(settings).model_validate({"admin_token": "adm1n"}).admin_token)
        await fleet.online()
        connects = len(fleet.sandbox.connects)
        blind = await asyncio.to_thread(command, "doctor", A1)
        assert (blind.returncode, "refuses the admin token" in blind.stdout) == (0, True), blind
        assert len(fleet.sandbox.connects) == connects
        assert fleet.sandbox.sockets_of(A1)
        assert before
