"""A story in which a supervisor does everything that leaves something behind or that programs look at.

A release is recorded by it (:mod:`tests.upgrade.record`), and each later version has to be able to play it as well, and
to go on where the recorded one was killed. It is told by public means alone: commands in processes of their own, the
admin API, the platform. So it does not matter what the code is like inside, nor where its modules are.
"""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from supervisor.sandbox import Sandbox, SandboxUser, StoredMessage
from tests.support.webhooks import ScriptedWebhook, says, scripted_webhook
from tests.upgrade.home import KEY, SECRET, Home, Run, Version, agent_id, checkpointed, until

FERNET_KEY: Final = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#: Who answers at once: a handler of each form, and the webhook.
ANSWERING: Final = (*range(1, 11), 14)
FAILING, FLAKY, WAITING = 11, 12, 13
REFUSED, UNACKNOWLEDGED, ONCE = 17, 18, 19
#: Rows as they are in the registry file: the numbers of states are part of its format.
AVAILABLE, RUNNING, RETRYABLE, DEAD_LETTER, DONE, CANCELLED = 0, 2, 1, 3, 4, 5


@dataclass
class Told:
    """What came of a story: what was looked at, by name, and the registry file as the kill left it."""

    looks: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, list[str]] = field(default_factory=dict)
    registry: bytes = b""


