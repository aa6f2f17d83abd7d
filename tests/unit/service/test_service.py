"""The service as a whole: what it closes whatever fails, and what it says of itself when something has ended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from supervisor.core.clock import Clock
from supervisor.sandbox import Sandbox
from supervisor.service import Service
from supervisor.settings import Settings
from supervisor.store import lock_holder
from supervisor.telemetry.tracing import NO_TRACING, Tracing
from tests.support.observing import captured_logs, named, readiness
from tests.support.stack import agent_id, make_settings, stack


class FailingTracing:
    """A part that cannot be closed; otherwise the one that does nothing."""

    def __getattr__(self, name: str) -> object:
        return getattr(NO_TRACING, name)

    async def close(self) -> None:
        raise OSError("the collector's socket is gone")


def open_failing(_settings: Settings, _clock: Clock) -> Tracing:
    return FailingTracing()  # type: ignore[return-value]


async def test_a_part_that_cannot_be_closed_keeps_none_of_the_others_open(tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        settings = make_settings(tmp_path, sandbox)
        service = await Service.start(settings, open_tracing=open_failing)
        assert lock_holder(settings.registry_url) is not None
        with captured_logs() as lines:
            assert await service.stop(0.0)
        [line] = named(lines, "close_failed")
        assert (line["part"], line["log_level"]) == ("tracing", "critical")
        assert service.dead() == ("its tracing could not be closed",)
        assert lock_holder(settings.registry_url) is None
        with captured_logs() as lines:
            again = await Service.start(settings)
            await again.stop(0.0)
        [told] = named(lines, "last_run_failed")
        assert told["reason"] == "its tracing could not be closed"


async def test_what_has_failed_is_neither_alive_nor_ready(tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        service = await Service.start(make_settings(tmp_path, sandbox))
        assert service.dead() == ()
        service.fail("main_ended: ValueError: it")
        service.fail("what followed from it")
        assert service.dead() == ("main_ended: ValueError: it",)
        assert await readiness(service.admin_url) == (503, "['main_ended: ValueError: it']")
        await service.stop(0.0)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (f"agent {agent_id(1)}", f"the task of agent {agent_id(1)} has ended"),
        ("registry watch", "the side task 'registry watch' has ended"),
    ],
)
async def test_a_task_that_has_ended_for_good_is_neither_alive_nor_ready(tmp_path: Path, name: str, told: str) -> None:
    async with stack(tmp_path) as fleet:
        await fleet.add()
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(agent_id(1))
        message = await user.say(conversation, "so that something is written")
        await user.wait_for_reply(conversation, after=message)
        assert fleet.service.dead() == ()
        [task] = [task for task in asyncio.all_tasks() if task.get_name() == name]
        task.cancel()
        await fleet.until(fleet.service.dead)
        assert fleet.service.dead() == (told,)
        assert await readiness(fleet.service.admin_url) == (503, str([told]))
        async with aiohttp.ClientSession() as session, session.get(f"{fleet.service.admin_url}/livez") as answer:
            assert (answer.status, await answer.json()) == (503, {"alive": False, "problems": [told]})
