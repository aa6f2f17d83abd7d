"""The webhook handler in a running supervisor, against a webhook that answers as the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.records import JournaledMessage
from supervisor.core.states import AgentState, MessageState
from tests.support.observing import figures
from tests.support.stack import Stack, is_apology, stack
from tests.support.webhooks import Answer, ScriptedWebhook, cuts, hangs, says, scripted_webhook, streams

SIGNING_SECRET = "shared-with-the-webhook"
SECRET_FILE = "webhook-secret"


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Stack]:
    """A stack whose agents may ask webhooks on this machine."""
    (tmp_path / SECRET_FILE).write_text(SIGNING_SECRET)
    async with stack(tmp_path, allow_private_webhooks=True) as running:
        yield running


@pytest.fixture
async def webhook() -> AsyncIterator[ScriptedWebhook]:
    """The webhook."""
    async with scripted_webhook() as running:
        yield running


def settings(fleet: Stack, url: str, **given: Any) -> dict[str, Any]:
    """A row's settings for a webhook on this machine; retries and attempts are counted by the test that has them."""
    secret = f"file:{fleet.folder / SECRET_FILE}"
    return {
        "url": url, "signing_secret": secret, "allow_private": True, "retries": 0, "max_attempts": 1, **given
    }  # fmt: skip


async def agent(fleet: Stack, webhook: ScriptedWebhook, *answers: Answer, **given: Any) -> str:
    """An agent online, whose webhook gives ``answers``."""
    webhook.answers = list(answers)
    identity = await fleet.add(1, "webhook", settings=settings(fleet, webhook.url, **given), name="Hooked")
    await fleet.online()
    return identity


async def letter(fleet: Stack) -> JournaledMessage:
    """The one dead letter."""
    [row] = await fleet.service.registry.journal.messages(states=[MessageState.DEAD])
    return row


async def test_a_message_is_asked_as_signed_json(fleet: Stack, webhook: ScriptedWebhook) -> None:
    before = int(time.time())
    identity = await agent(fleet, webhook, says("pong"), history=5)
    [reply] = await fleet.ask(identity, "ping ä")
    assert reply.content == "pong"
    [asked] = webhook.asked
    assert asked.is_signed_with(SIGNING_SECRET)
    assert not asked.is_signed_with("another")
    assert before <= int(asked.headers["X-Supervisor-Timestamp"]) <= time.time()
    assert asked.headers["Content-Type"] == "application/json"
    body = asked.json
    conversation = fleet.sandbox.conversation_of(identity)
    [stored, _] = fleet.sandbox.messages(conversation)
    assert (body["version"], body["agent"], body["conversation"]) == (
        1,
        {"id": identity, "name": "Hooked"},
        conversation,
    )
    sent = body["message"]
    assert (sent["_id"], sent["conversationId"], sent["role"], sent["content"]) == (
        stored.id, conversation, "user", "ping ä"
    )  # fmt: skip
    assert sent.pop("createdBy") == {"userId": stored.sender_id}
    assert sent.pop("sender") == {"id": stored.sender_id}
    assert sent == {name: value for name, value in stored.document.items() if name in sent}
    assert [(item["role"], item["content"]) for item in body["history"]] == [("user", "ping ä")]
    assert body["idempotency_key"] == asked.headers["Idempotency-Key"]


async def test_another_message_has_another_key_and_so_has_a_replay(fleet: Stack, webhook: ScriptedWebhook) -> None:
    identity = await agent(fleet, webhook, says(status=400), says("well"), says("well again"))
    [apology] = await fleet.ask(identity, "one")
    assert is_apology(apology)
    await fleet.service.control.replay((await letter(fleet)).id)
    conversation = fleet.sandbox.conversation_of(identity)
    await fleet.until(lambda: fleet.sandbox.messages(conversation)[-1].content == "well")
    [reply] = await fleet.ask(identity, "two")
    assert reply.content == "well again"
    assert len({asked.headers["Idempotency-Key"] for asked in webhook.asked}) == 3


async def test_a_rotated_secret_is_used_at_once(fleet: Stack, webhook: ScriptedWebhook) -> None:
    identity = await agent(fleet, webhook, says("ok"))
    await fleet.ask(identity, "one")
    (fleet.folder / SECRET_FILE).write_text("a-newer-secret")
    await fleet.ask(identity, "two")
    assert webhook.asked[1].is_signed_with("a-newer-secret")