class Story:
    """One supervisor from an empty folder to its death, and what was seen of it."""

    def __init__(self, home: Home, sandbox: Sandbox, webhook: ScriptedWebhook) -> None:
        self.home = home
        self.told = Told()
        self._sandbox = sandbox
        self._webhook = webhook

    async def play(self) -> Told:
        """Play it all."""
        await self._settle_in()
        run = await Run.start(self.home)
        try:
            await run.online(len(self._numbers) - 2)
            user = await self._sandbox.user()
            await self._answers(user)
            await self._troubles(user)
            await self._look_at(run)
            await self._leave_open(user)
        finally:
            await run.end(signal.SIGKILL)
        self.told.registry = checkpointed(self.home.database)
        await self._look_at_rest()
        # As whoever reads it from a file has it.
        self.told.looks = json.loads(json.dumps(self.told.looks))
        return self.told

    async def _settle_in(self) -> None:
        text = (self.home.given / "fleet.yaml").read_text().replace("{webhook}", self._webhook.url)
        (self.home.folder / "fleet.yaml").write_text(text)
        look = self.told.looks
        look["agents import"] = await self.home.json("agents", "import", "fleet.yaml", "--keep-going")
        self._numbers = [int(agent, 16) for agent in look["agents import"]["add"]]
        for number in self._numbers:
            self._sandbox.add_agent(agent_id(number), SECRET, name=f"Agent {number}")

    async def _answers(self, user: SandboxUser) -> None:
        self._webhook.answers.append(says({"content": "webhook: hello"}))
        answers = {}
        for number in ANSWERING:
            conversation = await user.open(agent_id(number))
            message = await user.say(conversation, "hello")
            await until(lambda n=number: self.home.states(n) == [DONE], f"agent {number} to be done")  # type: ignore[misc]
            await self._acked(number)
            answers[str(number)] = _shown(self._sandbox.messages(conversation), message)
        self.told.looks["answers"] = answers
        [asked] = self._webhook.asked
        self.told.looks["webhook"] = {
            "path": urlsplit(self._webhook.url).path,
            "headers": sorted(asked.headers),
            "body": asked.json,
            "signed": asked.is_signed_with(KEY),
        }

    async def _acked(self, number: int) -> None:
        query = (
            "SELECT 1 FROM outbox JOIN agent_keys ON key = agent_key "
            f"WHERE agent_id = '{agent_id(number)}' AND settled_at IS NULL"
        )
        await until(lambda: not self.home.sql(query), f"the replies of agent {number}")

    async def _troubles(self, user: SandboxUser) -> None:
        """Two dead letters, one of which somebody discards; a reply that the platform refuses."""
        conversation = await user.open(agent_id(FAILING))
        for text in ("one", "two"):
            await user.say(conversation, text)
        await until(lambda: self.home.states(FAILING) == [DEAD_LETTER] * 2, "two dead letters")
        self._sandbox.faults.refuse_sends(agents=[agent_id(REFUSED)])
        await user.say(await user.open(agent_id(REFUSED)), "hello")
        await self._acked(REFUSED)
        dead = await self.home.json("messages", "list", "--agent", agent_id(FAILING))
        number = str(dead[0]["id"])
        self.told.looks["messages discard"] = await self.home.json("messages", "discard", number, "--yes")

    async def _look_at(self, run: Run) -> None:
        home, look = self.home, self.told.looks
        one = agent_id(1)
        look["status"] = await home.json("status")
        look["agents list"] = await home.json("agents", "list")
        look["agents show"] = await home.json("agents", "show", one)
        look["agents reload"] = await home.json("agents", "reload", one)
        look["agents pause"] = await home.json("agents", "pause", one)
        look["agents resume"] = await home.json("agents", "resume", one)
        look["messages list"] = await home.json("messages", "list")
        look["messages show"] = await home.json("messages", "show", str(look["messages list"][0]["id"]))
        look["usage"] = await home.json("usage")
        lines = (await home.command("logs", one, "--json")).splitlines()
        look["logs"] = [json.loads(line) for line in lines]
        look["doctor"] = await home.json("doctor", "--limit", "1", codes=range(10))
        for path in ("/livez", "/readyz", "/api/v1/status", "/api/v1/agents", f"/api/v1/agents/{one}"):
            look[f"GET {path}"] = await run.get_json(path)
        look["GET /api/v1/messages"] = await run.get_json("/api/v1/messages")
        number = look["GET /api/v1/messages"][0]["id"]
        look["GET /api/v1/messages/{number}"] = await run.get_json(f"/api/v1/messages/{number}")
        look["GET /api/v1/agents/missing"] = await run.get_json("/api/v1/agents/missing")
        look["openapi"] = _routes(await run.get_json("/openapi.json"))
        _, events = await run.get(f"/api/v1/events?agent_id={one}&last=20&follow=false")
        look["events"] = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: ")]
        for name, accept in (("metrics", ""), ("openmetrics", "application/openmetrics-text")):
            self.told.metrics[name] = described_series((await run.get("/metrics", accept=accept))[1])

    async def _leave_open(self, user: SandboxUser) -> None:
        """Messages that wait, run and are to be tried again; replies that nobody acknowledged."""
        conversation = await user.open(agent_id(WAITING))
        for text in ("first", "second"):
            await user.say(conversation, text)
        await user.say(await user.open(agent_id(FLAKY)), "hello")
        await until(lambda: self.home.states(WAITING) == [RUNNING, AVAILABLE], "one to run and one to wait")
        self._sandbox.faults.drop_acks(confirmations=True, agents=[agent_id(UNACKNOWLEDGED), agent_id(ONCE)])
        for number in (UNACKNOWLEDGED, ONCE):
            conversation = await user.open(agent_id(number))
            await user.say(conversation, "hello")
            await until(lambda c=conversation: len(self._sandbox.messages(c)) == 2, f"agent {number} to send")  # type: ignore[misc]
        await until(lambda: self.home.states(FLAKY) == [RETRYABLE], "one to be tried again")

    async def _look_at_rest(self) -> None:
        home, look = self.home, self.told.looks
        look["db upgrade"] = await home.json("db", "upgrade")
        look["db check"] = await home.json("db", "check")
        look["db backup"] = await home.json("db", "backup", "copy.db")
        look["agents export"] = await home.json("agents", "export")
        look["status of none"] = await home.command("status", "--json", codes=range(2))
        look["at rest: agents list"] = await home.json("agents", "list")
        look["at rest: messages list"] = await home.json("messages", "list", "--limit", "100", *_ALL_STATES)
        look["at rest: usage"] = await home.json("usage")
        look["at rest: messages show"] = [
            await home.json("messages", "show", str(one["id"])) for one in look["at rest: messages list"][:3]
        ]
        replayed = str(look["messages list"][0]["id"])
        look["messages replay"] = await home.json("messages", "replay", replayed, "--yes")
        look["messages purge"] = await home.json("messages", "purge", "--agent", agent_id(2), "--yes")
        look["agents add"] = await home.command(
            "agents", "add", agent_id(99), "--handler", "echo", "--secret-env", "AGENT_X"
        )
        look["keys generate"] = await home.json("keys", "generate")
        look["keys rotate"] = await home.json("keys", "rotate", SECRET_KEYS=FERNET_KEY)
        look["config of defaults"] = await home.json("config", PRICES="", BUDGET_TOKENS="", ALLOW_PRIVATE_WEBHOOKS="")


