"""How servers of language models word what they refuse, each in its own body: too long, busy, filtered, blind, broken.

The shapes are those of the servers' own sources and of reports of their users.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from tests.support.fake_wires import Answer

#: Who answers: a server that speaks OpenAI's language, another provider, or the platform's proxy before OpenAI.
Server = Literal["openai", "vllm", "ollama", "litellm", "llama.cpp", "proxy", "anthropic", "google"]


def refused(server: Server, status: int, message: str, *, code: Any = None, **more: Any) -> Answer:
    """A refusal in this server's shape; ``more`` stands beside its message."""
    error: dict[str, Any] = {"message": message, **more}
    match server:
        case "openai" | "proxy":
            error = {"type": "invalid_request_error", "param": None, "code": code, **error}
        case "vllm":
            error = {"type": "BadRequestError", "param": None, "code": status, **error}
        case "ollama":
            error = {"type": "api_error", "param": None, "code": None, **error}
        case "litellm":
            error = {"type": None, "param": None, "code": str(status), **error}
        case "llama.cpp":
            error = {"code": status, "type": code or "invalid_request_error", **error}
        case "anthropic":
            error = {"type": code or "invalid_request_error", **error}
            return Answer(status=status, error={"type": "error", "error": error, "request_id": "req_1"})
        case "google":
            error = {"code": status, "status": code or "INVALID_ARGUMENT", **error}
    return Answer(status=status, error={"error": error})


def too_long(server: Server, limit: int, asked: int) -> Answer:
    """More tokens than the model takes in."""
    openai = (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {asked} tokens."
    )
    match server:
        case "openai" | "proxy":
            return refused(server, 400, openai, code="context_length_exceeded", param="messages")
        case "vllm":
            text = f"This model's maximum context length is {limit} tokens. However, your request has {asked} input"
            return refused(server, 400, f"{text} tokens. Please reduce the length of the input messages.")
        case "ollama":
            return refused(server, 400, f"prompt too long; exceeded max context length by {asked - limit} tokens")
        case "litellm":
            text = f"litellm.ContextWindowExceededError: litellm.BadRequestError: OpenAIException - {openai}"
            return refused(server, 400, f"{text} Received Model Group=m\nAvailable Model Group Fallbacks=None")
        case "llama.cpp":
            text = f"request ({asked} tokens) exceeds the available context size ({limit} tokens), try increasing it"
            code = "exceed_context_size_error"
            return refused(server, 400, text, code=code, n_prompt_tokens=asked, n_ctx=limit)
        case "anthropic":
            return refused(server, 400, f"prompt is too long: {asked} tokens > {limit} maximum")
        case "google":
            text = f"The input token count ({asked}) exceeds the maximum number of tokens allowed ({limit})."
            return refused(server, 400, text)


def answer_too_long(server: Server, limit: int, asked: int, answer: int) -> Answer:
    """A question that fits, with more room asked for its answer than there is; of Google it is its own bound."""
    match server:
        case "vllm":
            text = (
                f"'max_tokens' or 'max_completion_tokens' is too large: {answer}. This model's maximum context length"
            )
            text += f" is {limit} tokens and your request has {asked} input tokens ({answer} > {limit} - {asked})."
        case "anthropic":
            text = f"max_tokens: {answer} > {limit}, which is the maximum allowed number of output tokens for the model"
        case "google":
            text = (
                f"Unable to submit request because it has a maxOutputTokens value of {answer} but the supported range"
            )
            text += f" is from 1 (inclusive) to {limit + 1} (exclusive). Update the value and try again."
        case _:
            text = f"max_tokens is too large: {answer}. This model supports at most {limit} completion tokens,"
            text += f" whereas you provided {answer}."
            text = f"litellm.BadRequestError: OpenAIException - {text}" if server == "litellm" else text
    return refused(server, 400, text)


