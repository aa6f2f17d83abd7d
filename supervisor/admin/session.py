"""Signing in to the console: a token once, then a cookie that no script can read and no other site can use."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from supervisor.admin.access import SESSION_PATH, SESSION_SECONDS, Access, Tokens, cookie_name, session_cookie
from supervisor.admin.answers import Problem, json_answer, refused

_MAX_TOKEN_CHARS: Final = 4096


class SignIn(BaseModel):
    """The token that opens the console."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    token: Annotated[str, Field(max_length=_MAX_TOKEN_CHARS)]


class Session(BaseModel):
    """Who is signed in.

    Attributes:
        access: ``full``, ``read``, or null for nobody.
        token_required: whether there is anything to sign in to.
    """

    access: Access | None
    token_required: bool


def add_session(app: FastAPI, tokens: Tokens) -> None:
    """Add the routes."""

    def access_of_cookie(request: Request) -> Access | None:
        if not tokens.asked_for:
            return Access.FULL
        headers = {name.lower(): value for name, value in request.headers.raw}
        return tokens.of_cookie(session_cookie(headers), time.time())

    @app.get(
        SESSION_PATH, tags=["session"], summary="Whether this browser is signed in, and to what", response_model=Session
    )
    async def session(request: Request) -> Response:
        return json_answer(_session(access_of_cookie(request), tokens))

    @app.post(
        SESSION_PATH,
        tags=["session"],
        summary="Sign in: a token for a cookie that lasts a week",
        response_model=Session,
        responses={401: refused("A wrong token"), 403: refused("Not from here"), 422: refused("A malformed body")},
    )
    async def sign_in(request: Request, given: SignIn) -> Response:
        access = tokens.of_token(given.token.strip().encode()) if tokens.asked_for else Access.FULL
        if access is None:
            return json_answer(Problem("That token is wrong"), HTTPStatus.UNAUTHORIZED)
        answer = json_answer(_session(access, tokens))
        if tokens.asked_for:
            _set(answer, request, tokens.cookie(access, time.time()), SESSION_SECONDS)
        return answer

    @app.delete(
        SESSION_PATH,
        tags=["session"],
        summary="Sign out",
        status_code=HTTPStatus.NO_CONTENT,
        response_class=Response,
        responses={403: refused("Not from here")},
    )
    async def sign_out(request: Request) -> Response:
        answer = Response(status_code=HTTPStatus.NO_CONTENT)
        _set(answer, request, "", 0)
        return answer


def _session(access: Access | None, tokens: Tokens) -> dict[str, object]:
    return {"access": access, "token_required": tokens.asked_for}


def _set(answer: Response, request: Request, value: str, seconds: int) -> None:
    # Behind a proxy that ends TLS the browser alone knows; it names its page's scheme with each POST and DELETE.
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    name = cookie_name(request.headers.get("host", "").encode("latin-1"))
    answer.set_cookie(name, value, max_age=seconds, path="/", secure=secure, httponly=True, samesite="strict")