def described_series(text: str) -> list[str]:
    """What a scrape holds, without the values: what is said of each metric, and each series by its labels' names."""
    found = set()
    for line in text.splitlines():
        if line.startswith(("# TYPE", "# UNIT")):
            found.add(line)
        elif not line.startswith("#"):
            name, _, labels = line.rpartition(" ")[0].partition("{")
            names = sorted(set(re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', labels)))
            found.add(f"{name}{{{','.join(names)}}}")
    return sorted(found)


_ALL_STATES: Final = tuple(
    part for state in ("available", "running", "retryable", "done", "dead", "cancelled") for part in ("--state", state)
)


#: What of a message the supervisor has sent, beside its text.
_PARTS: Final = ("attachments", "error", "metadata", "thinking", "toolCalls", "toolResults", "usage")


def _shown(messages: list[StoredMessage], after: str) -> list[dict[str, Any]]:
    """What an agent said, without what differs from run to run."""
    [at] = [index for index, message in enumerate(messages) if message.id == after]
    return [
        {
            "role": message.role,
            "type": message.type,
            "content": message.content,
            **{name: _without_ids(value) for name in _PARTS if (value := message.document.get(name))},
        }
        for message in messages[at + 1 :]
    ]


def _without_ids(value: Any) -> Any:
    """A part without the ids that the platform gives its pieces."""
    if isinstance(value, dict):
        return {key: _without_ids(inner) for key, inner in value.items() if key != "_id"}
    return [_without_ids(item) for item in value] if isinstance(value, list) else value


def _routes(described: dict[str, Any]) -> dict[str, list[str]]:
    """The endpoints of the API, each with its parameters and the statuses it describes."""
    return {
        f"{method.upper()} {path}": sorted(
            [*(one["name"] for one in given.get("parameters", ())), *given.get("responses", ())]
        )
        for path, methods in described["paths"].items()
        for method, given in methods.items()
    }


async def play(version: Version, folder: Path, given: Path) -> Told:
    """Play the story with a version in an empty folder."""
    async with (
        Sandbox(profile="v1") as sandbox,
        scripted_webhook() as webhook,
        Home(version, folder, given) as home,
    ):
        home.at(sandbox)
        return await Story(home, sandbox, webhook).play()


async def play_encrypted(version: Version, folder: Path, given: Path) -> bytes:
    """The registry of a supervisor with keys: a secret that is a ciphertext, a message that nobody answered."""
    async with Sandbox(profile="v1") as sandbox:
        settings = {"SECRET_KEYS": FERNET_KEY, "JOURNAL_ENCRYPTION": "true"}
        async with Home(version, folder, given, settings) as home:
            home.at(sandbox)
            options = ("--handler", "waiting", "--secret-stdin", "--name", "Sealed")
            await home.command("agents", "add", agent_id(1), *options, stdin=SECRET)
            sandbox.add_agent(agent_id(1), SECRET)
            run = await Run.start(home)
            try:
                await run.online(1)
                user = await sandbox.user()
                await user.say(await user.open(agent_id(1)), "a secret question")
                await until(lambda: home.states(1) == [RUNNING], "the message to run")
            finally:
                await run.end(signal.SIGKILL)
            return checkpointed(home.database)
