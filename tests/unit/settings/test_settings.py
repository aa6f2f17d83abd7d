"""Where settings come from, what is refused and how it is said, and that no secret is ever repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from supervisor.core.errors import ConfigurationError
from supervisor.settings import (
    AGENT_SETTING_NAMES,
    Settings,
    load_settings,
    parse_agent_settings,
)
from supervisor.settings.environment import env_file_notes
from supervisor.settings.kinds import BUNDLED_HANDLERS

Env = pytest.MonkeyPatch


def load(tmp_path: Path, **given: Any) -> Settings:
    """Settings from the environment alone, but for what a test puts into ``tmp_path``."""
    return load_settings(tmp_path / ".env", run_secrets=tmp_path / "secrets", **given)


def refusal(tmp_path: Path, **given: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, **given)
    return str(caught.value)


def test_the_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.registry_url == "sqlite+aiosqlite:///supervisor.db"
    assert settings.api_url == "https://api.x-or.cloud/dev/aiwm"
    assert settings.ws_url == "wss://api.x-or.cloud/dev/aiwm/chat"
    assert (settings.ws_namespace, settings.ws_path) == ("auto", "/socket.io")
    assert (settings.admin_host, settings.admin_port, settings.admin_token) == ("127.0.0.1", 8640, None)
    assert (settings.drain_seconds, settings.connect_rate, settings.auth_rate) == (60, 50, 20)
    assert (settings.timeout_seconds, settings.max_attempts, settings.inbox_limit) == (300, 5, 10_000)
    assert settings.journal_retention == 7 * 86_400
    assert settings.secret_env_prefixes == ("AGENT_",)
    assert settings.secret_dirs == (Path("/run/secrets"),)
    assert (settings.allowed_hosts, settings.handler_packages) == ((), ())


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_what_is_given_wins_then_the_environment_then_the_file_then_the_secrets(
    tmp_path: Path, monkeypatch: Env
) -> None:
    (tmp_path / "secrets").mkdir()
    for name in ("ADMIN_PORT", "DRAIN_SECONDS", "CONCURRENCY", "MAX_ATTEMPTS"):
        (tmp_path / "secrets" / f"SUPERVISOR_{name}").write_text("1\n")
    names = ("ADMIN_PORT", "DRAIN_SECONDS", "CONCURRENCY")
    (tmp_path / ".env").write_text("".join(f"SUPERVISOR_{name}=2\n" for name in names) + "OTHER=x\n")
    monkeypatch.setenv("SUPERVISOR_ADMIN_PORT", "3")
    monkeypatch.setenv("SUPERVISOR_DRAIN_SECONDS", "3")
    settings = load(tmp_path, admin_port=4)
    assert (settings.admin_port, settings.drain_seconds, settings.concurrency, settings.max_attempts) == (4, 3, 2, 1)


def test_a_secret_comes_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "SUPERVISOR_ADMIN_TOKEN").write_text("t0ken\n")
    (tmp_path / "secrets" / "supervisor_secret_keys").write_text("k1,k2\n")
    (tmp_path / "secrets" / "agent_one").write_text("not ours")
    settings = load(tmp_path)
    assert settings.admin_token == SecretStr("t0ken")
    assert [key.get_secret_value() for key in settings.secret_keys] == ["k1", "k2"]


def test_systemds_credentials_are_read_as_well(tmp_path: Path, monkeypatch: Env) -> None:
    (tmp_path / "supervisor_admin_token").write_text("t0ken\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_settings(None).admin_token == SecretStr("t0ken")
    assert load_settings(None, run_secrets=tmp_path / "another").admin_token is None
    (tmp_path / "supervisor_admin_port").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=f"Cannot read the files of .*{tmp_path}: a file is not UTF-8 text"):
        load_settings(None)


def test_an_empty_variable_is_as_good_as_none(tmp_path: Path, monkeypatch: Env) -> None:
    monkeypatch.setenv("SUPERVISOR_ADMIN_PORT", "")
    monkeypatch.setenv("SUPERVISOR_PROXY", "")
    assert load(tmp_path).admin_port == 8640


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"SUPERVISOR_ADMIN_PORT=\xff\xfe")
    assert ".env" in refusal(tmp_path)


def test_there_need_be_no_file(tmp_path: Path) -> None:
    assert load_settings(None, run_secrets=tmp_path / "none").admin_port == 8640


@pytest.mark.parametrize(
    ("text", "size"), [("1000", 1000), ("256MiB", 2**28), ("1 GB", 10**9), ("64kib", 2**16), ("12B", 12)]
)
def test_a_size_may_have_a_unit(tmp_path: Path, monkeypatch: Env, text: str, size: int) -> None:
    monkeypatch.setenv("SUPERVISOR_MEMORY_LIMIT", text)
    assert load(tmp_path).memory_limit == size


@pytest.mark.parametrize("text", ["lots", "-1", "0", "1.5MiB", "10 Mbit", "MiB"])
def test_a_size_that_is_none_is_refused(tmp_path: Path, monkeypatch: Env, text: str) -> None:
    monkeypatch.setenv("SUPERVISOR_MEMORY_LIMIT", text)
    assert "SUPERVISOR_MEMORY_LIMIT" in refusal(tmp_path)


def test_the_memory_limit_is_256_mib_unless_it_is_set(tmp_path: Path) -> None:
    assert load(tmp_path).memory_limit == 256 * 1024 * 1024


def test_a_currency_is_three_letters_and_dollars_unless_it_is_set(tmp_path: Path, monkeypatch: Env) -> None:
    assert load(tmp_path).currency == "USD"
    monkeypatch.setenv("SUPERVISOR_CURRENCY", "chf")
    assert load(tmp_path).currency == "CHF"
    for text in ("€", "Euro", "E R", "E1R"):
        monkeypatch.setenv("SUPERVISOR_CURRENCY", text)
        assert "must be the three letters of a currency, such as USD or EUR" in refusal(tmp_path)


def test_prices_are_json(tmp_path: Path, monkeypatch: Env) -> None:
    monkeypatch.setenv(
        "SUPERVISOR_PRICES",
        '{"gpt-4o": {"input": 2.5, "output": 10, "cached": 1.25}, "free": {"input": 0, "output": 0}}',
    )
    prices = load(tmp_path).prices
    assert (prices["gpt-4o"].input, prices["gpt-4o"].output, prices["gpt-4o"].cached) == (2.5, 10, 1.25)
    assert (prices["free"].input, prices["free"].cached) == (0, None)


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "3", "null", "gpt-4o", '{"m": 3}', '{"m": {"input": 1}}', '{"m": {"input": -1, "output": 1}}'),
        *('{"m": {"input": NaN, "output": 1}}', '{"m": {"input": 1, "output": 1, "cache": 1}}', "[" * 100_000),
    ],
)
def test_prices_that_are_none_are_refused(tmp_path: Path, monkeypatch: Env, text: str) -> None:
    monkeypatch.setenv("SUPERVISOR_PRICES", text)
    said = refusal(tmp_path)
    assert said.startswith("SUPERVISOR_PRICES: ")
    assert "\n" not in said


def test_there_is_no_budget_unless_one_is_set(tmp_path: Path, monkeypatch: Env) -> None:
    settings = load(tmp_path)
    assert (settings.budget_tokens, settings.budget_cost, settings.prices) == (None, None, {})
    assert (settings.allow_commands, settings.allow_private_webhooks) == (False, False)
    monkeypatch.setenv("SUPERVISOR_BUDGET_TOKENS", "1000000")
    monkeypatch.setenv("SUPERVISOR_BUDGET_COST", "12.5")
    assert (load(tmp_path).budget_tokens, load(tmp_path).budget_cost) == (1_000_000, 12.5)


@pytest.mark.parametrize(("name", "text"), [("TOKENS", "0"), ("TOKENS", "1.5"), ("COST", "0"), ("COST", "nan")])
def test_a_budget_of_nothing_is_refused(tmp_path: Path, monkeypatch: Env, name: str, text: str) -> None:
    """Elsewhere 0 means no limit: it would be read as the opposite of what it says."""
    monkeypatch.setenv(f"SUPERVISOR_BUDGET_{name}", text)
    assert f"SUPERVISOR_BUDGET_{name}" in refusal(tmp_path)


def test_an_agents_budget_is_the_supervisors_setting_and_not_the_handlers(tmp_path: Path) -> None:
    settings = parse_agent_settings({"budget_tokens": 5, "budget_cost": 0.5, "commands": False}, load(tmp_path))
    assert (settings.budget_tokens, settings.budget_cost, settings.commands) == (5, 0.5, False)
    assert {"budget_tokens", "budget_cost", "commands"} <= AGENT_SETTING_NAMES
    for bad in (0, -1, "much", 1.5):
        with pytest.raises(ConfigurationError, match="budget_tokens"):
            parse_agent_settings({"budget_tokens": bad}, load(tmp_path))


@pytest.mark.parametrize(
    ("unknown", "nearest"),
    [
        ("SUPERVISOR_ADMIN_PROT", "SUPERVISOR_ADMIN_PORT"),
        ("SUPERVISOR_ADMN_PORT", "SUPERVISOR_ADMIN_PORT"),
        ("SUPERVISOR_API_URI", "SUPERVISOR_API_URL"),
        ("SUPERVISOR_DRAIN", "SUPERVISOR_DRAIN_SECONDS"),
        ("supervisor_loglevel", "SUPERVISOR_LOG_LEVEL"),
    ],
)
@pytest.mark.parametrize("place", ["environment", "file"])
def test_an_unknown_variable_is_named_with_the_nearest_known_one(
    tmp_path: Path, monkeypatch: Env, unknown: str, nearest: str, place: str
) -> None:
    if place == "file":
        (tmp_path / ".env").write_text(f"{unknown}=s3cret\n")
    else:
        monkeypatch.setenv(unknown, "s3cret")
    assert refusal(tmp_path) == f"Unknown setting {unknown.upper()}; did you mean {nearest}?"


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path, monkeypatch: Env) -> None:
    for name in ("CONCURENCY", "CONCURRENCY", "TIMEOUT_SECONDS"):
        monkeypatch.setenv(f"SUPERVISOR_{name}", "s3cret")
    unknown, *values = refusal(tmp_path).split("; SUPERVISOR_")
    assert unknown == "Unknown setting SUPERVISOR_CONCURENCY; did you mean SUPERVISOR_CONCURRENCY?"
    assert sorted(value.partition(":")[0] for value in values) == ["CONCURRENCY", "TIMEOUT_SECONDS"]


@pytest.mark.parametrize("unknown", ["SUPERVISOR_ALERT", "SUPERVISOR_AGENT_FOO", "SUPERVISOR_", "SUPERVISOR_FOO_BAR"])
def test_one_that_is_near_to_none_is_named_without_a_guess(tmp_path: Path, monkeypatch: Env, unknown: str) -> None:
    monkeypatch.setenv(unknown, "x")
    assert refusal(tmp_path) == f"Unknown setting {unknown}; supervisor config shows those that there are"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DRAIN_SECONDS", "soon", "must be a duration such as 90s, 5m or 24h; a bare number is seconds"),
        ("JOURNAL_RETENTION", "5 years", "must be a duration such as 90s, 5m or 24h; a bare number is seconds"),
        ("MEMORY_LIMIT", "much", "must be a size such as 512KiB, 256MiB or 1GB; a bare number is bytes"),
    ],
)
def test_a_duration_or_a_size_that_is_none_is_told_how_to_write_one(
    tmp_path: Path, monkeypatch: Env, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"SUPERVISOR_{name}", value)
    assert refusal(tmp_path) == f"SUPERVISOR_{name}: {said}"
    monkeypatch.delenv(f"SUPERVISOR_{name}")
    with pytest.raises(ConfigurationError, match="timeout_seconds: must be a duration such as 90s"):
        parse_agent_settings({"timeout_seconds": value}, load(tmp_path))


@pytest.mark.parametrize("value", ["1e3", " 90 ", "1_000", "0.5"])
def test_what_python_reads_as_a_number_is_one(tmp_path: Path, monkeypatch: Env, value: str) -> None:
    monkeypatch.setenv("SUPERVISOR_DRAIN_SECONDS", value)
    assert load(tmp_path).drain_seconds == float(value)


def test_variables_of_others_are_none_of_ours(tmp_path: Path, monkeypatch: Env) -> None:
    """What Kubernetes' service links and supervisord put under our prefix."""
    for name, value in {
        "SUPERVISOR_SERVICE_HOST": "10.0.0.1",
        "SUPERVISOR_SERVICE_PORT": "8640",
        "SUPERVISOR_SERVICE_PORT_HTTP": "8640",
        "SUPERVISOR_PORT": "tcp://10.0.0.1:8640",
        "SUPERVISOR_PORT_8640_TCP": "tcp://10.0.0.1:8640",
        "SUPERVISOR_PORT_8640_TCP_PROTO": "tcp",
        "SUPERVISOR_PORT_8640_TCP_PORT": "8640",
        "SUPERVISOR_PORT_8640_TCP_ADDR": "10.0.0.1",
        "SUPERVISOR_METRICS_SERVICE_HOST": "10.0.0.1",
        "SUPERVISOR_METRICS_PORT": "udp://10.0.0.1:1",
        "SUPERVISOR_METRICS_PORT_1_UDP_ADDR": "10.0.0.1",
        # A service called "supervisor-admin" takes the very name of a setting.
        "SUPERVISOR_ADMIN_PORT": "tcp://10.0.0.1:8640",
        "SUPERVISOR_ENABLED": "1",
        "SUPERVISOR_PROCESS_NAME": "x",
        "SUPERVISOR_GROUP_NAME": "x",
        "SUPERVISOR_SERVER_URL": "unix:///tmp/supervisor.sock",
    }.items():
        monkeypatch.setenv(name, value)
    assert load(tmp_path).admin_port == 8640


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("2w", 1_209_600), (" 1.5 m ", 90)],
)
def test_durations(tmp_path: Path, monkeypatch: Env, text: str, seconds: float) -> None:
    monkeypatch.setenv("SUPERVISOR_JOURNAL_RETENTION", text)
    assert load(tmp_path).journal_retention == seconds


