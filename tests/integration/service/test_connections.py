"""Every way of being refused or cut off leads back to online or to a clear state (docs/protocol.md#3-acceptance)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import AgentState
from tests.support.observing import captured_logs, named
from tests.support.stack import Stack, agent_id, stack

OFFLINE = (AgentState.BACKOFF, AgentState.AUTHENTICATING, AgentState.CONNECTING, AgentState.REGISTERING)


async def answers(fleet: Stack, identity: str, text: str = "still there?") -> None:
    """The agent answers: it is not only called online."""
    [reply] = await fleet.ask(identity, text)
    assert reply.content == f"Echo: {text}"


@pytest.mark.parametrize("profile", ["v1", "v2"])
@pytest.mark.parametrize("token_via", ["auth", "header", "query"])
async def test_the_token_can_be_passed_in_three_ways(tmp_path: Path, profile: str, token_via: str) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": profile}, token_via=token_via) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await answers(fleet, identity)
        assert fleet.sandbox.connects[-1].token_via == token_via


@pytest.mark.parametrize("profile", ["v1", "v2"])
async def test_the_namespace_is_found_when_the_url_names_another(tmp_path: Path, profile: str) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": profile}, ws_url="ws://placeholder/dev/aiwm/chat") as fleet:
        url = fleet.sandbox.base_url.replace("http", "ws") + "/dev/aiwm/chat"
        identity = await fleet.add(settings={"ws_url": url})
        await fleet.online()
        await answers(fleet, identity)


async def test_no_namespace_at_all_is_a_refusal_that_says_which_setting(tmp_path: Path) -> None:
    async with stack(tmp_path, sandbox_settings={"namespaces": ("/elsewhere",)}, ws_namespace="/nowhere") as fleet:
        identity = await fleet.add()
        assert "SUPERVISOR_WS_NAMESPACE" in await fleet.state(identity, AgentState.REJECTED)


async def test_an_engine_path_behind_a_proxy(tmp_path: Path) -> None:
    path = "/dev/aiwm/chat/socket.io"
    async with stack(tmp_path, sandbox_settings={"engine_path": path}, ws_path=path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await answers(fleet, identity)


FAULTS: dict[str, Any] = {
    "close before OPEN": lambda f: f.handshake("close", times=2),
    "refused upgrade": lambda f: f.handshake("refuse", status=502, times=2),
    "reset": lambda f: f.handshake("reset", times=2),
    "OPEN never sent": lambda f: f.handshake("silent", times=1),
    "kicked without a reason": lambda f: f.connect("kick", times=3),
    "connect_error about the token": lambda f: f.connect("error", message="Invalid token", times=2),
    "CONNECT never acked": lambda f: f.connect("silent", times=1),
    "no presence": lambda f: f.no_presence(times=1),
    "token 500": lambda f: f.rest("token", "status", status=500, times=2),
    "token 502": lambda f: f.rest("token", "status", status=502, times=2),
    "token HTML": lambda f: f.rest("token", "ok_html", times=2),
    "token without accessToken": lambda f: f.rest("token", "empty", times=2),
    "token reset": lambda f: f.rest("token", "reset", times=2),
    "token hangs": lambda f: f.rest("token", "hang", times=1),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_trouble_on_the_way_is_overcome_and_told(tmp_path: Path, fault: str) -> None:
    async with stack(tmp_path, handshake_seconds=0.5) as fleet:
        FAULTS[fault](fleet.sandbox.faults)
        identity = await fleet.add()
        reason = await fleet.state(identity, AgentState.BACKOFF)
        assert reason, "a failure has a reason"
        await fleet.online(timeout=20)
        await answers(fleet, identity)


async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        fleet.sandbox.faults.rest("token", "status", status=429, retry_after="2", times=1)
        identity = await fleet.add()
        assert "429" in await fleet.state(identity, AgentState.BACKOFF)
        await fleet.online()
        first, second = fleet.sandbox.token_requests[:2]
        assert second.at - first.at >= 1.9
        assert identity == agent_id(1)


async def test_a_wait_that_the_platform_asks_for_beyond_our_cap_is_shown_with_its_end(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        fleet.sandbox.faults.rest("token", "status", status=429, retry_after="7200", times=1)
        with captured_logs() as lines:
            identity = await fleet.add()
            reason = await fleet.state(identity, AgentState.BACKOFF)
        assert "for an hour or longer, and is asked again after an hour: next attempt at 20" in reason
        [line] = named(lines, "asked_to_wait")
        assert (line["agent"], line["seconds"], line["reason"]) == (identity, 3600, reason)
        await fleet.service.control.resume(identity)
        await fleet.online()


@pytest.mark.parametrize(("status", "reason"), [("suspended", "suspended"), ("deleted", "not found")])
async def test_a_refused_agent_says_why_and_comes_back_on_resume(tmp_path: Path, status: Any, reason: str) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        secret = (tmp_path / "agent-secret").read_text()
        fleet.sandbox.add_agent(identity, secret, status=status)
        fleet.sandbox.tokens.expire(identity)
        fleet.sandbox.kick(identity)
        assert reason in await fleet.state(identity, AgentState.REJECTED)
        fleet.sandbox.add_agent(identity, secret, status="active")
        await fleet.service.control.resume(identity)
        await fleet.online()


async def test_suspended_agents_ask_again_by_themselves_at_a_quarter_of_the_rate(tmp_path: Path) -> None:
    async with stack(tmp_path, auth_rate=20, reject_initial_seconds=0.01) as fleet:
        identities = [await fleet.add(number) for number in range(1, 5)]
        await fleet.online(4)
        secret = (tmp_path / "agent-secret").read_text()
        for identity in identities:
            fleet.sandbox.add_agent(identity, secret, status="suspended")
        fleet.sandbox.tokens.expire(*identities)
        fleet.sandbox.kick(*identities)
        for identity in identities:
            await fleet.state(identity, AgentState.REJECTED)
        seen = len(fleet.sandbox.token_requests)
        await fleet.until(lambda: len(fleet.sandbox.token_requests) >= seen + 8)
        asked = fleet.sandbox.token_requests[seen:]
        # One pass may have been saved up; then five a second.
        assert asked[7].at - asked[0].at >= 6 / 5 * 0.9
        fleet.sandbox.add_agent(identities[0], secret, status="active")
        await fleet.state(identities[0], AgentState.ONLINE)


async def test_a_wrong_secret_is_rejected_and_heals_when_the_file_and_row_are_mended(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        (tmp_path / "agent-secret").write_text("wrong")
        identity = await fleet.add()
        assert "Invalid credentials" in await fleet.state(identity, AgentState.REJECTED)
        (tmp_path / "agent-secret").write_text("s3cret-of-the-test")
        await fleet.service.control.resume(identity)
        await fleet.online()


@pytest.mark.parametrize("profile", ["v1", "v2"])
async def test_a_kick_while_online_leads_back_and_conversations_are_joined_again(tmp_path: Path, profile: str) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": profile}) as fleet:
        identity = await fleet.add()
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        message = await user.say(conversation, "before")
        await user.wait_for_reply(conversation, after=message)
        fleet.sandbox.kick(identity)
        await fleet.state(identity, *OFFLINE)
        await fleet.online()
        message = await user.say(conversation, "after")
        [reply] = await user.wait_for_reply(conversation, after=message)
        assert reply.content == "Echo: after"


async def test_expired_tokens_are_replaced_after_one_kick(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        fleet.sandbox.tokens.expire(identity)
        fleet.sandbox.kick(identity)
        await fleet.state(identity, *OFFLINE)
        await fleet.online()
        await answers(fleet, identity)
        assert len(fleet.sandbox.token_requests) == 2


async def test_an_ill_platform_that_kicks_good_tokens_is_not_asked_for_new_ones_each_time(tmp_path: Path) -> None:
    async with stack(tmp_path, backoff_initial_seconds=0.01, backoff_cap_seconds=0.02) as fleet:
        fleet.sandbox.faults.connect("kick", times=12)
        await fleet.add()
        await fleet.online()
        assert len(fleet.sandbox.connects) >= 12
        assert len(fleet.sandbox.token_requests) == 1, "a token that was minted moments ago is not what is at fault"


async def test_a_token_is_renewed_before_it_expires_without_a_gap(tmp_path: Path) -> None:
    async with stack(tmp_path, sandbox_settings={"expires_in_seconds": 3}, refresh_margin=1.0) as fleet:
        identity = await fleet.add()
        await fleet.online()
        first = fleet.service.control.status(identity).auth_expires_at or 0
        await fleet.until(lambda: (fleet.service.control.status(identity).auth_expires_at or 0) > first, timeout=15)
        await fleet.until(lambda: len(fleet.sandbox.connects) >= 2)
        await fleet.until(lambda: len(fleet.sandbox.sockets_of(identity)) == 1)
        assert fleet.service.control.status(identity).state is AgentState.ONLINE
        await answers(fleet, identity)


async def test_the_platform_going_away_and_coming_back(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identities = [await fleet.add(number) for number in range(1, 13)]
        await fleet.online(12)
        await fleet.sandbox.stop()
        await fleet.until(lambda: fleet.service.control.overview().notices)
        assert "is down for" in fleet.service.control.overview().notices[0]
        await fleet.sandbox.start()
        await fleet.online(12, timeout=20)
        await answers(fleet, identities[-1])
        assert not fleet.service.control.overview().notices


async def test_a_hanging_platform_is_noticed_within_its_own_limits(tmp_path: Path) -> None:
    times = {"ping_interval_seconds": 0.5, "ping_timeout_seconds": 0.5}
    async with stack(tmp_path, sandbox_settings=times) as fleet:
        identity = await fleet.add()
        await fleet.online()
        fleet.sandbox.faults.hang()
        await fleet.state(identity, *OFFLINE, timeout=6)
        fleet.sandbox.faults.clear()
        await fleet.online(timeout=20)
        await answers(fleet, identity)


async def test_one_agents_trouble_is_not_anothers(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        bad, good = agent_id(1), agent_id(2)
        fleet.sandbox.faults.rest("token", "hang", agents=[bad])
        await fleet.add(1)
        await fleet.add(2)
        await fleet.online(1)
        await answers(fleet, good)
        assert fleet.service.control.status(bad).state is AgentState.AUTHENTICATING


async def test_a_server_that_never_acks_still_settles_sends(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        fleet.sandbox.faults.drop_acks(events=["message:send"])
        identity = await fleet.add()
        await fleet.online()
        await answers(fleet, identity, "one")
        await answers(fleet, identity, "two")
        await fleet.until(lambda: fleet.service.fleet.runner(identity).agent.pipeline.outbox.waiting == 0)
        body, _ = fleet.service.metrics.render("text/plain")
        assert b'supervisor_sends_total{outcome="acked"} 2.0' in body


async def test_once_one_agent_is_back_the_others_do_not_wait_out_their_backoffs(tmp_path: Path) -> None:
    async with stack(tmp_path, backoff_initial_seconds=20, backoff_cap_seconds=60) as fleet:
        for number in range(1, 9):
            await fleet.add(number)
        await fleet.online(8)
        await fleet.sandbox.stop()
        await fleet.until(lambda: fleet.service.fleet.states()[AgentState.BACKOFF] == 8)
        await fleet.sandbox.start()
        await fleet.service.control.resume(agent_id(1))
        await fleet.online(8, timeout=10)
