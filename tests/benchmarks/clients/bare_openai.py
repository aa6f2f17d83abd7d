"""The provider's own client, as it comes: ``python bare_openai.py URL``.

Each line of JSON on stdin, ``{"calls": 100}``, makes so many streamed calls at once; the answer is the seconds that
all of them took. It ends when its stdin does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from openai import AsyncOpenAI


async def call(client: AsyncOpenAI) -> str:
    """Ask once and read the answer to its end."""
    stream = await client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How is the weather?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    text = ""
    async for chunk in stream:
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    return text


async def main(url: str) -> None:
    """Call as often as stdin says."""
    print(json.dumps({"ready": True}), flush=True)
    async with AsyncOpenAI(base_url=url, api_key="sk-of-the-benchmark", max_retries=0) as client:
        while line := await asyncio.to_thread(sys.stdin.readline):
            started = time.monotonic()
            answers = await asyncio.gather(*(call(client) for _ in range(json.loads(line)["calls"])))
            print(json.dumps({"seconds": time.monotonic() - started, "answers": len(answers)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
