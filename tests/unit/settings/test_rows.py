"""A row's own settings: within what the deployment allows, and before what it gives."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from supervisor.core.errors import ConfigurationError
from supervisor.settings import (
    AGENT_SETTING_NAMES,
    OVERRIDES,
    AgentSettings,
    Settings,
    parse_agent_settings,
)


@pytest.fixture
def deployment() -> Settings:
    return Settings(api_url="https://api.example/aiwm", ws_url="wss://ws.example/chat", allowed_hosts=("More.example",))


def test_an_agent_may_have_no_settings(deployment: Settings) -> None:
    settings = parse_agent_settings({}, deployment)
    assert settings == AgentSettings()
    assert (settings.concurrency, settings.roles, settings.typing, settings.mark_read) == (None, ("user",), True, False)


def test_an_agents_settings(deployment: Settings) -> None:
    settings = parse_agent_settings(
        {
            "concurrency": 2,
            "timeout_seconds": "2m",
            "max_attempts": 1,
            "inbox_limit": 10,
            "roles": "user, system",
            "delivery": "at_most_once",
            "ws_namespace": "/ws",
            "model": "the handler's own",
        },
        deployment,
    )
    assert (settings.concurrency, settings.timeout_seconds, settings.roles) == (2, 120, ("user", "system"))
    assert settings.model_extra == {"model": "the handler's own"}
    assert "model" not in AGENT_SETTING_NAMES


def test_an_agent_without_settings_runs_with_the_deployments(deployment: Settings) -> None:
    effective = deployment.effective({})
    for key, name in OVERRIDES.items():
        assert getattr(effective, key) == getattr(deployment, name), key
    assert (effective.budget_tokens, effective.budget_cost) == (None, None), "those of the deployment are the fleet's"
    assert (effective.roles, effective.typing, effective.mark_read, effective.commands) == (
        ("user",),
        True,
        False,
        True,
    )


def test_agents_whose_rows_say_nothing_share_what_they_run_with_and_another_deployments_do_not(
    deployment: Settings,
) -> None:
    shared = deployment.effective({})
    assert deployment.effective({"model": "the handler's own"}) is shared
    other = deployment.model_copy(update={"ack_seconds": 1.0, "timeout_seconds": 5.0})
    assert other.effective({}) == replace(shared, timeout_seconds=5.0)
    assert deployment.effective({}) is shared


def test_what_a_row_gives_goes_before_the_deployments(deployment: Settings) -> None:
    given: dict[str, Any] = {
        "concurrency": 2,
        "inbox_limit": 10,
        "loop_limit": 0,
        "timeout_seconds": 0.5,
        "max_attempts": 1,
        "api_url": "https://more.example/api",
        "ws_url": "wss://more.example/ws",
        "ws_namespace": "/ws",
        "ws_path": "/engine",
        "token_via": "query",
        "delivery": "at_most_once",
        "roles": ("user", "system"),
        "typing": False,
        "mark_read": True,
        "commands": False,
        "budget_tokens": 5,
        "budget_cost": 0.5,
        "show": ("thinking",),
        "work": True,
        "when_busy": "collect",
    }
    assert given.keys() == AGENT_SETTING_NAMES
    assert asdict(deployment.effective(given | {"model": "the handler's own"})) == given


def test_a_rows_settings_that_are_not_right_have_no_effect(deployment: Settings) -> None:
    with pytest.raises(ConfigurationError, match="concurrency"):
        deployment.effective({"concurrency": 0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concurrency", 0),
        ("concurrency", 1001),
        ("concurrency", "many"),
        ("inbox_limit", 0),
        ("timeout_seconds", 0),
        ("timeout_seconds", float("inf")),
        ("timeout_seconds", "soon"),
        ("max_attempts", 0),
        ("max_attempts", 1001),
        ("api_url", 5),
        ("api_url", "nonsense"),
        ("ws_url", "ftp://ws.example"),
        ("ws_namespace", "chat"),
        ("ws_path", "socket.io"),
        ("token_via", "cookie"),
        ("delivery", "maybe"),
        ("roles", 5),
        ("typing", "perhaps"),
    ],
)
def test_a_setting_of_an_agent_that_does_not_fit_is_named(deployment: Settings, name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^settings: {name}") as caught:
        parse_agent_settings({name: value}, deployment)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example/x",
        "https://API.EXAMPLE",
        "https://ws.example:444",
        "https://more.example",
        "http://MORE.example",
    ],
)
def test_a_row_may_name_the_deployments_hosts(deployment: Settings, url: str) -> None:
    assert parse_agent_settings({"api_url": url}, deployment).api_url == url


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example",
        "https://api.example.evil.example",
        "https://evil.example/api.example",
        "https://evil.example?api.example",
        "https://evil.example#@api.example",
        "http://169.254.169.254/latest",
        "https://localhost",
    ],
)
@pytest.mark.parametrize("name", ["api_url", "ws_url"])
def test_a_row_may_name_no_other_host(deployment: Settings, name: str, url: str) -> None:
    """A row must not be a way to steal a token."""
    with pytest.raises(ConfigurationError, match=rf"^settings: {name}: host .* add it to SUPERVISOR_ALLOWED_HOSTS"):
        parse_agent_settings({name: url}, deployment)


@pytest.mark.parametrize(
    "url",
    ["https://evil.example\\@api.example", "https://evil.example@api.example", "https://api.example\t.evil.example"],
)
def test_a_url_that_two_parsers_might_read_differently_is_refused(deployment: Settings, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^settings: api_url: must"):
        parse_agent_settings({"api_url": url}, deployment)
