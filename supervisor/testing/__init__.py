"""For the tests of handlers: run one alone, or in a chat on a local platform.

Alone, with all that it gives checked as the supervisor does::

    reply = await ask("shout", "hello", agents_dir="agents")
    assert reply.content == "HELLO"

What it sees and does beside that is in a :class:`FakeContext`::

    ctx = FakeContext(settings={"tone": "friendly"})
    await ask(on_message, "hello", ctx)
    assert ctx.used.total_tokens == 30

And as people meet it, through a real supervisor and the sandbox::

    async with sandboxed("shout", agents_dir="agents") as chat:
        reply = await chat.ask("hello")

No framework is needed: ``asyncio.run(ask(…))`` does in a plain test function.

May import every room: it stands at the edge, as the command does. The promises to handlers that it plays are those of
:mod:`supervisor.handler`; the platform that it plays them on is :mod:`supervisor.sandbox`, and changes of either belong
there.
"""

from supervisor.testing.alone import ask
from supervisor.testing.chat import Chat, sandboxed
from supervisor.testing.context import AGENT_ID, CONVERSATION_ID, FakeContext

__all__ = ["AGENT_ID", "CONVERSATION_ID", "Chat", "FakeContext", "ask", "sandboxed"]
