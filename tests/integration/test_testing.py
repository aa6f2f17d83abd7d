"""``supervisor.testing``: what the tests of handlers stand on."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.core.errors import ConfigurationError, HandlerError, InvalidReplyError
from supervisor.handler import (
    AgentContext,
    AttachmentDetails,
    Context,
    Handler,
    HistoryItem,
    Message,
    Part,
    PlatformError,
    Reference,
    Remembered,
    Reply,
    Sender,
    ToolCall,
)
from supervisor.sandbox import Profile
from supervisor.testing import FakeContext, ask, sandboxed


@pytest.fixture
def agents_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "agents"
    folder.mkdir()
    (folder / "shout.py").write_text("async def on_message(message, ctx):\n    return message.content.upper()\n")
    (folder / "broken.py").write_text("import nothing_of_that_name\n")
    return folder


async def test_a_handler_of_the_folder_is_asked_by_name(agents_dir: Path) -> None:
    assert (await ask("shout", "hello", agents_dir=agents_dir)).content == "HELLO"


async def test_a_function_sees_what_the_context_was_given_and_what_it_does_is_recorded() -> None:
    async def on_message(message: Message, ctx: Context) -> AsyncIterator[Part]:
        ctx.typing()
        ctx.mark_read()
        await ctx.join("d" * 24)
        with ctx.model_call("small") as call:
            call.model = "large"
        with ctx.span("all of it"), ctx.tool_call("look up", call_id="c1"):
            assert ctx.trace_headers() == {}
        ctx.usage(3, 4, model="large")
        ctx.usage(1, 2, model="large", cached_tokens=1)
        ctx.note_health("no key")
        said = [item.content for item in await ctx.history()]
        assert ctx.permits("commands")
        assert not ctx.budget().exhausted
        yield f"{ctx.settings['tone']}, {ctx.instruction.system_prompt}, {ctx.secret('env:KEY')}, {said}"
        await ctx.send(Reply("and so on"))

    ctx = FakeContext(
        settings={"tone": "kind"},
        instruction="Be brief.",
        history=["before", HistoryItem("assistant", "yes", 1.0)],
        secrets={"env:KEY": "k"},
        permissions=["commands"],
    )
    reply = await ask(on_message, "now", ctx)
    assert reply == Reply("and so on")
    assert ctx.parts == ["kind, Be brief., k, ['before', 'yes', 'now']", reply]
    assert (ctx.typed, ctx.read, ctx.health, ctx.models) == ([True], True, "no key", ["large"])
    assert (ctx.tools, ctx.spans) == (["look up"], ["all of it"])
    assert (ctx.used.total_tokens, ctx.used.cached_tokens, ctx.used.model) == (10, 1, "large")
    assert ctx.conversations == {"d" * 24}


async def test_what_a_handler_remembers_is_kept_by_its_context() -> None:
    async def on_message(message: Message, ctx: Context) -> str:
        known, said = await ctx.remembered(), await ctx.history()
        behind = known.behind(said) if known else said
        await ctx.remember(f"They asked {message.content}.", said)
        return f"{known.text if known else 'nothing'}: {len(behind)}"

    ctx = FakeContext(history=["before", HistoryItem("assistant", "yes", 1.0)])
    assert (await ask(on_message, "when", ctx)).content == "nothing: 3"
    assert ctx.memory == Remembered("They asked when.", 3, 0.0)
    assert (await ask(on_message, "where", ctx)).content == "They asked when.: 1"


async def test_what_came_along_and_what_goes_beside_is_there_to_be_tried() -> None:
    async def on_message(message: Message, ctx: Context) -> Reply:
        [given] = message.attachments
        file = await ctx.upload(b"a,b", "table.csv", "text/csv")
        await ctx.channel_send(file, caption=given.name)
        return Reply(f"for {message.sender.name}, of {message.references[0].label}", attachments=[file])

    ctx = FakeContext()
    message = Message(
        conversation_id=ctx.conversation,
        role="user",
        content="look",
        attachments=("https://x.example/a.png",),
        attachment_details=(AttachmentDetails(name="a.png"),),
        sender=Sender(name="Ann", connection="c", channel="9"),
        references=(Reference(label="Deal 7"),),
    )
    reply = await ask(on_message, message, ctx)
    [url] = ctx.files
    assert reply == Reply("for Ann, of Deal 7", attachments=[url])
    file = {"fileUrl": url, "filename": "table.csv", "mimeType": "text/csv", "caption": "a.png"}
    assert ctx.channels == [{"connectionId": "c", "channelId": "9", "file": file}]
    with pytest.raises(ValueError, match="through no channel"):
        await FakeContext().channel_send("hi")
    with pytest.raises(PlatformError, match="no uploads"):
        await ask(on_message, message, FakeContext(trouble=PlatformError("no uploads here")))


async def test_a_chat_brings_what_came_along(agents_dir: Path) -> None:
    seen = "f'{message.attachments[0].name}, {message.references[0].label}'"
    code = f"async def on_message(message, ctx):\n    return {seen}\n"
    (agents_dir / "seen.py").write_text(code)
    async with sandboxed("seen", agents_dir=agents_dir, profile="v2") as chat:
        files = [{"type": "file", "url": "https://x.example/a", "filename": "a.txt"}]
        reply = await chat.ask("look", attachments=files, references=[{"label": "Deal 7"}])
        assert reply.content == "a.txt, Deal 7"


async def test_where_no_answer_comes_it_is_said_what_came_and_what_the_agent_did(agents_dir: Path) -> None:
    (agents_dir / "slow.py").write_text(
        "import asyncio\nfrom supervisor.handler import Thinking\n\n"
        "async def on_message(message, ctx):\n"
        "    yield Thinking('hm')\n"
        "    ctx.log.warning('no_key', provider='x')\n"
        "    await asyncio.sleep(60)\n"
    )
    async with sandboxed("slow", agents_dir=agents_dir) as chat:
        with pytest.raises(TimeoutError) as caught:
            await chat.ask("hello", timeout=1.0)
    said = str(caught.value)
    assert said.startswith("no answer to 'hello' came within 1 s; what came: thinking: 'hm'\nthe agent is online")
    assert "line 7, in on_message" in said
    assert "the log: event='no_key'" in said
    assert "provider='x'" in said


async def test_a_setting_that_no_agent_could_be_given_fails_the_test_too(agents_dir: Path) -> None:
    (agents_dir / "weather.py").write_text(
        'SETTINGS = {"city": {"type": "string"}, "units": {"enum": ["metric", "imperial"]}}\n\n'
        "async def on_message(message, ctx):\n"
        "    return f\"{ctx.settings.get('city')}, {ctx.settings.get('units')}\"\n"
    )
    given = {"city": "Rome", "units": "metric", "concurrency": 2, "of somebody else": 1}
    assert (await ask("weather", "x", FakeContext(settings=given), agents_dir=agents_dir)).content == "Rome, metric"
    for wrong, said in (
        ({"citty": "Rome"}, "there is no citty; did you mean city"),
        ({"units": "kelvin"}, "units must be metric or imperial"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            await ask("weather", "x", FakeContext(settings=wrong), agents_dir=agents_dir)
        with pytest.raises(ConfigurationError, match=said):
            async with sandboxed("weather", agents_dir=agents_dir, settings=wrong):
                pass


async def test_a_class_lives_from_start_to_stop_and_a_plain_method_runs_in_a_thread() -> None:
    life: list[str] = []

    class Plain(Handler):
        async def on_start(self, ctx: AgentContext) -> None:
            life.append("start")

        def on_message(self, message: Message, ctx: Context) -> str:
            life.append(threading.current_thread().name)
            return message.content

        async def on_stop(self, ctx: AgentContext) -> None:
            life.append("stop")

    assert (await ask(Plain, "hello")).content == "hello"
    assert (life[0], life[-1]) == ("start", "stop")
    assert life[1] != threading.main_thread().name


async def test_what_the_platform_would_refuse_is_refused() -> None:
    with pytest.raises(InvalidReplyError, match="content is empty"):
        await ask(lambda message, ctx: "   ", "hello")


async def test_an_answer_that_is_no_text_or_none_says_what_there_was() -> None:
    with pytest.raises(LookupError, match="look_up"):
        await ask(lambda message, ctx: ToolCall("look_up", {}), "hello")
    with pytest.raises(LookupError, match=r"\[\]"):
        await ask(lambda message, ctx: None, "hello")


async def test_what_the_handler_raises_reaches_the_test() -> None:
    with pytest.raises(ConfigurationError, match="env:KEY"):
        await ask(lambda message, ctx: ctx.secret("env:KEY"), "hello")


@pytest.mark.parametrize("profile", ["v1", "v2"])
async def test_a_chat_with_a_handler_takes_one_line(agents_dir: Path, profile: str) -> None:
    async with sandboxed("shout", agents_dir=agents_dir, profile=profile) as chat:  # type: ignore[arg-type]
        assert (await chat.ask("hello")).content == "HELLO"
        assert (await chat.ask("again")).content == "AGAIN"
        assert [message.content for message in chat.messages] == ["hello", "HELLO", "again", "AGAIN"]


@pytest.mark.parametrize("profile", ["v1", "v2"])
async def test_an_apology_is_told_from_an_answer_by_its_error(agents_dir: Path, profile: Profile) -> None:
    (agents_dir / "moody.py").write_text(
        "async def on_message(message, ctx):\n"
        "    if message.content == 'bad':\n        raise ValueError(message.content)\n    return 'fine'\n"
    )
    async with sandboxed("moody", agents_dir=agents_dir, profile=profile, max_attempts=1) as chat:
        answer, apology = await chat.ask("good"), await chat.ask("bad")
    assert [one.document.get("error") for one in (answer, apology)] == [None, apology.content]
    assert answer.type == apology.type != "error"


async def test_a_handler_that_does_not_load_fails_the_test_with_the_reason(agents_dir: Path) -> None:
    with pytest.raises(HandlerError, match="nothing_of_that_name"):
        async with sandboxed("broken", agents_dir=agents_dir):
            pass
    with pytest.raises(HandlerError, match="nothing_of_that_name"):
        await ask("broken", "hello", agents_dir=agents_dir)
    with pytest.raises(HandlerError, match="did you mean shout"):
        await ask("shuot", "hello", agents_dir=agents_dir)
