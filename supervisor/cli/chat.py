"""``supervisor chat``: a conversation with an agent in the terminal, as people have it on the platform."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from supervisor.cli import demo_reach
from supervisor.cli.durations import duration
from supervisor.cli.errors import EXIT_FAILURE, UsageError, complain, warn
from supervisor.core.errors import ConfigurationError, SupervisorError

if TYPE_CHECKING:
    from supervisor.cli.person import Meeting, Person, Said

_SANDBOX: Final = "http://127.0.0.1:8641"
#: So many agents are named where none is meant.
_NAMED: Final = 5
_SANDBOX_SECONDS: Final = 10.0
#: How often an agent is looked for that is offline.
_LOOK_SECONDS: Final = 0.2
#: The way to a sandbox leads through no proxy, whatever the environment says.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class OnSandbox:
    """An agent as the sandbox tells of it."""

    id: str
    name: str
    online: bool


Agent = Annotated[
    str,
    typer.Argument(
        metavar="AGENT", help="An id, a name, or the beginning of one (four characters).", show_default=False
    ),
]
Once = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Say this, print the reply, all parts of it, end.", show_default=False),
]
Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The address of the sandbox's chat page; else the demo's, that of SUPERVISOR_API_URL where it is on this "
        f"machine, or {_SANDBOX}.",
        show_default=False,
    ),
]
TokenEnv = Annotated[
    str | None,
    typer.Option(metavar="VAR", help="On a real platform: the variable with a user's token.", show_default=False),
]
Conversation = Annotated[
    str | None,
    typer.Option(metavar="ID", help="On a real platform: which conversation, where it asks.", show_default=False),
]
Timeout = Annotated[float, typer.Option("--timeout", parser=duration, metavar="DURATION", help="To wait for a reply.")]


def chat(
    agent: Agent,
    *,
    once: Once = None,
    url: Url = None,
    token_env: TokenEnv = None,
    conversation: Conversation = None,
    seconds: Timeout = 120,
) -> int:
    """Talk to an agent in the terminal; Ctrl-D ends it.

    It speaks as a person does, so it needs a platform that lets it: the sandbox of `supervisor dev`, `demo` or
    `sandbox`, or a user's token for the platform of SUPERVISOR_WS_URL.

    Example: `supervisor chat weather`, or `supervisor chat weather --once "Rome"` for the reply alone
    """
    from supervisor.cli.person import Background, Person, UnansweredError  # noqa: PLC0415  import what is slow only when it runs

    if once is not None and not once.strip():
        raise UsageError("--once wants a text")
    if token_env is None:
        where = (url or demo_reach.chat_page() or _configured() or _SANDBOX).rstrip("/")
        meeting, name = _at_sandbox(where, agent, seconds)
    else:
        meeting, name = _at_platform(agent, token_env, conversation)
        where = meeting.endpoint.url
    alone = once is not None or not sys.stdin.isatty()
    unanswered = 0
    with Background() as background, contextlib.ExitStack() as stack:
        entered = Person.meet(meeting, lambda said: _show(said, name, alone=alone))
        person = background.run(entered.__aenter__())
        stack.callback(lambda: background.run(entered.__aexit__(None, None, None)))
        for line in _lines(f"{name} at {where}") if once is None else [once]:
            try:
                background.run(_print_reply(person, line, seconds) if alone else person.ask(line, seconds))
            except UnansweredError as error:
                # The next line may have an answer.
                unanswered += 1
                complain(f"Error: {error}" if alone else str(error))
    return EXIT_FAILURE if alone and unanswered else 0


def _configured() -> str | None:
    """The sandbox that SUPERVISOR_API_URL leads to; None where that is no address of this machine."""
    from supervisor.settings import LOOPBACK, load_settings  # noqa: PLC0415

    with contextlib.suppress(ConfigurationError):
        parts = urllib.parse.urlsplit(load_settings().api_url)
        if parts.hostname in LOOPBACK:
            return f"{parts.scheme}://{parts.netloc}"
    return None


def _lines(whom: str) -> Iterator[str]:
    """What is typed, or piped, line by line; empty ones say nothing."""
    prompt = ""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401, PLC0415  lets arrows work in input()
        prompt = "> "
        print(f"Talking to {whom}; Ctrl-D ends it.", file=sys.stderr, flush=True)
    while True:
        try:
            line = input(prompt)
        except EOFError:
            return
        if line.strip():
            yield line


async def _print_reply(person: Person, text: str, seconds: float) -> None:
    """Say something and print the answer, all parts of it, with what came along.

    Raises:
        UnansweredError: there is none, or an apology in its place. SupervisorError: the connection was lost.
    """
    from supervisor.cli.person import UnansweredError  # noqa: PLC0415  import what is slow only when it runs

    until = time.monotonic() + seconds
    part = await person.ask(text, seconds)
    for answer in [part, *await person.hear_out(max(0.0, until - time.monotonic()))]:
        if answer.failed:
            raise UnansweredError(f"The agent answered with an error: {answer.content}")
        print(*filter(None, (answer.content, *answer.beside)), sep="\n", flush=True)


def _show(said: Said, name: str, *, alone: bool) -> None:
    """Show at a terminal what the agent says, as it comes; steps on the way to an answer are indented."""
    if not alone:
        print(f"{name}: {said.content}" if said.is_answer else f"  {said.type}: {said.content}", flush=True)
        for line in said.beside:
            print(f"  {line}", flush=True)


def _at_sandbox(url: str, wanted: str, seconds: float) -> tuple[Meeting, str]:
    """How to meet an agent of the sandbox at ``url``, and its name; one that is offline is waited for.

    Raises:
        UsageError: none or several are meant. SupervisorError: there is no sandbox, or the agent stays offline.
    """
    from supervisor.cli.person import Meeting  # noqa: PLC0415
    from supervisor.platform.endpoint import Endpoint  # noqa: PLC0415

    info = _ask(url, "GET", "/sandbox/info")
    agent = chosen(_agents(url), wanted, url)
    if not agent.online:
        # What is said to an agent that was never online may stay unanswered.
        _wait_online(url, agent, seconds)
    conversation = None
    if info["profile"] == "v1":
        # There an agent has one conversation, which everybody joins.
        conversation = _ask(url, "POST", f"/sandbox/agents/{agent.id}/conversation", {})["conversationId"]
    token = _ask(url, "POST", "/sandbox/users", {})["token"]
    endpoint = Endpoint(info["wsUrl"], (info["namespace"],), info["enginePath"], "auth", None)
    return Meeting(endpoint, agent.id, token, conversation), agent.name


def _agents(url: str) -> list[OnSandbox]:
    return [OnSandbox(one["id"], one["name"], one["online"]) for one in _ask(url, "GET", "/sandbox/agents")["agents"]]


def _wait_online(url: str, agent: OnSandbox, seconds: float) -> None:
    warn(f"{agent.name} is offline; waiting for it")
    until = time.monotonic() + seconds
    while not any(one.online for one in _agents(url) if one.id == agent.id):
        if time.monotonic() > until:
            raise SupervisorError(f"{agent.name} is still offline after {seconds:g} s; its supervisor says why")
        time.sleep(_LOOK_SECONDS)


def chosen(agents: Sequence[OnSandbox], wanted: str, url: str) -> OnSandbox:
    """The agent that is meant, as for every command.

    Raises:
        UsageError: there is none; names some. AmbiguousAgentError: there are several.
    """
    from supervisor.core.errors import AgentNotFoundError  # noqa: PLC0415
    from supervisor.management.selection import pick  # noqa: PLC0415

    try:
        return pick(wanted, agents)
    except AgentNotFoundError:
        shown = ", ".join(f"{one.name} ({one.id})" for one in agents[:_NAMED])
        more = f" and {len(agents) - _NAMED} more" if len(agents) > _NAMED else ""
        raise UsageError(
            f"There is no agent {wanted!r} on the sandbox at {url}; there are: {shown or 'none'}{more}; "
            "another sandbox: the --url that its supervisor dev shows"
        ) from None


def _ask(url: str, method: str, path: str, body: object = None) -> Any:
    """What the sandbox's own HTTP side answers.

    Raises:
        SupervisorError: it refuses, or there is no sandbox.
    """
    data = None if body is None else json.dumps(body).encode()
    try:
        made = urllib.request.Request(url + path, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310
        with _OPENER.open(made, timeout=_SANDBOX_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error, contextlib.suppress(ValueError, KeyError, TypeError):
            raise SupervisorError(f"The sandbox at {url} refuses: {json.load(error)['error']}") from None
        raise SupervisorError(f"There is no sandbox at {url}: it answered {error.code} to {path}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise SupervisorError(
            f"No sandbox answers at {url} ({reason}); start one with supervisor dev FILE or supervisor "
            "sandbox, or give its --url; "
            "for a real platform, a user's token: --token-env VAR"
        ) from None


def _at_platform(agent: str, variable: str, conversation: str | None) -> tuple[Meeting, str]:
    """How to meet an agent of the platform of the settings, and what to call it.

    Raises:
        ConfigurationError: there is no such variable.
    """
    from supervisor.cli.person import Meeting  # noqa: PLC0415
    from supervisor.platform.endpoint import Endpoint, namespace_candidates, path_candidates  # noqa: PLC0415
    from supervisor.settings import load_settings  # noqa: PLC0415

    token = os.environ.get(variable, "").strip()
    if not token:
        raise ConfigurationError(f"{variable} is empty; it is to hold a user's token of the platform")
    settings = load_settings()
    namespaces = namespace_candidates(settings.ws_url, settings.ws_namespace)
    others = path_candidates(settings.ws_url, settings.ws_path)
    endpoint = Endpoint(settings.ws_url, namespaces, settings.ws_path, settings.token_via, settings.proxy, others)
    return Meeting(endpoint, agent, token, conversation, settings.ca_file), agent