@pytest.mark.parametrize("text", ["0", "-5", "5y", "m", "soon", "inf", "nan", "1e400"])
def test_what_is_no_duration(tmp_path: Path, monkeypatch: Env, text: str) -> None:
    monkeypatch.setenv("SUPERVISOR_DRAIN_SECONDS", text)
    assert refusal(tmp_path).startswith("SUPERVISOR_DRAIN_SECONDS: ")


@pytest.mark.parametrize(
    "text", ["a.example, B.example ,", '["a.example", "B.example"]', ' [ "a.example","B.example"]']
)
@pytest.mark.parametrize("place", ["environment", "file"])
def test_lists_are_comma_separated_or_json(tmp_path: Path, monkeypatch: Env, text: str, place: str) -> None:
    if place == "file":
        (tmp_path / ".env").write_text(f"SUPERVISOR_ALLOWED_HOSTS='{text}'\n")
    else:
        monkeypatch.setenv("SUPERVISOR_ALLOWED_HOSTS", text)
    settings = load(tmp_path)
    assert settings.allowed_hosts == ("a.example", "B.example")
    assert settings.hosts == {"api.x-or.cloud", "a.example", "b.example"}


def test_lists_of_folders(tmp_path: Path, monkeypatch: Env) -> None:
    monkeypatch.setenv("SUPERVISOR_SECRET_DIRS", "/a,/b")
    assert load(tmp_path).secret_dirs == (Path("/a"), Path("/b"))


