"""Draws the pictures of README: ``python -m tests.pictures``. It takes as long as the traffic that they show.

A supervisor with twenty agents, a sandbox and a Prometheus run on this machine meanwhile; see ``busy_fleet``.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import tempfile
from pathlib import Path

from grafana.picture import draw, first_row
from supervisor.telemetry import logs
from tests.support.busy_fleet import SHOWN, busy_fleet
from tests.support.dashboards import NAMES, Moment, Results, load, now, play
from tests.support.stack import agent_id

IMAGES = Path(__file__).parents[1] / "docs" / "images"
#: What the data source is told of the scrape interval: rates look at four times as much, which makes lines calm.
SCRAPE_SECONDS = 4.0


async def watched(seconds: float) -> tuple[Moment, dict[str, Results]]:
    """Let the fleet be busy for so long; what was shown, and what each dashboard's queries brought."""
    with tempfile.TemporaryDirectory() as place:
        async with busy_fleet(Path(place), interval_seconds=2.0) as (busy, server):
            start = now()
            await asyncio.sleep(seconds * 0.45)
            busy.expire(SHOWN)
            await asyncio.sleep(seconds * 0.35)
            busy.keep_down()
            await asyncio.sleep(seconds * 0.2)
            moment = Moment(start, await server.last_scrape(), SCRAPE_SECONDS, {"agent": agent_id(SHOWN)})
            return moment, {name: await play(load(name), moment, server) for name in NAMES}


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="of traffic (180)")
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where to put them (docs/images)")
    given = parser.parse_args()
    # The troubles are made on purpose: nobody needs to read of them.
    logs.configure("ERROR", "console", io.StringIO())
    moment, answers = asyncio.run(watched(given.seconds))
    for name in NAMES:
        path = given.folder / f"grafana-{name}.png"
        draw(load(name), answers[name], (moment.start, moment.end), path, chosen=moment.chosen)
        print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")
    first_row(load("fleet"), given.folder / "grafana-fleet.png", given.folder / "grafana-fleet-top.png")


if __name__ == "__main__":
    main()
