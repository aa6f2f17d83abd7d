"""What the assistant's model is told of what came along with a message."""

from __future__ import annotations

from agents.assistant.prompt import prompt
from supervisor.handler import AttachmentDetails, Message, Reference


def test_a_message_alone_is_what_was_said() -> None:
    assert prompt(Message(conversation_id="c", role="user", content="hi")) == "hi"


def test_files_are_named_and_none_is_poured_into_the_prompt() -> None:
    message = Message(
        conversation_id="c",
        role="user",
        content="look",
        attachments=("https://x.example/a", "document:7", f"data:image/png;base64,{'A' * 400}", "data:x/y;base64,AAAA"),
        attachment_details=(
            AttachmentDetails(name="a.pdf", media_type="application/pdf"),
            AttachmentDetails(),
            AttachmentDetails(name="me.png", media_type="image/png"),
            AttachmentDetails(),
        ),
    )
    assert prompt(message) == (
        "look\n\n[Attachments: https://x.example/a (a.pdf, application/pdf), document:7, "
        "me.png, image/png (its content cannot be read), a file (its content cannot be read)]"
    )


def test_what_the_person_refers_to_is_told() -> None:
    message = Message(
        conversation_id="c",
        role="user",
        content="how much?",
        references=(
            Reference(label="Deal 7", resource_type="deal", resource_id="7", content="worth 10"),
            Reference(label="Home"),
            Reference(),
        ),
    )
    assert prompt(message) == (
        "how much?\n\n[The person refers to Deal 7 (deal 7): worth 10]\n\n[The person refers to Home]"
        "\n\n[The person refers to something]"
    )
