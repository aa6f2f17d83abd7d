"""The token endpoint's answer (docs/protocol.md#1-tokens)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from supervisor.protocol.fields import InvalidEventError

PLACEHOLDER_PROMPTS: Final = frozenset(
    {
        "No instruction configured for this agent.",
        "Instruction not found.",
        "Instruction is currently inactive.",
    }
)
#: Stands for the agent's own token in what is told without one.
TOKEN_PLACEHOLDER: Final = "<USER_ACCESS_TOKEN>"  # noqa: S105 - the text that stands for one


class Instruction(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the platform tells an agent to be; ``configured`` is false for its three placeholders."""

    id: str = ""
    system_prompt: str = ""
    guidelines: tuple[Any, ...] = ()

    @property
    def configured(self) -> bool:
        """Whether someone wrote an instruction for this agent."""
        return bool(self.system_prompt.strip()) and self.system_prompt.strip() not in PLACEHOLDER_PROMPTS


class Deployment(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A managed agent's model behind the platform's proxy (v2)."""

    id: str | None = None
    provider: str | None = None
    model: str | None = None
    base_api_endpoint: str | None = msgspec.field(default=None, name="baseAPIEndpoint")
    api_endpoint: str | None = None


class ConnectAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The token endpoint's answer; optional fields that are malformed are left at their defaults."""

    access_token: str
    expires_in: float | None = None
    instruction: Instruction = msgspec.field(default_factory=Instruction)
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    mcp_servers: dict[str, Any] = msgspec.field(default_factory=dict)
    deployment: Deployment | None = None
    allowed_functions: tuple[str, ...] = ()
    name: str | None = None
    type: str | None = None

    def __repr__(self) -> str:
        return f"ConnectAnswer(expires_in={self.expires_in}, instruction={self.instruction.id!r}, …)"


_ANSWER_OPTIONAL: Final[Mapping[str, Any]] = {
    "expiresIn": float,
    "settings": dict[str, Any],
    "mcpServers": dict[str, Any],
    "deployment": Deployment,
    "allowedFunctions": tuple[str, ...],
    "name": str,
    "type": str,
}
_INSTRUCTION_FIELDS: Final[Mapping[str, Any]] = {"id": str, "systemPrompt": str, "guidelines": tuple[Any, ...]}


def parse_connect_answer(payload: object) -> ConnectAnswer:
    """Read the token endpoint's answer.

    Raises:
        InvalidEventError: it is no object or has no ``accessToken``.
    """
    if not isinstance(payload, Mapping):
        raise InvalidEventError("not_an_object", "the answer is not a JSON object")
    token = payload.get("accessToken")
    if not isinstance(token, str) or not token:
        raise InvalidEventError("missing_accessToken", "the answer has no accessToken")
    return msgspec.convert({"accessToken": token, **_configuration(payload)}, ConnectAnswer)


def parse_configuration(payload: object, known: ConnectAnswer, token: str) -> ConnectAnswer:
    """Read what the platform tells of an agent without giving a token.

    In the headers of tool servers a placeholder stands for the agent's token (docs/protocol.md#7-findings, 6).

    Args:
        known: the answer that the token came with. Its token and life stay, and so does each fact that this answer
            does not name: not all that comes with a token is told here.
        token: the agent's.

    Raises:
        InvalidEventError: it is no object, or no configuration.
    """
    if not isinstance(payload, Mapping) or not isinstance(payload.get("instruction"), Mapping):
        raise InvalidEventError("not_a_configuration", "the configuration has no instruction")
    fields = _configuration(payload)
    if "mcpServers" in fields:
        fields["mcpServers"] = _with_token(fields["mcpServers"], token)
    told = msgspec.convert({**fields, "accessToken": known.access_token}, ConnectAnswer)
    untold = [one.name for one in msgspec.structs.fields(ConnectAnswer) if one.encode_name not in payload]
    kept = {name: getattr(known, name) for name in {*untold, "access_token", "expires_in"}}
    return msgspec.structs.replace(told, **kept)


def parse_instruction(payload: object, known: ConnectAnswer) -> ConnectAnswer:
    """As :func:`parse_configuration`, of the instruction alone: guidelines and all else stay as they are known.

    Raises:
        InvalidEventError: it is no object, or has no prompt.
    """
    if not isinstance(payload, Mapping) or not isinstance(payload.get("systemPrompt"), str):
        raise InvalidEventError("not_an_instruction", "the instruction has no systemPrompt")
    told = _well_formed(payload, _INSTRUCTION_FIELDS)
    guidelines = tuple(told.get("guidelines", known.instruction.guidelines))
    instruction = Instruction(id=told.get("id", ""), system_prompt=told["systemPrompt"], guidelines=guidelines)
    return msgspec.structs.replace(known, instruction=instruction)


def _configuration(payload: Mapping[str, Any]) -> dict[str, Any]:
    fields = _well_formed(payload, _ANSWER_OPTIONAL)
    instruction = payload.get("instruction")
    if isinstance(instruction, Mapping):
        # Field by field: guidelines of another shape must not cost the agent its system prompt.
        fields["instruction"] = _well_formed(instruction, _INSTRUCTION_FIELDS)
    return fields


def _with_token(servers: Mapping[str, Any], token: str) -> dict[str, Any]:
    """Tool servers with the token where the placeholder stands in their headers."""
    return {name: _server_with_token(server, token) for name, server in servers.items()}


def _server_with_token(server: Any, token: str) -> Any:
    headers = server.get("headers") if isinstance(server, Mapping) else None
    if not isinstance(headers, Mapping):
        return server
    filled = {
        name: value.replace(TOKEN_PLACEHOLDER, token) if isinstance(value, str) else value
        for name, value in headers.items()
    }
    return {**server, "headers": filled}


def _well_formed(payload: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Those fields of ``payload`` that are of the kind they should be."""
    fields = {}
    for name, kind in kinds.items():
        value = payload.get(name)
        if value is None:
            continue
        try:
            msgspec.convert(value, kind)
        except (msgspec.ValidationError, RecursionError):
            continue
        fields[name] = value
    return fields