@pytest.mark.parametrize(
    "url",
    [
        "api.example",
        "ftp://api.example",
        "https://",
        "https://user:s3cret@api.example",
        "https://s3cret@api.example",
        "https://[s3cret",
        "https://api.example:s3cret",
        "https://api.example:99999",
        "https://api.example:0",
        "https://ann:s3cret\u2100@api.example",
        "https://api.example\\@s3cret.example",
        "https://api.example/a\tb",
        "https://api.example/a b",
    ],
)
def test_what_is_no_url_of_a_platform(tmp_path: Path, monkeypatch: Env, url: str) -> None:
    monkeypatch.setenv("SUPERVISOR_API_URL", url)
    said = refusal(tmp_path)
    assert said.startswith("SUPERVISOR_API_URL: must ")
    assert "s3cret" not in said


def test_urls_lose_their_last_slash(tmp_path: Path) -> None:
    assert load(tmp_path, ws_url="ws://localhost:1/chat/").ws_url == "ws://localhost:1/chat"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADMIN_PORT", "70000"),
        ("ADMIN_PORT", "http"),
        ("CONNECT_RATE", "0"),
        ("CONNECT_RATE", "inf"),
        ("CONCURRENCY", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("DELIVERY", "exactly_once"),
        ("SYNCHRONOUS", "OFF"),
        ("TOKEN_VIA", "cookie"),
        ("WS_NAMESPACE", "chat"),
        ("WS_PATH", "socket.io"),
        ("SECRET_KEYS", "[s3cret"),
        ("OTLP_ENDPOINT", "collector:4318"),
        ("OTLP_HEADERS", "s3cret"),
        ("TRACE_SAMPLE_RATIO", "1.5"),
        ("PROXY", "socks5://proxy.example"),
        ("PROXY", "http://:s3cret@proxy.example"),
        ("PROXY", "http://ann:s3 cret@proxy.example"),
    ],
)
def test_a_value_that_does_not_fit_is_named_and_not_repeated(
    tmp_path: Path, monkeypatch: Env, name: str, value: str
) -> None:
    monkeypatch.setenv(f"SUPERVISOR_{name}", value)
    said = refusal(tmp_path)
    assert said.startswith(f"SUPERVISOR_{name}: ")
    assert value not in said.removeprefix(f"SUPERVISOR_{name}: ") or value in ("/", "0", "chat")
    assert "\n" not in said


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_no_token(tmp_path: Path, host: str) -> None:
    assert load(tmp_path, admin_host=host).admin_token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "supervisor.example", ""])
