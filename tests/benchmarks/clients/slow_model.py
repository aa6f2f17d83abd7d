"""A model that takes its time: ``python slow_model.py SECONDS``; says where it listens and ends with its stdin."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from tests.support.fake_models import Answer, fake_models


async def main(delay_seconds: float) -> None:
    """Answer every call after so many seconds, until stdin ends."""
    async with fake_models() as models:
        models.otherwise = Answer("It is sunny. " * 20, delay=delay_seconds, usage=(200, 60, 0))
        print(json.dumps({"url": models.openai_url}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
