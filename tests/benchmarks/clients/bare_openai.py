"""The provider's own client, as it comes: ``python bare_openai.py URL``.

Each line of JSON on stdin, ``{"calls": 100}``, makes so many streamed calls at once; the answer is the seconds that
all of them took, and until each had its first word. It ends when its stdin does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from openai import AsyncOpenAI


async def call(client: AsyncOpenAI) -> float:
    """Ask once and read the answer to its end; when its first word came, monotonic seconds."""
    stream = await client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How is the weather?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    first = 0.0
    async for chunk in stream:
        if not first and chunk.choices and chunk.choices[0].delta.content:
            first = time.monotonic()
    return first


async def main(url: str) -> None:
    """Call as often as stdin says."""
    print(json.dumps({"ready": True}), flush=True)
    async with AsyncOpenAI(base_url=url, api_key="sk-of-the-benchmark", max_retries=0) as client:
        while line := await asyncio.to_thread(sys.stdin.readline):
            started = time.monotonic()
            firsts = await asyncio.gather(*(call(client) for _ in range(json.loads(line)["calls"])))
            ended = time.monotonic()
            times = {"seconds": ended - started, "first_seconds": max(firsts) - started, "answers": len(firsts)}
            print(json.dumps(times), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