@pytest.mark.parametrize("token", [None, ""])
def test_off_loopback_there_must_be_a_token(tmp_path: Path, host: str, token: str | None) -> None:
    said = refusal(tmp_path, admin_host=host, admin_token=token)
    assert said == "SUPERVISOR_ADMIN_TOKEN is required when ADMIN_HOST is not loopback"
    assert load(tmp_path, admin_host=host, admin_token="t0ken").admin_token == SecretStr("t0ken")


def test_encrypting_the_journal_takes_a_key(tmp_path: Path) -> None:
    for keys in (None, ""):
        given = {} if keys is None else {"secret_keys": keys}
        said = refusal(tmp_path, journal_encryption=True, **given)
        assert said.startswith("SUPERVISOR_JOURNAL_ENCRYPTION needs SUPERVISOR_SECRET_KEYS")
        assert "supervisor keys generate" in said
    assert load(tmp_path, journal_encryption=True, secret_keys="a key").journal_encryption
    assert not load(tmp_path, secret_keys="a key").journal_encryption


def test_no_secret_is_in_the_repr(tmp_path: Path, monkeypatch: Env) -> None:
    for name, value in {
        "ADMIN_TOKEN": "s3cret",
        "METRICS_TOKEN": "s3cret",
        "SECRET_KEYS": "s3cret,s3cret2",
        "REGISTRY_URL": "postgresql+asyncpg://ann:s3cret@db.example/x",
        "PROXY": "http://ann:s3cret@proxy.example:3128",
    }.items():
        monkeypatch.setenv(f"SUPERVISOR_{name}", value)
    settings = load(tmp_path)
    assert "s3cret" not in repr(settings) + str(settings)
    assert "s3cret" not in repr(settings.model_dump()["proxy"]) + settings.model_dump_json(include={"proxy"})
    assert "s3cret" in settings.registry_url