async def test_shapes_of_an_answer_reach_the_person(fleet: Stack, webhook: ScriptedWebhook) -> None:
    call = {"type": "tool_call", "name": "look_up", "id": "c1", "arguments": {"q": "x"}}
    result = {"type": "tool_result", "name": "look_up", "id": "c1", "result": {"found": 1}, "duration_ms": 3}
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "model": "theirs"}
    usage |= {"reasoning_tokens": 3, "estimated": True}
    identity = await agent(fleet, webhook, says([call, result, {"content": "There is one", "usage": usage}]))
    called, found, reply = await fleet.ask(identity, "how many")
    assert (called.type, found.type, reply.content) == ("tool_call", "tool_result", "There is one")
    assert reply.document["usage"]["totalTokens"] == 12
    shown = figures(fleet.service.metrics)
    assert shown['supervisor_llm_reasoning_tokens_total{handler="webhook",model="theirs"}'] == 3
    assert shown['supervisor_llm_estimated_total{handler="webhook",model="theirs"}'] == 1


async def test_an_answer_is_read_in_the_charset_that_it_is_written_in(fleet: Stack, webhook: ScriptedWebhook) -> None:
    identity = await agent(
        fleet,
        webhook,
        says('{"content": "Grüße"}'.encode("latin-1"), kind="application/json; charset=iso-8859-1"),
        says(b"\xef\xbb\xbf" + '{"content": "Ça va"}'.encode(), kind="application/json"),
    )
    assert [(await fleet.ask(identity, text))[-1].content for text in ("one", "two")] == ["Grüße", "Ça va"]


@pytest.mark.parametrize("answer", [says(status=204), says(None), says([]), says(b" \n", kind="text/plain")])
async def test_an_answer_may_be_nothing(fleet: Stack, webhook: ScriptedWebhook, answer: Answer) -> None:
    identity = await agent(fleet, webhook, answer, says(b"second\n", kind="text/plain; charset=utf-8"))
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    first = await user.say(conversation, "one")
    await user.say(conversation, "two")
    [reply] = await user.wait_for_reply(conversation, after=first)
    assert reply.content == "second"
    assert fleet.service.control.status(identity).inbox.dead == 0


@pytest.mark.parametrize(
    ("kind", "chunks"),
    [
        ("application/x-ndjson", [b'{"content": "first"}\n', b'"the ', b'end"\n']),
        ("text/event-stream", [b'data: {"content": "first"}\n\n', b'data: "the end"\n\n']),
    ],
)
async def test_parts_are_sent_as_they_come(
    fleet: Stack, webhook: ScriptedWebhook, kind: str, chunks: list[bytes]
) -> None:
    seen = asyncio.Event()
    identity = await agent(fleet, webhook, streams(chunks[0], seen, *chunks[1:], kind=kind))
    [first] = await fleet.ask(identity, "count")
    assert first.content == "first"
    seen.set()
    user, conversation = fleet.users[0], fleet.sandbox.conversation_of(identity)
    [answer] = await user.wait_for_reply(conversation, after=first.id)
    assert answer.content == "the end"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (says(b"<p>hello", kind="text/html"), "answered with 'text/html'"),
        (says(b"{nonsense"), "not JSON"),
        (says({"text": "hello"}), "documented shape"),
        (says(b'"' + b"x" * 1_100_000 + b'"'), "more than 1000000 bytes"),
        (streams(b"x" * 1_100_000), "a line of more than"),
        (says(b"\xc3\x28", kind="text/plain"), "not text in UTF-8"),
        (says("x", headers={"Content-Encoding": "br"}), "Content-Encoding br"),
        (says(status=401), "does it check the signature with the same secret"),
        (says(status=307, headers={"Location": "http://169.254.169.254/"}), "redirect"),
        (says(status=404), "answered 404"),
    ],
)
async def test_what_cannot_be_mended_by_asking_again_is_final_and_named(
    fleet: Stack, webhook: ScriptedWebhook, answer: Answer, reason: str
) -> None:
    identity = await agent(fleet, webhook, answer, retries=3, max_attempts=3)
    [apology] = await fleet.ask(identity, "hello")
    assert is_apology(apology)
    assert len(webhook.asked) == 1
    row = await letter(fleet)
    assert reason in (row.error or "")
    assert reason in fleet.service.control.status(identity).health


@pytest.mark.parametrize("own", [True, False], ids=["the handler's retry", "the supervisor's attempt"])
@pytest.mark.parametrize(
    "trouble",
    [
        says(status=500),
        says(status=429, headers={"Retry-After": "0"}),
        says(status=503, headers={"Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT"}),
        cuts(),
        cuts(b'"hel'),
        says(b'"hel', kind="application/x-ndjson"),
    ],
    ids=["500", "429", "503", "cut before", "cut within", "ended within"],
)
async def test_passing_trouble_is_asked_again_with_the_same_key(
    fleet: Stack, webhook: ScriptedWebhook, trouble: Answer, own: bool
) -> None:
    limits = {"retries": 1} if own else {"max_attempts": 2}
    identity = await agent(fleet, webhook, trouble, says("well"), **limits)
    [reply] = await fleet.ask(identity, "hello")
    assert reply.content == "well"
    first, second = webhook.asked
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.body == second.body
    assert second.is_signed_with(SIGNING_SECRET)


