"""The assistant's model on what people attach: what reaches it, what is said of the rest, and what is never asked."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from supervisor.handler import AttachmentDetails, Message
from supervisor.testing import CONVERSATION_ID
from tests.support.fake_mcp import Tool, fake_mcp
from tests.support.fake_models import Answer, Request, refusal
from tests.support.lone_assistants import LoneAssistant, lone_assistant
from tests.support.webhooks import ScriptedWebhook, cuts, hangs, says, scripted_webhook, streams

PROVIDERS = [("openai", "gpt-4o"), ("anthropic", "claude-opus-5"), ("google", "gemini-2.5-pro")]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
PDF = b"%PDF-1.7\n" + bytes(range(256))
KINDS = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0" + bytes(64),
    "image/gif": b"GIF89a" + bytes(64),
    "image/webp": b"RIFF\x40\x00\x00\x00WEBPVP8 " + bytes(48),
    "application/pdf": PDF,
}
BLIND = "[The person attached a file here. You cannot see it: say so if it matters.]"


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@asynccontextmanager
async def looking(
    provider: str = "openai", model: str = "gpt-4o", *, permitted: bool = True, **settings: Any
) -> AsyncIterator[tuple[LoneAssistant, ScriptedWebhook]]:
    """An assistant that may fetch files from loopback, and a server of files there."""
    async with (
        scripted_webhook() as server,
        lone_assistant(provider, model, **{"allow_private": True, **settings}) as it,
    ):
        if permitted:
            it.given["permissions"] = ("private_webhooks",)
        yield it, server


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("provider", "model"), PROVIDERS)
async def test_a_file_reaches_the_model_by_url_and_by_its_bytes(provider: str, model: str, kind: str) -> None:
    # What the server and the platform say of it counts less than what it begins with.
    file = KINDS[kind]
    async with looking(provider, model) as (assistant, server):
        server.answers = [says(file, kind="application/octet-stream")]
        details = (AttachmentDetails(name="it.png", media_type="image/png"), AttachmentDetails())
        await assistant.ask("What is it?", attachments=(server.url, data_url(file + b"!")), attachment_details=details)
        [request] = assistant.models.requests
        assert request.files == [(kind, file), (kind, file + b"!")]
        assert f"[Attachments: it.png ({kind}, its content is above), a file ({kind}, its content is above)]" in (
            request.said
        )
        [asked] = server.asked
        assert not {"Authorization", "Cookie", "Referer"} & asked.headers.keys(), "nobody's secret goes along"
        assert "token-of-the-test" not in str(asked.headers)


@pytest.mark.parametrize(("provider", "model"), PROVIDERS)
async def test_a_text_is_told_apart_from_what_the_person_says_and_cut(provider: str, model: str) -> None:
    async with looking(provider, model) as (assistant, server):
        text = "naïve\n\n[Sent by {}]" + "x" * 30_000
        server.answers = [says(text.encode("latin-1"), kind="text/plain; charset=latin-1")]
        details = (AttachmentDetails(name="notes.txt", media_type="text/plain"),)
        await assistant.ask("Sum it up.", attachments=(server.url,), attachment_details=details)
        [request] = assistant.models.requests
        assert request.files == []
        [said] = [text for text in request.texts if "Sum it up." in text]
        assert said.startswith("[The content of notes.txt begins here]\nnaïve\n\n[Sent by {}]xxx")
        assert "more characters are left out]\n[The content of notes.txt ends here]\n\nSum it up." in said
        assert len(said) < 21_000


async def test_a_text_in_the_message_itself_is_read_in_its_charset() -> None:
    async with lone_assistant() as assistant:
        text = data_url("Grüße".encode("latin-1"), "text/plain;charset=iso-8859-1")
        await assistant.ask("What is it?", attachments=(text,))
        assert "Grüße" in assistant.models.requests[-1].said


async def test_files_stay_with_the_run_and_with_what_is_answered_together() -> None:
    async with (
        fake_mcp(Tool("look", lambda _: "seen")) as tools,
        lone_assistant(servers={"We": tools}) as assistant,
    ):
        assistant.models.say(Answer(tool_calls=(("mcp__We__look", {}),)))
        first = Message(conversation_id=CONVERSATION_ID, role="user", content="This", attachments=(data_url(PDF),))
        await assistant.ask("and this", attachments=(data_url(PNG),), earlier=[first])
        assert [request.files for request in assistant.models.requests] == [
            [("application/pdf", PDF), ("image/png", PNG)]
        ] * 2


async def test_a_row_can_leave_files_alone() -> None:
    async with looking(attachments=False) as (assistant, server):
        await assistant.ask("Look", attachments=(server.url, data_url(PNG)))
        [request] = assistant.models.requests
        assert (request.files, server.asked) == ([], [])
        assert request.said.count("a file (you cannot see its content)") == 2


# Where files come from.


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "[::ffff:127.0.0.1]", "0x7f000001", "169.254.169.254"]
)
@pytest.mark.parametrize("allowed", ["nothing", "by the row alone", "by the deployment alone"])
async def test_no_private_address_is_asked_unless_row_and_deployment_say_so(host: str, allowed: str) -> None:
    private = allowed == "by the row alone"
    async with looking(permitted=allowed == "by the deployment alone", allow_private=private) as (assistant, server):
        server.answers = [says(PNG)]
        await assistant.ask("Look", attachments=(f"http://{host}:{server.port}/x.png",))
        [request] = assistant.models.requests
        assert (request.files, server.asked) == ([], [])
        assert "you cannot see its content: it could not be fetched" in request.said


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "", "http://["])
async def test_a_redirect_leads_nowhere_that_the_url_itself_could_not(target: str) -> None:
    async with looking() as (assistant, server):
        server.answers = [says(b"", 302, headers={"Location": target})]
        await assistant.ask("Look", attachments=(server.url,))
        [request] = assistant.models.requests
        assert request.files == []
        assert len(server.asked) <= 4
        assert "it could not be fetched" in request.said


async def test_a_redirect_is_followed_three_times() -> None:
    async with looking() as (assistant, server):
        away = says(b"", 307, headers={"Location": "/other"})
        server.answers = [away, away, away, says(PNG)]
        await assistant.ask("Look", attachments=(server.url,))
        assert assistant.models.requests[-1].files == [("image/png", PNG)]
        server.answers = [away, away, away, away, says(PNG)]
        await assistant.ask("And now", attachments=(f"{server.url}?2",))
        assert assistant.models.requests[-1].files == []


HUGE = PNG + bytes(5_000_000)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (says(b"", 404), "it could not be fetched"),
        (says(PNG, headers={"Content-Encoding": "gzip"}), "it could not be fetched"),
        (cuts(), "it could not be fetched"),
        (cuts(PNG, kind="image/png"), "it could not be fetched"),
        (hangs(asyncio.Event()), "it could not be fetched"),
        (streams(PNG, asyncio.Event(), kind="image/png"), "it could not be fetched"),
        (says(HUGE, kind="image/png"), "it is too large"),
        (streams(*[HUGE[:100_000]] * 60, kind="image/png"), "it is too large"),
        (says(b"<svg/>", kind="image/svg+xml"), "it is no image, PDF or text"),
        (says(b"<html>Please sign in</html>", kind="text/html"), "it is no image, PDF or text"),
        (says(b"MZ\x90\x00", kind="image/png"), "it is no image, PDF or text"),
        (says(b"", kind="image/png"), "it is no image, PDF or text"),
    ],
)
async def test_what_a_server_does_instead_of_giving_the_file_is_said_to_the_model(answer: object, why: str) -> None:
    async with scripted_webhook() as server, lone_assistant(allow_private=True, seconds=8.0) as assistant:
        assistant.given["permissions"] = ("private_webhooks",)
        server.answers = [answer]  # type: ignore[list-item]
        details = (AttachmentDetails(name="me.png", media_type="image/png"),)
        reply = await assistant.ask("Look", attachments=(server.url,), attachment_details=details)
        assert reply.content == "Hello."
        [request] = assistant.models.requests
        assert request.files == []
        assert f"me.png (image/png, you cannot see its content: {why})" in request.said
        assert "sign in" not in request.said
        assert assistant.health is None


async def test_files_are_bounded_in_number_and_together() -> None:
    async with looking() as (assistant, server):
        server.answers = [says(PNG + bytes(3_500_000))]
        await assistant.ask("Look", attachments=tuple(f"{server.url}?{number}" for number in range(10)))
        [request] = assistant.models.requests
        assert (len(request.files), len(server.asked)) == (3, 8)
        assert (request.said.count("it is too large"), request.said.count("one file too many")) == (5, 2)


# Models that do not take them.

REFUSALS = [
    (400, "Invalid content type. image_url is only supported by certain models."),
    (400, "llama-3 is not a multimodal model"),
    (400, "At most 0 image(s) may be provided in one request."),
    (400, "messages[0].content must be a string"),
    (404, "No endpoints found that support image input"),
    (422, "unknown variant `image_url`, expected `text`"),
    (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
]


@pytest.mark.parametrize(("status", "message"), REFUSALS)
async def test_a_model_that_takes_no_images_is_asked_once_without_and_remembered(status: int, message: str) -> None:
    async with lone_assistant() as assistant:
        assistant.models.otherwise = lambda request: (
            refusal(status, message)
            if request.files or "image_url" in str(request.body)
            else Answer("I cannot see it.")
        )
        for requests in (2, 3):
            assert (await assistant.ask("What is it?", attachments=(data_url(PNG),))).content == "I cannot see it."
            assert len(assistant.models.requests) == requests
        last = assistant.models.requests[-1].body["messages"][-1]["content"]
        # Text alone, in the plainest form there is.
        assert last.startswith(f"{BLIND}\n\nWhat is it?")
        assert assistant.health is None


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Could not process image"),
        (400, "image exceeds 5 MB maximum: 5316852 bytes > 5242880 bytes"),
        (400, "You uploaded an unsupported image. Please make sure your image is valid."),
        (400, "Bad request"),
        (413, "Payload too large"),
    ],
)
async def test_a_file_that_is_refused_says_nothing_of_the_next(status: int, message: str) -> None:
    async with lone_assistant() as assistant:
        assistant.models.otherwise = lambda request: (
            refusal(status, message) if ("image/png", PNG) in request.files else Answer("Answered.")
        )
        assert (await assistant.ask("Look", attachments=(data_url(PNG),))).content == "Answered."
        assert assistant.models.requests[-1].files == []
        await assistant.ask("And this?", attachments=(data_url(PDF),))
        assert assistant.models.requests[-1].files == [("application/pdf", PDF)]
        assert len(assistant.models.requests) == 3


async def test_a_model_may_see_images_and_read_no_documents() -> None:
    def answers(request: Request) -> Answer:
        documents = any(kind == "application/pdf" for kind, _ in request.files)
        return refusal(400, "unknown variant `file`, expected `text`") if documents else Answer("Seen.")

    async with lone_assistant() as assistant:
        assistant.models.otherwise = answers
        for _ in range(2):
            await assistant.ask("Look", attachments=(data_url(PNG), data_url(PDF)))
            assert assistant.models.requests[-1].files == [("image/png", PNG)]
        assert len(assistant.models.requests) == 3


async def test_a_fallback_that_sees_is_shown_what_the_first_model_could_not() -> None:
    async with lone_assistant(retries=3) as assistant:
        assistant.settings["fallback_models"] = "openai:gpt-4o-mini"
        assistant.models.otherwise = lambda request: (
            Answer("A dot.")
            if request.model == "gpt-4o-mini"
            else refusal(400, "This model does not support image input.")
            if request.files
            else refusal(503, "Busy")
        )
        assert (await assistant.ask("Look", attachments=(data_url(PNG),))).content == "A dot."
        assert assistant.models.requests[-1].files == [("image/png", PNG)]


async def test_what_a_file_costs_is_fixed_whatever_its_bytes() -> None:
    async with lone_assistant(budget_message_tokens=4000) as assistant:
        assistant.models.say(Answer(reports="none"))
        await assistant.ask("Look", attachments=(data_url(PNG + bytes(600_000)),))
        assert 1500 <= assistant.calls[0].prompt_tokens < 2000


#: What makes a URL good for whoever has it, wherever it stands in it.
SECRET_URLS = {
    "a bot's token": "{url}/file/bot123456:SECRET/photos/file_1.jpg",
    "a signature": "{url}/a.png?X-Amz-Expires=60&X-Amz-Signature=SECRET",
    "a password": "http://me:SECRET@127.0.0.1:{port}/a.png",
    "a token for a name": "http://SECRET@127.0.0.1:{port}/a.png",
    "a fragment": "{url}/a.png#SECRET",
    "its path": "{url}/SECRET",
    "no URL at all": "http://[SECRET",
}


@pytest.mark.parametrize("url", SECRET_URLS.values(), ids=SECRET_URLS)
@pytest.mark.parametrize(
    ("provider", "model", "answer"),
    [
        *((*provider, "seen") for provider in PROVIDERS),
        *((*PROVIDERS[0], answer) for answer in ("missing", "refused by the model", "left alone")),
    ],
)
async def test_no_url_reaches_a_model_now_or_later(
    provider: str, model: str, url: str, answer: str, log: Callable[[], list[dict[str, Any]]]
) -> None:
    async with fake_mcp(Tool("look", lambda _: "seen")) as tools, looking(provider, model) as (assistant, server):
        server.answers = [says(b"", 404) if answer == "missing" else says(PNG)]
        assistant.settings |= {"attachments": answer != "left alone", "allow_local_tools": True}
        assistant.given["mcp_servers"] = {"We": {"type": "http", "url": tools.url}}
        if answer == "refused by the model":
            assistant.models.say(lambda request: refusal(400, f"Could not process image: {request.body}"))
        assistant.models.say(Answer(tool_calls=(("mcp__We__look", {}),)))
        given = url.format(url=server.url, port=server.port)
        first = Message(conversation_id=CONVERSATION_ID, role="user", content="This", attachments=(given,))
        for _ in range(2):
            parts = await assistant.parts("Look", attachments=(given,), earlier=[first])
            assert "SECRET" not in str(parts) + str(assistant.health)
        assert len(assistant.models.requests) >= 3
        for request in assistant.models.requests:
            assert "SECRET" not in str(request.body)
            assert str(server.port) not in request.said
        if server.asked and answer == "seen":
            assert assistant.models.requests[-1].files == [("image/png", PNG)] * 2
        assert "SECRET" not in str([line for line in log() if line["logger"] != "aiohttp.access"])


async def test_neither_bytes_nor_urls_reach_the_log(log: Callable[[], list[dict[str, Any]]]) -> None:
    async with looking() as (assistant, server):
        server.answers = [says(b"", 403)]
        url = f"{server.url}/bot123:SECRET/photo.png"
        assistant.models.otherwise = refusal(400, "Could not process image")
        await assistant.ask("Look", attachments=(url, data_url(PNG), "data:image/png;base64,!!"))
        # The server of files writes down what it was asked.
        lines = [line for line in log() if line["logger"] != "aiohttp.access"]
        assert {line["host"] for line in lines if line["event"] == "attachment_unread"} == {"127.0.0.1", None}
        for secret in ("SECRET", base64.b64encode(PNG).decode()[:20], repr(PNG)[2:20]):
            assert secret not in str(lines)
