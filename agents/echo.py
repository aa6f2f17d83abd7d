"""Says back what it is told: the smallest agent there is."""

from supervisor.handler import Context, Message


async def on_message(message: Message, ctx: Context) -> str:
    """Answer with the message itself."""
    return f"Echo: {message.content}"
