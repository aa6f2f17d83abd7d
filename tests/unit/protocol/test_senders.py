"""Who wrote a message, and what it refers to, in every form that the platform has."""

from typing import Any

import msgspec
import pytest

from supervisor.protocol import InboundMessage, parse_message
from supervisor.protocol.inbound import TaskFacts
from supervisor.protocol.senders import Reference, Sender

USER, AGENT = "1" * 24, "a" * 24


def read(**fields: Any) -> tuple[InboundMessage, list[str]]:
    message, malformed = parse_message({"conversationId": "c" * 24, "role": "user", "content": "hi", **fields})
    return message, list(malformed)


BRIDGED = {
    "externalUsername": "ann#1",
    "externalUserId": "77",
    "channelId": "9",
    "connectionId": "8",
    "platform": "telegram",
}


@pytest.mark.parametrize(
    ("fields", "sender"),
    [
        ({}, Sender()),
        ({"createdBy": {"userId": USER, "agentId": ""}}, Sender(id=USER)),
        ({"externalUsername": "ann#1"}, Sender(name="ann#1")),
        (BRIDGED, Sender(id="77", name="ann#1", platform="telegram", channel="9", connection="8")),
        (
            {**BRIDGED, "userId": USER, "fullname": "Ann\nA."},
            Sender(id=USER, name="Ann A.", platform="telegram", channel="9", connection="8"),
        ),
        ({"userId": USER, "username": "ann", "platform": "portal"}, Sender(id=USER, name="ann", platform="portal")),
        ({"userId": 7, "platform": ["x"], "channelId": "", "fullname": "\u202e"}, Sender()),
        ({"role": "assistant", "agentId": AGENT}, Sender(id=AGENT)),
        # What people write may name whom they write to.
        ({"agentId": AGENT}, Sender()),
    ],
)
def test_who_speaks(fields: dict[str, Any], sender: Sender) -> None:
    message, malformed = read(**fields)
    assert message.sender == sender
    assert malformed == []


def test_an_older_journal_tells_who_speaks_too() -> None:
    old = b'{"conversationId":"c","role":"user","content":"x","senderUserId":"u","externalUsername":"ann"}'
    assert msgspec.json.decode(old, type=InboundMessage).sender == Sender(id="u", name="ann")


def test_references_are_read_and_kept() -> None:
    given = {
        "app": "crm",
        "page": "/deals/7",
        "section": "notes",
        "resourceType": "deal",
        "resourceId": "7",
        "content": "worth 10\u202e",
        "label": "Deal 7",
        "more": 1,
    }
    message, malformed = read(references=[given, {"label": "alone"}])
    reference = Reference(
        app="crm",
        page="/deals/7",
        section="notes",
        resource_type="deal",
        resource_id="7",
        content="worth 10",
        label="Deal 7",
    )
    assert message.references == (reference, Reference(label="alone"))
    assert malformed == []
    assert msgspec.json.decode(msgspec.json.encode(message), type=InboundMessage) == message


@pytest.mark.parametrize("raw", ["x", {"label": "x"}, [7, {"label": "x"}], [{"label": "x", "content": "y" * 30_000}]])
def test_references_that_are_none_are_left_out_and_counted(raw: Any) -> None:
    message, malformed = read(references=raw)
    assert malformed == ["references"]
    assert [one.label for one in message.references] in ([], ["x"])


def test_nobody_can_pretend_to_be_a_work_or_to_be_skipped_by_a_word() -> None:
    message, _ = read(source="work", task={"id": "1"}, skipAgent="yes")
    assert (message.source, message.task, message.skip_agent) == ("conversation", None, False)
    assert read(skipAgent=True)[0].skip_agent
    task = TaskFacts(id="1", title="Tidy")
    written = msgspec.structs.replace(message, source="work", task=task)
    assert msgspec.json.decode(msgspec.json.encode(written), type=InboundMessage).task == task