def busy(server: Server, seconds: int) -> Answer:
    """Too much is asked of it; those that say so want so many seconds of peace."""
    after = {"Retry-After": str(seconds)}
    match server:
        case "vllm":
            return Answer(status=503, error={"detail": "Service Unavailable"}, headers=after)
        case "ollama":
            return refused(server, 503, "server busy, please try again.  maximum pending requests exceeded")
        case "litellm":
            text = "litellm.RateLimitError: No deployments available for selected model, Try again in 1 seconds."
            return _with(refused(server, 429, text, type="throttling_error"), after)
        case "llama.cpp":
            return refused(server, 503, "Loading model", code="unavailable_error")
        case "anthropic":
            return _with(refused(server, 429, "Number of requests has exceeded it.", code="rate_limit_error"), after)
        case "google":
            info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds}s"}
            return refused(server, 429, "Resource exhausted.", code="RESOURCE_EXHAUSTED", details=[info])
        case _:
            # The proxy passes on no header.
            return _with(refused(server, 429, "Rate limit reached.", code="rate_limit_exceeded"), after)


def _with(answer: Answer, headers: Mapping[str, str]) -> Answer:
    return Answer(status=answer.status, error=answer.error, headers=headers)


def filtered(server: Server) -> Answer:
    """What its provider does not let through."""
    match server:
        case "litellm":
            text = "litellm.BadRequestError: litellm.ContentPolicyViolationError: AzureException - The response was"
            text += " filtered due to the prompt triggering Azure OpenAI's content management policy."
            return refused(server, 400, text)
        case "google":
            body = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9}}
            return Answer(raw=("text/event-stream", f"data: {json.dumps(body)}\n\n"))
        case "proxy":
            text = "Your request was rejected as a result of our safety system."
            return refused(server, 400, text, code="content_policy_violation")
        case _:
            return Answer(finish="content_filter")


def blind(server: Server) -> Answer:
    """A model that sees no images."""
    match server:
        case "vllm":
            return refused(server, 400, "llama-3 is not a multimodal model")
        case "ollama":
            return refused(
                server, 500, "Failed to create new sequence: this model is missing data required for image input"
            )
        case "litellm":
            return refused(server, 400, "litellm.BadRequestError: OpenAIException - llama-3 is not a multimodal model")
        case "llama.cpp":
            text = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
            return refused(server, 500, text, code="server_error")
        case _:
            return refused(server, 400, "Invalid content type. image_url is only supported by certain models.")


def toolless(server: Server) -> Answer:
    """A model, or a server as it was started, that takes no tools."""
    match server:
        case "vllm":
            text = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
            return refused(server, 400, text)
        case "llama.cpp":
            return refused(server, 500, "tools param requires --jinja flag", code="server_error")
        case "litellm":
            text = "litellm.UnsupportedParamsError: ollama does not support parameters: ['tools'], for model=gemma3."
            return refused(server, 400, text)
        case _:
            return refused(server, 400, "registry.ollama.ai/library/gemma3 does not support tools")


def broken(server: Server) -> str:
    """What it writes into a stream in which something went wrong, as it is."""
    match server:
        case "openai":
            return 'data: {"error": {"message": "It broke in the midst.", "type": "server_error", "code": null}}\n\n'
        case "vllm":
            error = '{"error": {"message": "It broke in the midst.", "type": "InternalServerError", "code": 500}}'
            return f"data: {error}\n\ndata: [DONE]\n\n"
        case "ollama":
            return (
                '{"error": {"message": "It broke in the midst.", "type": "api_error", "param": null, "code": null}}\n'
            )
        case "litellm":
            return 'data: {"error": {"message": "It broke in the midst.", "type": "None", "code": "500"}}\n\n'
        case "llama.cpp":
            return 'error: {"code": 500, "message": "It broke in the midst.", "type": "server_error"}\n\n'
        case "anthropic":
            error = '{"type": "error", "error": {"type": "api_error", "message": "It broke in the midst."}}'
            return f"event: error\ndata: {error}\n\n"
        case "google":
            return 'data: {"error": {"code": 503, "message": "It broke in the midst.", "status": "UNAVAILABLE"}}\n\n'
        case "proxy":
            return '{"statusCode": 502, "message": "It broke in the midst."}'
