"""Twenty agents that people talk to, on models that answer and fail, while everything that can go wrong does at times.

What dashboards and alerts are shown to work with: nothing of it is played by the supervisor itself, which runs as ever.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from supervisor.core.records import AgentRecord
from supervisor.sandbox import Sandbox, SandboxUser
from supervisor.settings import Price
from tests.support.assistants import Assistants, assistants
from tests.support.fake_models import Answer, Request, refusal
from tests.support.prometheus import Prometheus, prometheus
from tests.support.stack import SECRET_FILE, Stack, agent_id
from tests.support.webhooks import ScriptedWebhook, says, scripted_webhook

ECHOES, TOURS, HOOKED = range(1, 6), range(6, 9), range(9, 11)
#: Model and daily budget of each assistant, in tokens. The second one's is soon used up.
ASSISTANTS = {
    11: ("openai", "gpt-4o", 2_000_000),
    12: ("openai", "gpt-4o-mini", 6_000),
    13: ("openai", "gpt-4o-mini", None),
    14: ("anthropic", "claude-opus-5", 900_000),
    15: ("anthropic", "claude-haiku-4-5", 400_000),
    16: ("google", "gemini-2.5-pro", 500_000),
    17: ("google", "gemini-2.5-flash", None),
}
#: An assistant with everything: what the dashboard of one agent is shown with.
SHOWN = 14
#: Its model refuses its key; the platform refuses its secret; there is no such handler.
FAILING, REJECTED, FAULTED = 18, 19, 20
AGENTS = 20
#: The one that :meth:`BusyFleet.keep_down` strikes.
DOWN = ECHOES[-1]
ONLINE = AGENTS - 2
ALL_SEEN = f'supervisor_agents{{state="online"}} >= {ONLINE}'
#: Dollars for a million tokens, made up.
PRICES = {
    "gpt-4o": Price(input=2.5, output=10.0, cached=1.25),
    "gpt-4o-mini": Price(input=0.15, output=0.6, cached=0.075),
    "claude-opus-5": Price(input=5.0, output=25.0, cached=0.5),
    "claude-haiku-4-5": Price(input=1.0, output=5.0, cached=0.1),
    "gemini-2.5-pro": Price(input=1.25, output=10.0, cached=0.31),
    "gemini-2.5-flash": Price(input=0.3, output=2.5, cached=0.03),
}
FLEET_TOKENS = 3_000_000
WRONG_KEY, WRONG_KEY_FILE = "sk-test-of-somebody-else", "wrong-key"
#: Median seconds of an answer, and how much input it takes.
SPEED = {"gpt-4o": 1.3, "gpt-4o-mini": 0.5, "claude-opus-5": 2.4, "claude-haiku-4-5": 0.7, "gemini-2.5-pro": 1.8}
TROUBLES = (
    refusal(500, "The server had an error."),
    refusal(503, "The engine is overloaded."),
    refusal(429, "Slow down.", "rate_limit_exceeded", Retry_After="1"),
)
WAVE_SECONDS = 70.0
#: Importing the models' clients takes seconds, on a busy machine a minute.
ONLINE_SECONDS = 150.0


@dataclass
class BusyFleet:
    """What runs.

    Args:
        haste: how much faster than in life people talk and models answer.
    """

    fleet: Assistants
    webhook: ScriptedWebhook
    haste: float
    chance: random.Random
    began: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    _turns: dict[str, int] = field(default_factory=dict)

    @property
    def stack(self) -> Stack:
        return self.fleet.stack

    @property
    def sandbox(self) -> Sandbox:
        return self.fleet.stack.sandbox

    async def populate(self) -> None:
        """Register everybody and wait until all are online that can be."""
        for number in ECHOES:
            await self.stack.add(number, "echo", name=f"Echo {number}")
        for number in TOURS:
            await self.stack.add(number, "tour", name=f"Tour guide {number}")
        signing = f"file:{self.stack.folder / SECRET_FILE}"
        hooked = {"url": self.webhook.url, "signing_secret": signing, "allow_private": True, "retries": 0}
        for number in HOOKED:
            await self.stack.add(number, "webhook", settings={**hooked, "max_attempts": 3})
        for number, (provider, model, budget) in ASSISTANTS.items():
            settings = self.fleet.settings(provider, model, budget_tokens=budget)
            await self.fleet.add(number, settings=settings, online=False)
        wrong = self.fleet.settings(api_key=f"file:{self.stack.folder / WRONG_KEY_FILE}")
        await self.fleet.add(FAILING, settings=wrong, online=False)
        self.sandbox.add_agent(agent_id(REJECTED), "another secret")
        secret = f"file:{self.stack.folder / SECRET_FILE}"
        await self.stack.service.registry.add_agent(AgentRecord(agent_id(REJECTED), "echo", secret, "Refused"))
        await self.stack.add(FAULTED, "no_such_handler", name="Broken")
        await self.stack.online(ONLINE, ONLINE_SECONDS)

    def answer(self, request: Request) -> Answer:
        """A model's answer: of a length and after a time that vary, and at times none."""
        if request.key == WRONG_KEY:
            return refusal(401, "Incorrect API key provided.", "invalid_api_key")
        if self.chance.random() < 0.05:
            return self.chance.choice(TROUBLES)
        turn = self._turns[request.model] = self._turns.get(request.model, 0) + 1
        given = round(self.chance.lognormvariate(7.2, 0.5)) + 30 * min(turn, 60)
        cached = round(given * self.chance.uniform(0.2, 0.7)) if turn % 3 else 0
        made = round(self.chance.lognormvariate(5.3, 0.6))
        delay = SPEED.get(request.model, 0.9) * self.chance.lognormvariate(0, 0.45) / self.haste
        return Answer("It depends, I should say.", usage=(given, made, cached), delay=delay)

    async def hook(self, request: web.Request) -> web.StreamResponse:
        """A webhook's answer; one of eight fails."""
        await asyncio.sleep(self.chance.uniform(0.05, 0.4) / self.haste)
        body = {"content": "Your parcel is on its way."}
        return await says(body, 503 if self.chance.random() < 0.12 else 200)(request)

    def pause(self, mean: float) -> float:
        """Seconds until somebody says something again; the day has its rush hours."""
        now = asyncio.get_running_loop().time() - self.began
        rush = 1.0 + 0.6 * math.sin(2 * math.pi * now / WAVE_SECONDS * self.haste)
        return min(self.chance.expovariate(rush / mean), 4 * mean) / self.haste

    async def talk(self, number: int, mean: float, texts: tuple[str, ...]) -> None:
        """Talk to an agent for ever."""
        user = await self.sandbox.user()
        conversation = await user.open(agent_id(number))
        while True:
            await asyncio.sleep(self.pause(mean))
            # Some say three things at once: the second waits for the first one's answer.
            for _ in range(3 if self.chance.random() < 0.1 else 1):
                await user.say(conversation, self.chance.choice(texts))

    def talks(self) -> list[Awaitable[None]]:
        """All conversations."""
        tour = ("6 * 7", "what time is it?", "attach", "slow 2", "hello", "fail", "3 * (4 + 5)", "hello again")
        asked = ("How do I renew it?", "And in winter?", "Which one is better?", "Where is my order?")
        return [
            *(self.talk(number, 0.8, ("hello", "how are you?")) for number in ECHOES),
            *(self.talk(number, 3.0, tour) for number in TOURS),
            *(self.talk(number, 2.0, asked) for number in HOOKED),
            *(self.talk(number, 7.0, asked) for number in ASSISTANTS),
            self.talk(FAILING, 20.0, asked),
        ]

    async def trouble(self, mean: float) -> None:
        """Let one thing after the other go wrong, for ever."""
        user = await self.sandbox.user()
        for step in itertools.cycle(self._troubles(user)):
            await asyncio.sleep(mean / self.haste)
            step()

    def expire(self, number: int) -> None:
        """Let the platform put an agent out because its token has ended."""
        self.sandbox.tokens.expire(agent_id(number))
        self.sandbox.kick(agent_id(number))

    def keep_down(self) -> str:
        """Let the platform be deaf to one agent from now on; its id."""
        identity = agent_id(DOWN)
        self.sandbox.faults.no_presence(agents=[identity])
        self.sandbox.cut(identity)
        return identity

    def _troubles(self, user: SandboxUser) -> list[Callable[[], Any]]:
        faults, box = self.sandbox.faults, self.sandbox

        def some(numbers: range, count: int = 1) -> list[str]:
            return [agent_id(number) for number in self.chance.sample(numbers, count)]

        odd = {
            "conversationId": box.conversation_of(agent_id(1)),
            "participantId": user.id,
            "role": "user",
            "content": "?",
        }

        def refuse_connects() -> None:
            faults.connect("error", message="Internal error", times=2)
            box.cut(*some(HOOKED))

        def say_twice() -> None:
            said = {**odd, "_id": f"{self.chance.getrandbits(96):024x}", "type": "text"}
            for _ in range(2):
                box.emit(agent_id(1), "message:new", said)

        return [
            lambda: box.cut(*some(ECHOES, 2)),
            lambda: faults.refuse_sends(agents=some(ECHOES), times=1),
            lambda: box.emit(agent_id(1), "message:new", {**odd, "_id": "f" * 24, "type": "hologram"}),
            say_twice,
            lambda: box.kick(*some(TOURS)),
            lambda: faults.drop_acks(confirmations=True, agents=some(ECHOES), times=1),
            lambda: faults.rest("token", status=503, times=1),
            lambda: self.expire(HOOKED[0]),
            lambda: faults.cut_sends("after_store", agents=some(ECHOES), times=1),
            refuse_connects,
        ]


