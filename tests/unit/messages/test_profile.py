"""One agent as its messages and its handler know it: read anew each time, from row, deployment and token together."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.clock import Instant
from supervisor.core.errors import HandlerError
from supervisor.core.records import AgentRecord
from supervisor.handler import Handler, Usage
from supervisor.handlers import DaemonThreads, MountedHandler, ThreadShare
from supervisor.messages.budgets import Limits
from supervisor.messages.ledger import Ledger
from supervisor.messages.profile import Profile
from supervisor.messages.scope import Scope
from supervisor.platform.tokens import Grant
from supervisor.protocol.answers import ConnectAnswer
from supervisor.settings import Settings
from supervisor.settings.secrets import SecretResolver
from tests.support.journaling import AGENT


def profile(scope: Scope, **deployment: Any) -> Profile:
    settings = Settings.model_validate(deployment)
    secrets = SecretResolver(environ={"AGENT_A": "xyzzy-own"}, env_prefixes=("AGENT_",), dirs=(), box=None)
    ledger = Ledger(scope.clock, prices={}, fleet=Limits(), write=lambda _: None)
    return Profile(row(), scope, settings, secrets, ledger)


def row(handler: str = "echo", **fields: Any) -> AgentRecord:
    return AgentRecord(AGENT, handler, "env:AGENT_A", **fields)


def configured(made: Profile, record: AgentRecord) -> Profile:
    made.configure(record, made.deployment.effective(record.settings))
    return made


def grant(token: str = "tok-of-the-agent", **answer: Any) -> Grant:
    return Grant(token, ConnectAnswer(access_token=token, **answer), Instant(0.0, 0.0), 1e9, 1e9, 1e9)


def mounted(reference: str = "echo") -> MountedHandler:
    async def on_message(message: Any, ctx: Any) -> str:
        return str(message)

    return MountedHandler(reference, None, on_message, ThreadShare(DaemonThreads(1, "none"), 1))


async def test_before_anything_is_known_all_of_it_is_empty(scope: Scope) -> None:
    made = profile(scope)
    assert (made.grant, made.token, made.mounted, dict(made.merged_settings)) == (None, "", None, {})
    assert (made.info.id, made.info.name) == (AGENT, AGENT)
    assert made.access().token == ""
    with pytest.raises(HandlerError, match=f"Agent {AGENT} has no handler"):
        _ = made.handler


class Few(Handler):
    """Says how many conversations suit it."""

    concurrency = 7

    async def on_message(self, message: Any, ctx: Any) -> str:
        return str(message)


class Odd(Few):
    """Has an attribute of that name for something of its own."""

    concurrency = "many"  # type: ignore[assignment]


def in_thread(message: Any, ctx: Any) -> str:
    return str(message)


async def waiting(message: Any, ctx: Any) -> str:
    return str(message)


@pytest.mark.parametrize(
    ("target", "deployment", "row_says", "conversations"),
    [
        (None, {}, None, 4),
        (in_thread, {}, None, 4),
        (waiting, {}, None, 128),
        (waiting, {"concurrency": 60}, None, 30),
        (waiting, {"concurrency": 2}, None, 4),
        (Few(), {}, None, 7),
        (Odd(), {}, None, 128),
        (Few(), {"agent_concurrency": 1000}, None, 1000),
        (waiting, {"agent_concurrency": 4}, None, 4),
        (waiting, {"agent_concurrency": 4}, 200, 200),
        (in_thread, {}, 200, 200),
    ],
)
async def test_what_nobody_set_is_what_suits_the_handler(
    scope: Scope, target: Any, deployment: dict[str, int], row_says: int | None, conversations: int
) -> None:
    made = configured(profile(scope, **deployment), row(settings={} if row_says is None else {"concurrency": row_says}))
    if target is not None:
        on_message = getattr(target, "on_message", target)
        made.mount(MountedHandler("mine", target, on_message, ThreadShare(DaemonThreads(1, "none"), 1)))
    assert made.concurrency == conversations


async def test_what_a_row_says_goes_before_what_the_deployment_and_the_platform_say(scope: Scope) -> None:
    made = profile(scope, api_url="https://one.example/api")
    made.authorize(grant(name="Theirs", settings={"mood": "good", "city": "Ulm"}))
    assert (made.info.name, made.settings.inbox_limit, made.access().api_url) == (
        "Theirs",
        10_000,
        "https://one.example/api",
    )
    configured(made, row(name="Ann", labels={"team": "x"}, settings={"mood": "bad", "inbox_limit": 7}))
    assert (made.info.name, dict(made.info.labels), made.settings.inbox_limit) == ("Ann", {"team": "x"}, 7)
    assert dict(made.own_settings) == {"mood": "bad"}, "inbox_limit is the agent's and not its handler's"
    assert dict(made.merged_settings) == {"mood": "bad", "city": "Ulm"}


async def test_the_token_is_that_of_this_moment_and_taken_out_of_what_is_said(scope: Scope) -> None:
    made = profile(scope)
    made.authorize(grant("tok-of-the-agent"))
    assert made.secrecy.redact("with tok-of-the-agent") == "with [redacted]"
    made.authorize(grant("tok-of-tomorrow"))
    assert (made.token, made.access().token) == ("tok-of-tomorrow", "tok-of-tomorrow")
    assert made.secrecy.redact("with tok-of-tomorrow") == "with [redacted]"


@pytest.mark.parametrize(
    ("changed", "suits"),
    [
        ({"name": "Somebody"}, True),
        ({"settings": {"mood": "good", "concurrency": 9}}, True),
        ({"settings": {"mood": "bad"}}, False),
        ({"settings": {}}, False),
        ({"handler": "other", "settings": {"mood": "good"}}, False),
    ],
)
async def test_a_handler_goes_on_under_a_row_that_says_the_same_to_it(
    scope: Scope, changed: dict[str, Any], suits: bool
) -> None:
    made = configured(profile(scope), row(settings={"mood": "good"}))
    after = row(**{"settings": {"mood": "good"}, **changed})
    assert not made.suits_handler(after), "there is none yet"
    handler = mounted()
    made.mount(handler)
    assert made.handler is made.mounted is handler
    assert made.suits_handler(after) is suits
    made.mount(None)
    assert not made.suits_handler(after)


async def test_a_new_description_changes_nothing_that_runs(scope: Scope) -> None:
    made = configured(profile(scope), row(settings={"concurrency": 9}))
    made.describe(row(name="Ann"))
    assert (made.info.name, made.settings.concurrency) == ("Ann", 9)


async def test_its_token_goes_to_the_platform_and_to_hosts_that_are_allowed(scope: Scope) -> None:
    made = profile(
        scope, api_url="https://one.example/api", ws_url="wss://two.example/chat", allowed_hosts=["three.example"]
    )
    for host in ("one", "two", "three"):
        assert made.reaches(f"https://{host}.example/x"), host
    for url in ("https://one.example.evil/x", "https://evil/?one.example", "one.example", ""):
        assert not made.reaches(url), url


async def test_handlers_may_do_what_the_deployment_allows_and_nothing_else(scope: Scope) -> None:
    made = profile(scope, allow_commands=True)
    assert made.permits("commands")
    assert not made.permits("private_webhooks")
    assert not made.permits("anything")  # type: ignore[arg-type]


async def test_what_models_use_is_counted_for_the_handler_of_this_moment(scope: Scope) -> None:
    made = profile(scope)
    made.spending.count(Usage(1, 2, "m"))
    configured(made, row(handler="other"))
    made.spending.count(Usage(1, 2, "m"))
    body = scope.metrics.render("")[0].decode()
    for handler in ("echo", "other"):
        assert f'handler="{handler}"' in body