def test_that_there_is_a_pooler_is_said_with_the_url_to_whoever_opens_the_registry(tmp_path: Path) -> None:
    def url(**given: str) -> str:
        return load(tmp_path, **given).registry_url

    assert url(registry_url="postgresql://db/x", registry_pooler="auto") == "postgresql://db/x"
    assert (
        url(registry_url="postgresql://db/x", registry_pooler="transaction") == "postgresql://db/x?pooler=transaction"
    )
    more = url(registry_url="postgresql://db/x?sslmode=require", registry_pooler="transaction")
    assert more == "postgresql://db/x?sslmode=require&pooler=transaction"
    assert "pooler" not in url(registry_pooler="transaction")


@pytest.mark.parametrize(
    ("given", "used", "shown"),
    [
        ("http://proxy.example:3128/", "http://proxy.example:3128", "http://proxy.example:3128"),
        (
            "http://ann:s3cret@proxy.example:3128",
            "http://ann:s3cret@proxy.example:3128",
            "http://**********@proxy.example:3128",
        ),
        # What would make another URL of it is escaped, so that nothing of a password is left when the rest is masked.
        ("https://ann:p@s:s%2F@proxy", "https://ann:p%40s%3As%2F@proxy", "https://**********@proxy"),
        ("http://api-key@proxy", "http://api-key:@proxy", "http://**********@proxy"),
    ],
)
def test_a_proxy_may_want_a_password_which_is_used_and_never_shown(
    tmp_path: Path, monkeypatch: Env, given: str, used: str, shown: str
) -> None:
    monkeypatch.setenv("SUPERVISOR_PROXY", given)
    settings = load(tmp_path)
    assert settings.proxy is not None
    assert "".join(settings.proxy) == used
    assert repr(settings.proxy) == repr(shown)
    assert settings.model_dump()["proxy"] == settings.model_dump(mode="json")["proxy"] == shown
    assert f"proxy={shown!r}" in repr(settings)


def test_no_secret_is_in_the_error_of_another_setting(tmp_path: Path, monkeypatch: Env) -> None:
    monkeypatch.setenv("SUPERVISOR_ADMIN_TOKEN", "s3cret")
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, admin_port="s3cret")
    error: BaseException | None = caught.value
    assert "s3cret" not in str(error)
    assert caught.value.__suppress_context__, "a traceback would show pydantic's error"


