"""Attachments are read in every form that the platform has, and stay the list of texts that they were."""

import base64
import json
import pickle
from typing import Any

import msgspec
import pytest

from supervisor.protocol import InboundMessage, parse_message
from supervisor.protocol.attachments import MAX_DATA_URL_CHARS, Attachment, AttachmentDetails, shown_file, shown_url

PNG = base64.b64encode(b"\x89PNG" * 50).decode()
BRIDGED = {
    "type": "image",
    "url": "https://cdn.example/a.png?x=1",
    "filename": "a.png",
    "mimeType": "image/png",
    "size": 12_345,
}


def read(*attachments: Any) -> tuple[InboundMessage, list[str]]:
    payload = {"conversationId": "c" * 24, "role": "user", "content": "look", "attachments": list(attachments)}
    message, malformed = parse_message(payload)
    return message, list(malformed)


def facts(attachment: Attachment) -> tuple[str | None, str | None, int | None]:
    return attachment.name, attachment.media_type, attachment.size


def test_an_attachment_of_v1_is_a_url_of_which_nothing_more_is_known() -> None:
    message, malformed = read("https://x.example/a", "document:7")
    assert message.attachments == ("https://x.example/a", "document:7")
    assert [facts(one) for one in message.attachments] == [(None, None, None)] * 2
    assert message.attachment_details == ()
    assert malformed == []


def test_an_object_is_its_url_and_its_facts_stand_beside() -> None:
    message, malformed = read(BRIDGED, "https://x.example/b")
    assert message.attachments == (BRIDGED["url"], "https://x.example/b")
    assert facts(message.attachments[0]) == ("a.png", "image/png", 12_345)
    assert message.attachment_details == (
        AttachmentDetails(name="a.png", media_type="image/png", size=12_345),
        AttachmentDetails(),
    )
    assert malformed == []


def test_bytes_without_a_url_become_a_bounded_data_url() -> None:
    widget = {"name": "me.png", "type": "image/png; charset=x", "size": 200, "data": PNG}
    message, _ = read(widget, {**widget, "data": f"data:image/gif;base64,{PNG}", "type": "file"})
    assert message.attachments[0] == f"data:image/png;base64,{PNG}"
    assert facts(message.attachments[0]) == ("me.png", "image/png", 200)
    assert message.attachments[1] == f"data:image/gif;base64,{PNG}"
    assert message.attachments[1].media_type == "image/gif"
    half = "A" * (MAX_DATA_URL_CHARS // 2)
    message, malformed = read({"data": half}, {"data": half}, BRIDGED)
    assert [one[:5] for one in message.attachments] == ["data:", "https"]
    assert malformed == ["attachments"]


@pytest.mark.parametrize(
    "raw",
    [
        {"type": "image", "url": "javascript:alert(1)"},
        {"type": "image", "url": "file:///etc/passwd"},
        {"type": "image", "url": "data:text/html,<script>"},
        {"data": "not base64!"},
        {"data": ""},
        {"data": 7},
        {"filename": "a.png"},
        ["https://x.example/"],
        7,
        None,
        "data:image/png;base64,AAAA",
    ],
)
def test_what_leads_nowhere_safe_is_left_out_and_counted(raw: Any) -> None:
    message, malformed = read(raw, "https://x.example/a")
    assert message.attachments == ("https://x.example/a",)
    assert malformed == ["attachments"]


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        ({"filename": "  a\n\u202eb.png "}, ("a b.png", None, None)),
        ({"filename": 7, "name": "b.png"}, ("b.png", None, None)),
        ({"filename": "x" * 300}, ("x" * 255, None, None)),
        ({"mimeType": "not a type", "type": "image"}, (None, None, None)),
        ({"mimeType": "Text/CSV; header=present"}, (None, "text/csv", None)),
        ({"size": -1}, (None, None, None)),
        ({"size": True}, (None, None, None)),
        ({"size": "12"}, (None, None, None)),
    ],
)
def test_facts_that_make_no_sense_are_unknown(fields: dict[str, Any], known: tuple[Any, ...]) -> None:
    message, malformed = read({"url": "https://x.example/a", **fields})
    assert facts(message.attachments[0]) == known
    assert malformed == []


def test_a_message_with_attachments_is_written_and_read_again_with_all_that_is_known() -> None:
    message, _ = read(BRIDGED, {"name": "me.png", "type": "image/png", "data": PNG})
    again = msgspec.json.decode(msgspec.json.encode(message), type=InboundMessage)
    assert again == message
    assert [facts(one) for one in again.attachments] == [("a.png", "image/png", 12_345), ("me.png", "image/png", None)]
    # To whoever writes it as JSON it is the list of texts that it was.
    assert json.loads(msgspec.json.encode(message))["attachments"] == list(map(str, message.attachments))
    assert json.loads(json.dumps(message.attachments)) == list(map(str, message.attachments))
    assert pickle.loads(pickle.dumps(message.attachments[0])).name == "a.png"


def test_a_file_is_never_shown_whole() -> None:
    message, _ = read({"name": "me.png", "type": "image/png", "data": PNG})
    for text in (repr(message), repr(message.attachments), shown_url(message.attachments[0])):
        assert PNG[:40] not in text
    assert shown_url(message.attachments[0]) == f"data:image/png;base64,… ({len(PNG) * 3 // 4} bytes)"
    assert shown_url("document:7") == "document:7"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://api.telegram.org/file/bot123:KEY/photos/1.jpg", "https://api.telegram.org/…"),
        ("https://x.s3.example/a.png?X-Amz-Signature=KEY#KEY", "https://x.s3.example/…"),
        ("http://me:KEY@files.example:8080/a", "http://files.example/…"),
        ("https://KEY@files.example", "https://files.example/…"),
        ("http://[KEY", "http:///…"),
    ],
)
def test_a_url_may_be_a_key_and_only_its_host_is_shown(url: str, shown: str) -> None:
    message, _ = read({"url": url, "filename": "me.jpg", "mimeType": "image/jpeg"}, url)
    first, second = message.attachments
    assert (shown_file(first), shown_file(second)) == (f"{shown} (me.jpg, image/jpeg)", shown)
    assert "KEY" not in repr(message) + repr(first)
    assert first == url, "a handler is given it whole"


def test_a_url_is_no_name() -> None:
    url = "https://api.telegram.org/file/bot123:KEY/photos/1.jpg"
    message, malformed = read({"url": url, "filename": url, "name": "me.jpg"}, {"url": url, "filename": url})
    assert [one.name for one in message.attachments] == ["me.jpg", None]
    assert malformed == []
