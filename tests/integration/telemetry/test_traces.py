"""One trace a message, from its receipt to the last acknowledgement, as a collector gets it over real HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.errors import ConfigurationError
from supervisor.core.records import JournaledMessage
from supervisor.core.states import AgentState, MessageState
from supervisor.handler import ModelCall, Usage
from supervisor.protocol import InboundMessage
from supervisor.service import Service
from supervisor.telemetry.tracing import Collector as Destination
from supervisor.telemetry.tracing import export, start_tracing
from tests.support.assistants import assistants
from tests.support.certificates import make_server_context
from tests.support.collector import Collector, Span, collecting, opens_tracing, tree
from tests.support.fake_mcp import fake_mcp
from tests.support.fake_models import MODEL_KEY, Answer
from tests.support.observing import handlers_folder
from tests.support.paths import ROOT
from tests.support.stack import SECRET, Stack, handler_module, stack
from tests.support.webhooks import says, scripted_webhook

HANDLERS = {
    "flaky": '''
"""Fails on the first attempt; for good where it is told so."""
import pathlib
from supervisor.handler import Permanent, Reply

failed = pathlib.Path(__file__).with_suffix(".failed")

async def on_message(message, ctx):
    if message.content == "bury":
        raise Permanent("quoting " + message.content)
    if message.content == "fail" and not failed.exists():
        failed.touch()
        raise RuntimeError("quoting " + message.content)
    return Reply("answered")
''',
    "slow": '''
"""Answers when it is let."""
import asyncio

started, gate = asyncio.Event(), asyncio.Event()

async def on_message(message, ctx):
    started.set()
    await gate.wait()
    return "at last"
''',
    "threaded": """
def on_message(message, ctx):
    with ctx.span("outer"):
        with ctx.tool_call("look up", call_id="c1"):
            pass
    try:
        with ctx.model_call("m", provider="own"):
            raise OSError("no such model")
    except OSError:
        return "done"
""",
    "lines": """
def on_message(message, ctx):
    with ctx.span("all parts"):
        yield "one"
        with ctx.span("second part"):
            yield "two"
""",
    "stream": """
import asyncio

async def on_message(message, ctx):
    async def look_up(name):
        with ctx.tool_call(name):
            await asyncio.sleep(0.01)

    with ctx.span("all parts"):
        yield "one"
        await asyncio.gather(look_up("a"), look_up("b"))
        yield "two"