@asynccontextmanager
async def busy_fleet(
    folder: Path, *, haste: float = 1.0, interval_seconds: float = 1.0, token_seconds: float = 600.0
) -> AsyncIterator[tuple[BusyFleet, Prometheus]]:
    """A fleet with traffic, and the Prometheus that watches it.

    Args:
        interval_seconds: how often it is scraped.
        token_seconds: how long the platform's tokens last.
    """
    (folder / WRONG_KEY_FILE).write_text(WRONG_KEY)
    settings: dict[str, Any] = {
        "prices": PRICES,
        "budget_tokens": FLEET_TOKENS,
        "allow_private_webhooks": True,
        "ack_seconds": 2.0,
    }
    sandbox = {"expires_in_seconds": token_seconds}
    async with assistants(folder, sandbox=sandbox, **settings) as fleet, scripted_webhook() as webhook:
        busy = BusyFleet(fleet, webhook, haste, random.Random(42))
        fleet.models.otherwise = busy.answer
        webhook.answers = [busy.hook]
        target = fleet.stack.service.admin_url.removeprefix("http://")
        async with prometheus(folder, [target], interval_seconds=interval_seconds) as server:
            await busy.populate()
            await server.until(ALL_SEEN, bool, ONLINE_SECONDS)
            going = [asyncio.ensure_future(one) for one in (*busy.talks(), busy.trouble(3.0))]
            try:
                yield busy, server
                for task in going:
                    assert not task.done(), task
            finally:
                for task in going:
                    task.cancel()
                await asyncio.gather(*going, return_exceptions=True)