def test_settings_do_not_change(tmp_path: Path) -> None:
    settings = load(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        settings.admin_port = 1  # type: ignore[misc]


def test_a_broken_env_file_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("SUPERVISOR_CONCURRENCY=5\nthis is not a setting\n")
    with pytest.raises(ConfigurationError, match="line 2"):
        load_settings(path)


def test_a_password_in_the_env_file_is_what_is_written_there(tmp_path: Path, monkeypatch: Env) -> None:
    monkeypatch.setenv("HOME", "/root")
    (tmp_path / ".env").write_text("SUPERVISOR_ADMIN_TOKEN=pa${HOME}word\nsupervisor_metrics_token='a$${X:-y}'\n")
    settings = load(tmp_path)
    assert settings.admin_token == SecretStr("pa${HOME}word")
    assert settings.metrics_token == SecretStr("a$${X:-y}")
    notes = env_file_notes(env_file=tmp_path / ".env")
    assert [note.partition(": ")[2].split(" ")[0] for note in notes] == [
        "SUPERVISOR_ADMIN_TOKEN",
        "supervisor_metrics_token",
    ]
    assert all("taken as it is written" in note and "pa$" not in note and "/root" not in note for note in notes)


def test_what_an_env_file_filled_in_before_is_filled_in_for_one_version_and_told(
    tmp_path: Path, monkeypatch: Env
) -> None:
    monkeypatch.setenv("PLACE", "platform.example")
    monkeypatch.setenv("TOKEN", "t0ken")
    (tmp_path / ".env").write_text(
        "OTHER=aiwm\nSUPERVISOR_API_URL=https://${PLACE}/${OTHER}\nSUPERVISOR_ADMIN_TOKEN=${TOKEN}\nSUPERVISOR_LOG_LEVEL=DEBUG\n"
    )
    settings = load(tmp_path)
    assert settings.api_url == "https://platform.example/aiwm"
    assert settings.admin_token == SecretStr("t0ken")
    notes = env_file_notes(env_file=tmp_path / ".env")
    assert len(notes) == 2
    assert all("filled in for the last time" in note and "t0ken" not in note for note in notes)


def test_a_secret_in_an_env_file_is_said_to_be_of_no_use_there(tmp_path: Path, monkeypatch: Env) -> None:
    monkeypatch.setenv("AGENT_SET", "elsewhere too")
    (tmp_path / ".env").write_text("AGENT_SECRET=hush\nAGENT_SET=hush\nCOMPOSE_PROJECT_NAME=x\n")
    [note] = env_file_notes(load(tmp_path).secret_env_prefixes, tmp_path / ".env")
    assert "AGENT_SECRET is not used" in note
    assert "hush" not in note


def test_an_env_file_without_references_says_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SUPERVISOR_ADMIN_TOKEN=p$HOME{x}\n")
    assert load(tmp_path).admin_token == SecretStr("p$HOME{x}")
    assert env_file_notes(env_file=tmp_path / ".env") == env_file_notes(env_file=tmp_path / "none") == ()


@pytest.mark.parametrize("name", ["API_URL", "WS_URL", "REGISTRY_URL"])
def test_an_empty_address_is_not_the_production_platform(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"SUPERVISOR_{name}", "")
    with pytest.raises(ConfigurationError, match="is empty"):
        load_settings(None)


@pytest.mark.parametrize(
    ("text", "read"),
    [("all", BUNDLED_HANDLERS), ("none", ()), ("[]", ()), ("echo, tour", ("echo", "tour")), ('["echo"]', ("echo",))],
)
def test_bundled_handlers_are_all_some_or_none(tmp_path: Path, monkeypatch: Env, text: str, read: object) -> None:
    monkeypatch.setenv("SUPERVISOR_BUNDLED_HANDLERS", text)
    assert load(tmp_path).bundled_handlers == read


@pytest.mark.parametrize("text", ["asistant", "all,echo", "7", "none,echo"])
def test_a_handler_that_is_not_bundled_is_refused_with_those_that_are(
    tmp_path: Path, monkeypatch: Env, text: str
) -> None:
    monkeypatch.setenv("SUPERVISOR_BUNDLED_HANDLERS", text)
    said = refusal(tmp_path)
    assert "BUNDLED_HANDLERS" in said
    assert "'assistant', 'command', 'echo', 'tour' or 'webhook'" in said