@pytest.mark.parametrize("break_off", [cuts(b'"one"\n', b'"tw'), streams(b'"one"\n', b'"tw')], ids=["cut", "ended"])
async def test_after_a_visible_part_nothing_is_asked_again(
    fleet: Stack, webhook: ScriptedWebhook, break_off: Answer
) -> None:
    identity = await agent(fleet, webhook, break_off, says("again"), retries=3, max_attempts=3)
    one, apology = await fleet.ask(identity, "hello", count=2)
    assert (one.content, is_apology(apology)) == ("one", True)
    assert len(webhook.asked) == 1


async def test_a_slow_webhook_is_given_up_and_asked_again(fleet: Stack, webhook: ScriptedWebhook) -> None:
    release = asyncio.Event()
    identity = await agent(fleet, webhook, hangs(release), says("well"), request_seconds=0.2, max_attempts=2)
    [reply] = await fleet.ask(identity, "hello")
    assert reply.content == "well"
    release.set()


async def test_a_wait_that_the_time_does_not_allow_is_left_to_the_supervisor(
    fleet: Stack, webhook: ScriptedWebhook
) -> None:
    later = says(status=503, headers={"Retry-After": "3600"})
    identity = await agent(fleet, webhook, later, retries=5, timeout_seconds=30)
    [apology] = await fleet.ask(identity, "hello")
    assert is_apology(apology)
    assert len(webhook.asked) == 1
    assert "answered 503" in ((await letter(fleet)).error or "")


async def test_nobody_listens(fleet: Stack, webhook: ScriptedWebhook, unused_tcp_port: int) -> None:
    webhook.url = f"http://127.0.0.1:{unused_tcp_port}/secret-path"
    identity = await agent(fleet, webhook)
    await fleet.ask(identity, "hello")
    health = fleet.service.control.status(identity).health
    assert "the connection to 127.0.0.1 failed" in health
    assert "secret-path" not in health


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"url": None}, "url"),
        ({"signing_secret": None}, "signing_secret"),
        ({"signing_secret": "env:HOME"}, "HOME"),
        ({"signing_secret": "the secret itself"}, "not a reference"),
        ({"retries": -1}, "retries"),
        ({"allow_private": False}, "https://"),
        ({"allow_private": False, "url": "https://127.0.0.1/"}, "no public address"),
        ({"allow_private": False, "url": "https://[::ffff:10.0.0.1]/"}, "no public address"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "no public address"),
        ({"url": "ftp://127.0.0.1/"}, "https:// or http://"),
        ({"url": "http://"}, "url"),
    ],
)
async def test_wrong_settings_fault_the_agent(
    fleet: Stack, webhook: ScriptedWebhook, changes: dict[str, Any], reason: str
) -> None:
    given = {name: value for name, value in (settings(fleet, webhook.url) | changes).items() if value is not None}
    identity = await fleet.add(1, "webhook", settings=given)
    assert reason in await fleet.state(identity, AgentState.FAULTED)


async def test_private_addresses_need_the_deployments_word(tmp_path: Path, webhook: ScriptedWebhook) -> None:
    (tmp_path / SECRET_FILE).write_text(SIGNING_SECRET)
    async with stack(tmp_path) as fleet:
        identity = await fleet.add(1, "webhook", settings=settings(fleet, webhook.url))
        assert "SUPERVISOR_ALLOW_PRIVATE_WEBHOOKS" in await fleet.state(identity, AgentState.FAULTED)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001"])
async def test_other_spellings_of_private_addresses_fault_the_agent(
    fleet: Stack, webhook: ScriptedWebhook, host: str
) -> None:
    url = f"https://{host}:{webhook.port}/"
    identity = await fleet.add(1, "webhook", settings=settings(fleet, url, allow_private=False))
    assert f"{host} (127.0.0.1) is no public address" in await fleet.state(identity, AgentState.FAULTED)
    assert not webhook.asked


async def test_a_name_of_this_machine_is_refused_and_nobody_connects(fleet: Stack, webhook: ScriptedWebhook) -> None:
    webhook.answers = [says("reached")]
    url = f"https://localhost:{webhook.port}/"
    identity = await fleet.add(1, "webhook", settings=settings(fleet, url, allow_private=False, max_attempts=1))
    await fleet.online()
    [apology] = await fleet.ask(identity, "hello")
    assert is_apology(apology)
    assert not webhook.asked


async def test_the_signing_secret_is_said_nowhere(
    fleet: Stack, webhook: ScriptedWebhook, log: Callable[[], list[dict[str, Any]]]
) -> None:
    identity = await agent(fleet, webhook, says(SIGNING_SECRET.encode(), kind=SIGNING_SECRET), says("ok"))
    await fleet.ask(identity, "hello")
    row = await letter(fleet)
    assert SIGNING_SECRET not in str(row.error) + str(log()) + fleet.service.control.status(identity).health