""",
}

#: Spans are sent soon after they end.
HASTY = {"open_tracing": opens_tracing(batch_seconds=0.05)}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as running:
        yield running


@pytest.fixture
async def fleet(tmp_path: Path, collector: Collector) -> AsyncIterator[Stack]:
    agents_dir = handlers_folder(tmp_path, HANDLERS)
    async with stack(tmp_path, agents_dir=agents_dir, parts=HASTY, otlp_endpoint=collector.url) as running:
        yield running


@pytest.fixture
def row() -> JournaledMessage:
    """A message with ids that no encoding takes, of an hour that is still to come."""
    return JournaledMessage(
        id=1,
        agent_id="a" * 24,
        key="half a pair \ud83d",
        message=InboundMessage(conversation_id="c\udc00", role="user", content="hello"),
        state=MessageState.DONE,
        attempts=1,
        received_at=time.time() + 3600,
    )


def only(spans: list[Span], name: str) -> Span:
    [span] = [span for span in spans if span.name == name]
    return span


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


async def test_an_assistant_with_its_models_and_tools(tmp_path: Path, collector: Collector) -> None:
    async with (
        assistants(
            tmp_path,
            parts=HASTY,
            otlp_endpoint=collector.url,
            otlp_headers="x-key=k-1",
            otlp_resource="k8s.cluster.name=one, service.name=other",
            deployment_name="staging",
        ) as fleet,
        fake_mcp() as tools,
    ):
        fleet.models.say(
            Answer("Let me look.", tool_calls=(("mcp__We__weather", {"city": "Ulm"}),), usage=(10, 2, 3), reasoning=1),
            Answer("It is bright.", reports="none"),
        )
        identity = await fleet.add(servers={"We": tools})
        conversation, message = await fleet.say(identity, "How is the sky?")
        await fleet.answer(conversation, message, count=2)
        [spans] = await collector.ended()
        await fleet.stack.service.stop()
        assert len(collector.traces()) == 1

    sends = ["send"] * 4
    assert tree(spans) == {
        "message": ["queue", {"handle": ["chat gpt-4o", "execute_tool mcp__We__weather", "chat gpt-4o"]}, *sends]
    }
    root = only(spans, "message")
    assert root.kind == "CONSUMER"
    assert not any(span.failed for span in spans)
    assert root.attributes == {
        "messaging.system": "aiwm",
        "messaging.operation.type": "process",
        "messaging.message.id": message,
        "aiwm.agent.id": identity,
        "aiwm.handler": "assistant",
        "aiwm.conversation.id": conversation,
        "aiwm.message.id": message,
        "aiwm.message.attempts": 1,
        "aiwm.message.outcome": "done",
        "gen_ai.agent.id": identity,
        "gen_ai.conversation.id": conversation,
    }
    first, second = named(spans, "chat gpt-4o")
    assert (first.kind, first.attributes) == (
        "CLIENT",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.agent.id": identity,
            "gen_ai.conversation.id": conversation,
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 2,
            "gen_ai.usage.cache_read.input_tokens": 3,
            "gen_ai.usage.reasoning.output_tokens": 1,
        },
    )
    assert second.attributes["gen_ai.usage.input_tokens"] > 0
    assert second.attributes["aiwm.usage.estimated"] is True
    assert only(spans, "execute_tool mcp__We__weather").attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "mcp__We__weather",
        "gen_ai.tool.call.id": "call_0",
        "gen_ai.agent.id": identity,
        "gen_ai.conversation.id": conversation,
    }
    assert [span.attributes["aiwm.reply.part"] for span in named(spans, "send")] == [0, 1, 2, 3]
    assert {span.attributes["aiwm.reply.outcome"] for span in named(spans, "send")} == {"acked"}
    queue, handle = only(spans, "queue"), only(spans, "handle")
    assert root.started_at == queue.started_at <= queue.ended_at <= handle.started_at
    assert handle.ended_at <= root.ended_at == max(span.ended_at for span in spans)
    # The tool server can go on with it, in what it does for the call.
    [traceparent] = {traceparent for method, traceparent in tools.traceparents if method == "tools/call"}
    assert traceparent == f"00-{root.trace_id}-{only(spans, 'execute_tool mcp__We__weather').span_id}-01"

    [resource] = {tuple(sorted(resource.items())) for resource in collector.resources}
    assert dict(resource)["service.name"] == "aiwm-supervisor"
    assert {"service.version", "service.instance.id", "host.name", "process.pid"} <= dict(resource).keys()
    given = {"deployment.environment.name": "staging", "k8s.cluster.name": "one"}
    assert dict(resource).items() >= given.items()
    assert {headers["x-key"] for headers in collector.headers} == {"k-1"}
    for secret in ("sky", "look.", "Ulm", "sunny", "bright", MODEL_KEY, SECRET, "eyJ", "Be brief", "k-1"):
        assert secret.encode() not in collector.raw, secret


TOOLS = '''
import time

async def look(city: str) -> str:
    """Look."""
    return f"rain in {city}"

def wait() -> str:
    """Look from a thread."""
    time.sleep(0.05)
    return "at last"

async def fail() -> str:
    """Fail."""
    raise LookupError("quoting a person")

tools = [look, wait, fail]
'''


async def test_an_authors_own_tools_are_traced_as_a_servers_are(tmp_path: Path, collector: Collector) -> None:
    folder = handlers_folder(tmp_path, {"mine": TOOLS})
    async with (
        assistants(tmp_path, agents_dir=folder, parts=HASTY, otlp_endpoint=collector.url) as fleet,
        fake_mcp() as tools,
    ):
        calls: list[tuple[str, dict[str, str]]] = [
            *(("mcp__We__weather", {"city": "Ulm"}), ("mcp__We__thermometer", {})),
            *(("look", {"city": "Ulm"}), ("wait", {}), ("fail", {}), ("look", {"town": "Ulm"})),
        ]
        for call in calls:
            fleet.models.say(Answer(tool_calls=(call,), usage=(10, 2, 0)))
        identity = await fleet.add(servers={"We": tools}, tools="mine")
        await fleet.ask(identity, "How is the sky?")
        [spans] = await collector.ended()

    names = [name for name, _ in calls]
    expected = [one for name in names for one in ("chat gpt-4o", f"execute_tool {name}")]
    [handle] = [one for one in tree(spans)["message"] if isinstance(one, dict)]
    assert handle == {"handle": [*expected, "chat gpt-4o"]}
    executed = [span for span in spans if span.name.startswith("execute_tool")]
    assert {span.kind for span in executed} == {"INTERNAL"}
    assert [span.attributes["gen_ai.tool.name"] for span in executed] == names
    assert {span.attributes["gen_ai.operation.name"] for span in executed} == {"execute_tool"}
    assert all(span.attributes["gen_ai.tool.call.id"] for span in executed)
    failures = [span.attributes.get("error.type") if span.failed else None for span in executed]
    assert failures == [None, "ToolFailed", None, None, "LookupError", "ToolFailed"]
    waited = executed[3]
    assert waited.ended_at - waited.started_at >= 0.05
    for secret in ("sky", "Ulm", "rain", "at last", "quoting", "town"):
        assert secret.encode() not in collector.raw, secret


async def test_a_retried_message_is_one_trace_also_over_a_restart(fleet: Stack, collector: Collector) -> None:
    identity = await fleet.add(1, "flaky")
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    message = await user.say(conversation, "fail")
    journal = fleet.service.registry.journal

    async def retried() -> bool:
        return any(row.state is MessageState.RETRYABLE for row in await journal.messages())

    async with asyncio.timeout(10):
        while not await retried():
            await asyncio.sleep(0.01)
    await fleet.restart()
    await user.wait_for_reply(conversation, after=message, timeout=20)
    [spans] = await collector.ended()
    assert tree(spans) == {"message": ["queue", "handle", "handle", "send"]}
    first, second = named(spans, "handle")
    assert (first.failed, first.attributes["error.type"]) == (True, "RuntimeError")
    assert (first.attributes["aiwm.attempt"], first.attributes["aiwm.attempt.outcome"]) == (1, "retried")
    assert (second.attributes["aiwm.attempt"], second.attributes["aiwm.attempt.outcome"]) == (2, "done")
    root = only(spans, "message")
    assert (root.failed, root.attributes["aiwm.message.attempts"]) == (False, 2)
    assert len({resource["service.instance.id"] for resource in collector.resources}) == 2
    assert b"quoting" not in collector.raw


async def test_a_dead_one_ends_with_its_apology_and_a_replay_is_a_trace_of_its_own(
    fleet: Stack, collector: Collector
) -> None:
    identity = await fleet.add(1, "flaky")
    await fleet.online()
    await fleet.ask(identity, "bury")
    [spans] = await collector.ended()
    assert tree(spans) == {"message": ["queue", "handle", "send"]}
    root = only(spans, "message")
    assert (root.failed, root.attributes["aiwm.message.outcome"]) == (True, "dead")
    assert only(spans, "handle").attributes["error.type"] == "Permanent"
    [letter] = await fleet.service.registry.journal.messages()
    await fleet.service.control.replay(letter.id)
    again = (await collector.ended(2))[1]
    # It was received when it was.
    assert only(again, "message").attributes["aiwm.message.replay"] == 1
    assert only(again, "message").started_at == root.started_at


async def test_a_reply_that_the_next_process_delivers_ends_the_trace(fleet: Stack, collector: Collector) -> None:
    identity = await fleet.add(1, "slow")
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    message = await user.say(conversation, "hello")
    await handler_module("slow").started.wait()
    fleet.sandbox.faults.connect("kick")
    fleet.sandbox.kick()
    await fleet.state(identity, AgentState.BACKOFF)
    handler_module("slow").gate.set()
    await collector.until(lambda: named(collector.spans, "handle"))
    assert not collector.roots()
    await fleet.restart(grace_seconds=0.1)
    fleet.sandbox.faults.clear()
    await user.wait_for_reply(conversation, after=message, timeout=20)
    [spans] = await collector.ended()
    assert tree(spans) == {"message": ["queue", "handle", "send"]}
    assert only(spans, "message").ended_at >= only(spans, "send").ended_at > only(spans, "handle").ended_at
    await fleet.service.stop()
    assert len(collector.roots()) == 1


async def test_a_refused_reply_and_a_command(
    fleet: Stack, collector: Collector, log: Callable[[], list[dict[str, Any]]]
) -> None:
    identity = await fleet.add(1, "echo")
    await fleet.online()
    fleet.sandbox.faults.refuse_sends(times=1)
    user = await fleet.sandbox.user()
    await user.say(await user.open(identity), "hello")
    [refused] = await collector.ended()
    assert tree(refused) == {"message": ["queue", "handle", "send"]}
    send = only(refused, "send")
    assert (send.failed, send.attributes["aiwm.reply.outcome"], send.attributes["aiwm.reply.sends"]) == (
        True,
        "dead",
        1,
    )
    assert only(refused, "message").attributes["aiwm.message.outcome"] == "done"
    await user.say(await user.open(identity), "/status")
    command = (await collector.ended(2))[1]
    assert tree(command) == {"message": ["send"]}
    # What the log says of both leads to their traces.
    lines = {line["event"]: line for line in log()}
    assert lines["reply_refused"]["trace_id"] == send.trace_id
    assert lines["command"]["trace_id"] == command[0].trace_id


@pytest.mark.parametrize(
    ("handler", "parts", "expected"),
    [
        ("threaded", 1, [{"outer": ["execute_tool look up"]}, "chat m"]),
        ("lines", 2, [{"all parts": ["second part"]}]),
        ("stream", 2, [{"all parts": ["execute_tool a", "execute_tool b"]}]),
    ],
)
async def test_spans_of_every_form_of_handler(
    fleet: Stack, collector: Collector, handler: str, parts: int, expected: list[Any]
) -> None:
    identity = await fleet.add(1, handler)
    await fleet.online()
    await fleet.ask(identity, "hello", count=parts)
    [spans] = await collector.ended()
    [handle] = [one for one in tree(spans)["message"] if isinstance(one, dict)]
    assert handle == {"handle": expected}
    if handler == "threaded":
        chat = only(spans, "chat m")
        assert (chat.failed, chat.attributes["error.type"]) == (True, "OSError")
        assert b"no such model" not in collector.raw


async def test_whatever_others_call_things_a_trace_can_hold_it(collector: Collector, row: JournaledMessage) -> None:
    token = "Bearer abcdefghijkl"
    tracing = start_tracing(Destination(f"{collector.url}/v1/traces", SystemClock()))
    traces = tracing.of(row.agent_id, lambda: ("", "echo"))
    attempt = traces.attempt(row)
    with attempt.tool_call(f"\ud83d\n{token} " + "x" * 1000, "\x00"), attempt.span(" "):
        pass
    call = ModelCall("m\r\n", Usage(-1, 2**80, "m", 7))
    with attempt.model_call(call, provider="\u202e"):
        call.model = 5  # type: ignore[assignment]
    attempt.end("done")
    traces.settled(row)
    await tracing.close()
    await tracing.close()
    [spans] = collector.traces().values()
    assert {span.name[:15] for span in spans} == {"message", "queue", "handle", "execute_tool Be", "unknown", "chat m"}
    assert all(span.started_at <= span.ended_at and len(span.name) < 120 for span in spans)
    assert only(spans, "message").attributes["aiwm.message.id"] == "half a pair ?"
    assert only(spans, "chat m").attributes["gen_ai.usage.input_tokens"] == 0
    assert only(spans, "chat m").attributes["gen_ai.response.model"] == "5"
    assert token.encode() not in collector.raw


async def test_a_webhook_can_go_on_with_the_trace(tmp_path: Path, collector: Collector) -> None:
    (tmp_path / "webhook-secret").write_text("shared")
    async with (
        scripted_webhook() as webhook,
        stack(tmp_path, parts=HASTY, allow_private_webhooks=True, otlp_endpoint=f"{collector.url}/v1/traces") as fleet,
    ):
        webhook.answers = [says({"content": "yes"})]
        secret = f"file:{tmp_path / 'webhook-secret'}"
        settings = {"url": webhook.url, "signing_secret": secret, "allow_private": True}
        identity = await fleet.add(1, "webhook", settings=settings)
        await fleet.online()
        await fleet.ask(identity, "hello")
        [spans] = await collector.ended()
    [asked] = webhook.asked
    assert asked.headers["traceparent"] == f"00-{spans[0].trace_id}-{only(spans, 'handle').span_id}-01"


async def test_of_a_message_that_is_not_sampled_nothing_is_written(
    tmp_path: Path, collector: Collector, log: Callable[[], list[dict[str, Any]]]
) -> None:
    async with stack(tmp_path, parts=HASTY, otlp_endpoint=collector.url, trace_sample_ratio=0.0) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await fleet.ask(identity, "hello")
        await fleet.service.stop()
    assert collector.asked == 0
    assert not any("trace_id" in line for line in log())


async def test_a_collector_that_is_away_is_told_of_once_and_harms_nothing(
    fleet: Stack, collector: Collector, log: Callable[[], list[dict[str, Any]]]
) -> None:
    identity = await fleet.add()
    await fleet.online()
    port = collector.port

    def told(event: str) -> list[dict[str, Any]]:
        return [line for line in log() if line["event"] == event]

    await collector.stop()
    for _ in range(3):
        await fleet.ask(identity, "hello")
        await collector.until(lambda: told("traces_not_exported"))
    [line] = told("traces_not_exported")
    assert (line["collector"], line["reason"], line["level"]) == (f"127.0.0.1:{port}", "Connection refused", "warning")
    assert "message_id" not in line
    collector.status = 401
    await collector.start(port)
    await fleet.ask(identity, "hello")
    await collector.until(lambda: collector.asked)
    collector.status = 200
    await fleet.ask(identity, "hello")
    await collector.until(lambda: told("traces_exported_again"))
    [back] = told("traces_exported_again")
    assert back["failures"] >= 2
    assert back["dropped_spans"] >= 8
    assert len(told("traces_not_exported")) == 1


async def test_a_collector_that_hangs_holds_up_neither_messages_nor_the_end(
    fleet: Stack, collector: Collector, log: Callable[[], list[dict[str, Any]]]
) -> None:
    identity = await fleet.add()
    await fleet.online()
    collector.go.clear()
    await fleet.ask(identity, "hello")
    await collector.until(lambda: collector.asked)
    for _ in range(5):
        await fleet.ask(identity, "hello", timeout=5)
    started = time.monotonic()
    assert await fleet.service.stop()
    assert time.monotonic() - started < export.CLOSE_SECONDS + 3
    [line] = [line for line in log() if line["event"] == "traces_cut_short"]
    assert line["seconds"] == export.CLOSE_SECONDS
    # The end comes after that, and not before.
    assert log()[-1]["event"] == "stopped"


async def test_a_collector_behind_tls_is_trusted_by_its_authority(
    tmp_path: Path, log: Callable[[], list[dict[str, Any]]], row: JournaledMessage
) -> None:
    context, authority = make_server_context(tmp_path)
    collector = Collector()
    collector.go.set()
    await collector.start(tls=context)
    try:
        for ca_file in (None, authority):
            tracing = start_tracing(Destination(f"{collector.url}/v1/traces", SystemClock(), ca_file=ca_file))
            tracing.of(row.agent_id, lambda: ("", "echo")).settled(row)
            await tracing.close()
    finally:
        await collector.stop()
    assert [span.name for span in collector.spans] == ["message"]
    [line] = [line for line in log() if line["event"] == "traces_not_exported"]
    assert line["reason"].startswith("its TLS certificate is not trusted (")
    (tmp_path / "no.pem").write_text("nothing")
    with pytest.raises(ConfigurationError, match=r"SUPERVISOR_CA_FILE .*no\.pem cannot be used"):
        start_tracing(Destination(collector.url, SystemClock(), ca_file=tmp_path / "no.pem"))


async def test_what_is_left_at_the_end_is_sent(fleet: Stack, collector: Collector) -> None:
    identity = await fleet.add()
    await fleet.online()
    for _ in range(20):
        await fleet.ask(identity, "hello")
    await fleet.service.stop()
    assert len(collector.roots()) == len(collector.traces()) == 20
    assert {len(spans) for spans in collector.traces().values()} == {4}


async def test_a_queue_that_is_full_drops_what_is_new(
    tmp_path: Path, collector: Collector, log: Callable[[], list[dict[str, Any]]]
) -> None:
    parts = {"open_tracing": opens_tracing(batch_seconds=0.05, queue_limit=8)}
    collector.go.clear()
    async with stack(tmp_path, parts=parts, otlp_endpoint=collector.url) as fleet:
        identity = await fleet.add()
        await fleet.online()
        for _ in range(10):
            await fleet.ask(identity, "hello", timeout=5)
        collector.go.set()
        # Told while the collector answers, too: it is slower than what comes.
        await fleet.until(lambda: [line for line in log() if line["event"] == "spans_dropped" and line["spans"] > 0])
        await fleet.service.stop()
    assert 4 <= len(collector.spans) <= 20


OFF = """
import asyncio, sys
from supervisor.testing import sandboxed

async def main():
    async with sandboxed("echo", agents_dir=sys.argv[1]) as chat:
        print((await chat.ask("hello")).content)

asyncio.run(main())
# FastAPI looks for the API, and imports that where it is installed.
ours = ("opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf")
print([name for name in sys.modules if name.startswith(ours)])
"""


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    agents = ROOT / "agents"
    command = [sys.executable, "-c", OFF, str(agents)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["Echo: hello", "[]"], done.stderr


async def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.startswith(("opentelemetry", "supervisor.telemetry.tracing.spans"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    async with stack(tmp_path) as fleet:
        await fleet.service.stop()
        with pytest.raises(ConfigurationError, match=r"needs opentelemetry, .* pip install 'aiwm-supervisor\[otel\]'"):
            await Service.start(fleet.settings.model_copy(update={"otlp_endpoint": "http://127.0.0.1:4318"}))
