"""Fleets as YAML: strict reading, a plan, and a round trip."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.errors import ConfigurationError, SeveralProblemsError
from supervisor.core.records import AgentRecord
from supervisor.management.fleet_file import dump, parse, plan
from supervisor.telemetry.redaction import REDACTED

A1, A2, A3 = "a" * 24, "b" * 24, "c" * 24
SECRET = "in-the-clear-s3cr3t"


def record(agent_id: str, **fields: object) -> AgentRecord:
    return dataclasses.replace(AgentRecord(id=agent_id, handler="echo", secret="env:AGENT_X"), **fields)  # type: ignore[arg-type]


def test_a_fleet_is_read_with_and_without_what_is_optional() -> None:
    text = f"""
    agents:
      - id: "{A1}"
        handler: echo
        secret: env:AGENT_X
      - {{id: "{A2}", handler: "pkg.mod:H", secret: "file:/run/secrets/x", name: Ada, paused: true,
          settings: {{concurrency: 2, nested: {{a: [1, null]}}}}, labels: {{team: sales}}}}
      - {{id: "{A3}", handler: echo, secret: "fernet:gAAAA", name: null, settings: {{}}}}
    """
    assert parse(text, "f.yaml") == [
        record(A1),
        AgentRecord(
            id=A2,
            handler="pkg.mod:H",
            secret="file:/run/secrets/x",
            name="Ada",
            settings={"concurrency": 2, "nested": {"a": [1, None]}},
            labels={"team": "sales"},
            paused=True,
        ),
        record(A3, secret="fernet:gAAAA"),
    ]
    assert parse("agents: []", "f.yaml") == []


def entry(**changes: object) -> str:
    fields = {"id": f"'{A1}'", "handler": "echo", "secret": "'env:AGENT_X'"} | changes
    return "agents:\n  - {" + ", ".join(f"{key}: {value}" for key, value in fields.items()) + "}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f.yaml: it must hold a list"),
        ("[]", "it must hold a list"),
        ("agents: {}", "it must hold a list"),
        ("agents: [", "f.yaml, line 1"),
        ("agents: \x00", "this is not YAML"),
        ("agents: " + "[" * 5_000 + "]" * 5_000, "f.yaml: it is nested too deep to be read"),
        ("agents: []\nversion: 1", "unknown key 'version'"),
        ("agents: []\nagents: []", "f.yaml, line 2: the key 'agents' is there twice"),
        ("1: 2", "the key 1 is not text"),
        ("? [a]\n: b", "is not text"),
        ("agents: !!python/object:os.system []", "could not determine a constructor"),
        ("agents: [echo]", "agent 1: it must be a mapping"),
        (entry(handlr="echo"), f"agent 1 ('{A1}'): unknown key 'handlr'"),
        (entry(id="''"), "agent 1 (''): id is missing"),
        (entry(id="null"), "agent 1: id is missing"),
        (entry(id="650000000000000000000001"), "agent 1: id must be text; put it in quotes"),
        (entry(handler="null"), "handler is missing"),
        (entry(handler="[echo]"), "handler must be text"),
        (entry(secret="''"), "secret is missing"),
        (entry(secret=SECRET), "secret must be a reference"),
        (entry(secret=f"{{value: {SECRET}}}"), "secret must be a reference"),
        (entry(secret="'file:relative'"), "secret must be a reference"),
        (entry(name="7"), "name must be text"),
        (entry(paused="'yes'"), "paused must be true or false"),
        (entry(paused="1"), "paused must be true or false"),
        (entry(settings="[]"), "settings must be a mapping"),
        (entry(settings="{at: 2026-01-01}"), "settings must be what JSON can hold"),
        (entry(settings="{a: .nan}"), "settings must be what JSON can hold"),
        (entry(settings="{a: 1, a: 2}"), "the key 'a' is there twice"),
        (entry(settings="&x {a: *x}"), "found unconstructable recursive node"),
        (entry(labels="{tier: 1}"), "labels.tier must be text"),
        (entry(labels="[x]"), "labels must be a mapping"),
    ],
)
def test_what_is_wrong_is_named_by_file_entry_and_key(text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "f.yaml")
    message = str(caught.value)
    assert message.startswith("f.yaml")
    assert expected in message
    assert "\n" not in message
    assert SECRET not in message


def test_all_that_is_wrong_is_told_at_once_and_once() -> None:
    text = f"""
    agents:
      - {{id: "{A1}", handlr: echo, secret: {SECRET}, paused: 1, labels: {{tier: 1, team: sales, size: 2}}}}
      - {{id: "{A2}", handler: echo, secret: "env:AGENT_X"}}
      - {{id: "{A2}", handler: echo, secret: "env:AGENT_X"}}
      - 7
    """
    with pytest.raises(SeveralProblemsError) as caught:
        parse(text, "f.yaml")
    first = f"f.yaml: agent 1 ('{A1}')"
    assert caught.value.problems == [
        f"{first}: unknown key 'handlr'; there are: id, handler, secret, name, settings, labels, paused",
        f"{first}: handler is missing",
        f"{first}: secret must be a reference, env:NAME or file:/path (or fernet:… of an export); never the secret"
        " itself",
        f"{first}: labels.tier must be text; put it in quotes",
        f"{first}: labels.size must be text; put it in quotes",
        f"{first}: paused must be true or false",
        f"f.yaml: agent 3: id {A2} is there twice",
        "f.yaml: agent 4: it must be a mapping with id, handler and secret",
    ]


def test_numbers_as_json_writes_them_are_numbers() -> None:
    settings = {"small": 1e-07, "large": 1e22, "text": "1e-07"}
    text = json.dumps({"agents": [{"id": A1, "handler": "echo", "secret": "env:AGENT_X", "settings": settings}]})
    assert "1e-07," in text
    assert parse(text, "f.json") == [record(A1, settings=settings)]
    assert parse(dump([record(A1, settings=settings)]), "f.yaml") == [record(A1, settings=settings)]
    # An id that looks like such a number, but for the sign, stays an id.
    digits = "123456e78901234567890123"
    assert parse(f"agents: [{{id: {digits}, handler: echo, secret: 'env:AGENT_X'}}]", "f.yaml") == [record(digits)]


def test_the_second_of_two_entries_of_one_agent_is_named() -> None:
    text = dump([record(A1), record(A2)]) + dump([record(A1)]).removeprefix("agents:\n")
    with pytest.raises(ConfigurationError, match=f"agent 3: id {A1} is there twice"):
        parse(text, "f.yaml")


def test_a_plan_says_what_is_to_be_done_and_why() -> None:
    existing = [record(A1), record(A2, name="Old", created_at="x", updated_at="y"), record(A3)]
    wanted = [record(A2, name="New", paused=True), record(A3, created_at="other"), record("d" * 24)]
    made = plan(wanted, existing, prune=False)
    assert [r.id for r in made.add] == ["d" * 24]
    assert [(c.record, c.fields) for c in made.change] == [(wanted[0], ("name", "paused"))]
    assert made.remove == ()
    assert made.unchanged == (A3,)
    assert not made.empty
    assert plan(wanted, existing, prune=True).remove == (A1,)


def test_a_plan_says_which_settings_change_and_no_secret() -> None:
    old = record(A1, settings={"model": "a", "concurrency": 2, "api_key": "old-s3cr3t"}, labels={"team": "sales"})
    new = record(A1, settings={"model": "b", "concurrency": 2, "api_key": "new-s3cr3t"}, secret="fernet:gAAAA")
    (change,) = plan([new], [old], prune=False).change
    assert change.fields == ("secret", "settings", "labels")
    assert change.before == {
        "secret": "env:AGENT_X",
        "settings": {"model": "a", "api_key": REDACTED},
        "labels": {"team": "sales"},
    }
    assert change.after == {
        "secret": "fernet:sealed",
        "settings": {"model": "b", "api_key": REDACTED},
        "labels": {},
    }


def test_a_row_that_cannot_be_used_is_put_right() -> None:
    broken = record(A1, problem="settings is not JSON")
    made = plan([record(A1)], [broken], prune=False)
    assert [change.fields for change in made.change] == [("unusable values in the row",)]


def test_nothing_to_do_is_an_empty_plan() -> None:
    assert plan([record(A1)], [record(A1)], prune=True).empty


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(
    st.builds(
        AgentRecord,
        id=st.text("0123456789abcdef", min_size=24, max_size=24),
        handler=TEXT.filter(bool),
        secret=TEXT.map(lambda text: f"env:{text}"),
        name=TEXT,
        settings=st.dictionaries(TEXT, JSON, max_size=3),
        labels=st.dictionaries(TEXT, TEXT, max_size=3),
        paused=st.booleans(),
    ),
    max_size=4,
    unique_by=lambda r: r.id,
)


@given(RECORDS)
def test_what_is_written_is_read_back_the_same(records: list[AgentRecord]) -> None:
    assert parse(dump(records), "f.yaml") == records


BOMBS = {
    "aliases": "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)),
    "merges": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_few_aliases_that_stand_for_billions_of_values_are_refused_at_once(kind: str) -> None:
    with pytest.raises(ConfigurationError, match="aliases stand for more than"):
        parse(BOMBS[kind] + "agents: []", "f.yaml")


def test_one_that_holds_itself_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        parse("agents: &a [*a]", "f.yaml")


def test_aliases_are_shared_settings() -> None:
    shared = f"agents:\n  - {{id: '{A1}', handler: echo, secret: 'env:X', settings: &s {{model: m}}}}\n"
    records = parse(shared + f"  - {{id: '{A2}', handler: echo, secret: 'env:X', settings: *s}}", "f.yaml")
    assert [one.settings for one in records] == [{"model": "m"}] * 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"agents": [], "agents": []}', "f.yaml, line 1: the key 'agents' is there twice"),
        ('{"agents": [', "f.yaml, line 1"),
        ('{"agents": [{"id": "x", "handler": "echo", "secret": "env:X", "settings": {"a": NaN}}]}', None),
        ("{agents: []}", None),
    ],
)
def test_json_is_read_as_json_and_what_is_wrong_with_it_is_said_as_of_yaml(text: str, said: str | None) -> None:
    if said is None:
        assert isinstance(parse(text, "f.yaml"), list)
        return
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "f.yaml")
    assert str(caught.value).startswith(said)


def test_json_keeps_numbers_and_characters() -> None:
    settings = {"tiny": 1e-07, "large": 10**30, "text": "1e-07", "emoji": "\U0001f600", "nested": {"a": [1, None, 1.5]}}
    text = json.dumps({"agents": [{"id": A1, "handler": "echo", "secret": "env:AGENT_X", "settings": settings}]})
    assert parse(text, "f.yaml")[0].settings == settings
