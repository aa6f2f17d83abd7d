"""Tells how long it is until a day that somebody names, in any way that people write days."""

from datetime import UTC, datetime

from dateutil import parser  # type: ignore[import-untyped]
from dateutil.relativedelta import relativedelta  # type: ignore[import-untyped]

from supervisor.handler import Context, Message


async def on_message(message: Message, ctx: Context) -> str:
    """Answer with the time that is left until the day, or has passed since."""
    try:
        day = parser.parse(message.content).date()
    except (ValueError, OverflowError):
        return "Name me a day, such as 31 December 2030."
    today = datetime.now(UTC).date()
    ctx.log.info("counted", days=(day - today).days)
    between = relativedelta(max(day, today), min(day, today))
    words = f"{between.years} years, {between.months} months and {between.days} days"
    return f"That was {words} ago." if day < today else f"That is in {words}."
