"""What a token tells of its agent is noted where somebody should know it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from supervisor.core.clock import Instant
from supervisor.platform.tokens.grants import make_grant
from supervisor.platform.tokens.notes import ASSISTANT_NOTE, CLOCK_NOTE, NOT_YET_NOTE, VIEWER_NOTE, notes_of
from supervisor.protocol import parse_connect_answer

ASKED = Instant(1000.0, 0.0)


def answer(claims: object, **more: Any) -> Any:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return parse_connect_answer({"accessToken": f"x.{payload}.y", **more})


@pytest.mark.parametrize(
    ("roles", "notes"),
    [
        (["organization.viewer"], (VIEWER_NOTE,)),
        (["organization.editor"], ()),
        (["organization.viewer", "organization.editor"], ()),
        (None, ()),
        ("organization.viewer", ()),
        ([5, None], ()),
    ],
)
def test_a_viewers_token_alone_is_a_note(roles: Any, notes: tuple[str, ...]) -> None:
    grant = make_grant(answer({"roles": roles, "exp": 2000, "iat": 1000}), ASKED, 1.0, lambda low, _: low)
    assert grant.expires_at == 2000, "whatever the roles are"
    assert notes_of(grant) == notes


def test_an_agent_that_the_platform_runs_as_well_is_a_note() -> None:
    for kind, notes in (("assistant", (ASSISTANT_NOTE,)), ("engineer", ()), (5, ())):
        grant = make_grant(answer({}, type=kind), ASKED, 1.0, lambda low, _: low)
        assert notes_of(grant) == notes


def test_before_the_first_token_there_is_none() -> None:
    assert notes_of(None) == ()


@pytest.mark.parametrize(("away", "way"), [(86_400, "ahead of"), (-3600, "behind")])
def test_a_clock_that_is_wrong_is_a_note(away: float, way: str) -> None:
    claims = {"roles": ["organization.editor"], "iat": 100_000 + away, "exp": 103_600 + away}
    grant = make_grant(answer(claims, expiresIn=3600), Instant(100_000, 0.0), 1.0, lambda low, _: low)
    assert notes_of(grant) == (CLOCK_NOTE.format(minutes=abs(away) / 60, way=way),)
    assert grant.expires_at == 103_600


def test_a_token_that_is_not_valid_yet_is_a_note() -> None:
    grant = make_grant(answer({"iat": 1000, "nbf": 1120, "exp": 4600}), ASKED, 1.0, lambda low, _: low)
    assert notes_of(grant) == (NOT_YET_NOTE.format(seconds=120),)
