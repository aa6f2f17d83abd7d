"""How the assistant reads what others write: refusals, reports of usage, what a model says, lists of tools."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.lone_assistants import part

#: What providers and servers were seen to say of a request that is too long, with their limit and their count of it.
TOO_LONG = [
    (
        "This model's maximum context length is 8192 tokens. However, you requested 9100 tokens (8100 in the messages, "
        "1000 in the completion). Please reduce the length of the messages or completion.",
        8192,
        9100,
    ),
    ("request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it", 8192, 9412),
    ("the request exceeds the available context size", None, None),
    ("prompt too long; exceeded max context length by 4 tokens", None, None),
    ("This model's maximum prompt length is 131072 but the request contains 140000 tokens.", 131072, 140000),
    ("the prompt is longer than the model's context length", None, None),
    ("prompt is too long: 213462 tokens > 200000 maximum", 200000, 213462),
    ("input length and `max_tokens` exceed context limit: 198309 + 8192 > 200000, decrease input length", 200000, None),
    (
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        1048576,
        1200000,
    ),
    ("Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 42000.", 30000, 42000),
    ('{"message": "…", "type": "exceed_context_size_error", "n_prompt_tokens": 13392, "n_ctx": 8192}', 8192, 13392),
    ("Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 290,000.", 272000, 290000),
    ("model_context_window_exceeded", None, None),
    ("Your request exceeded model token limit: 262144 (requested: 300000)", 262144, 300000),
    ("InvalidParameter: Range of input length should be [1, 98304]", 98304, None),
    (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and "
        "20 `max_new_tokens`",
        4096,
        5000,
    ),
    ("litellm.ContextWindowExceededError: litellm.BadRequestError", None, None),
    ("Input length 9000 exceeds the maximum length 8192.", 8192, 9000),
    ("Prompt exceeds max length", None, None),
    ("invalid params, context window exceeds limit (2013)", None, None),
    ("Request Entity Too Large", None, None),
]
#: What they say of something else.
NOT_TOO_LONG = [
    "Invalid 'tools': array too long. Expected an array with maximum length 128, but got one with length 217 instead.",
    "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is supported.",
    "Rate limit reached: too many tokens per minute.",
    "max_tokens must be less than or equal to 8192",
    "Invalid schema for function 'x': In context=(), object schema missing properties.",
    "Overloaded",
]


@pytest.mark.parametrize(("said", "limit", "asked"), TOO_LONG)
def test_what_says_that_a_request_is_too_long(said: str, limit: int | None, asked: int | None) -> None:
    refusals = part("refusals")
    assert refusals.is_too_long(said)
    found, counted = refusals.limits_in(said)
    assert found == limit
    if asked is not None:
        assert counted == asked


@pytest.mark.parametrize("said", NOT_TOO_LONG)
def test_what_says_something_else(said: str) -> None:
    assert not part("refusals").is_too_long(said)


@pytest.mark.parametrize(
    ("said", "sent", "named"),
    [
        (NOT_TOO_LONG[1], ["temperature", "max_tokens"], ["temperature"]),
        (
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens'.",
            ["max_tokens"],
            ["max_tokens"],
        ),
        ('Unknown name "thinkingConfig": Cannot find field.', ["thinking", "temperature"], ["thinking"]),
        ("messages.0.cache_control: Extra inputs are not permitted", ["cache"], ["cache"]),
        ("temperatures are high", ["temperature"], []),
        ("Bad request", ["temperature"], []),
        ("top_k: Extra inputs are not permitted", ["top_k"], ["top_k"]),
        ("Unsupported parameter: 'stop' is not supported with this model.", ["stop_sequences"], ["stop_sequences"]),
        ('Unknown name "topK": Cannot find field.', ["top_k", "top_p"], ["top_k"]),
        ("Penalty is not enabled for this model", ["presence_penalty"], ["presence_penalty"]),
        ("Unknown parameter: 'service_tier'.", ["openai_service_tier", "seed"], ["openai_service_tier"]),
    ],
)
def test_which_settings_a_refusal_names(said: str, sent: list[str], named: list[str]) -> None:
    assert part("refusals").settings_in(said, sent) == named


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (
            "Invalid schema for function 'mcp__We__two': schema must be a JSON Schema of 'type: \"object\"'",
            ["mcp__We__two"],
        ),
        ("tools.1.custom.input_schema: JSON schema is invalid", ["mcp__We__two"]),
        ("Invalid value at 'tools[0].function_declarations[2].parameters'", ["mcp__We__one"]),
        ("tools[7].function.parameters: bad", []),
        ("mcp__We__twofold is not one of them", []),
    ],
)
def test_which_tools_a_refusal_names(said: str, named: list[str]) -> None:
    assert part("refusals").tools_in(said, ["mcp__We__one", "mcp__We__two", "mcp__We__three"]) == named


@pytest.mark.parametrize(
    ("said", "offered", "most"),
    [
        (NOT_TOO_LONG[0], 217, 128),
        ("Too many tools: at most 64 functions are allowed", 100, 64),
        ("The number of function declarations exceeds the limit of 512.", 600, 512),
        ("too many tools", 40, 20),
        ("Invalid schema for function 'x'", 40, None),
        ("temperature too large", 40, None),
    ],
)
def test_how_many_tools_a_refusal_allows(said: str, offered: int, most: int | None) -> None:
    assert part("refusals").most_tools_in(said, offered) == most


# What models say.


@pytest.mark.parametrize(
    ("said", "pieces"),
    [
        ("Hello.", [(False, "Hello.")]),
        ("<think>Hm.</think>Hello.", [(True, "Hm."), (False, "Hello.")]),
        ("Sure!<think>Hm.</think>Hello.", [(False, "Sure!"), (True, "Hm."), (False, "Hello.")]),
        ("<THINK >Hm.</ Think>\n\nHello.", [(True, "Hm."), (False, "\n\nHello.")]),
        ('<thinking mode="deep">Hm.</thinking>Hello.', [(True, "Hm."), (False, "Hello.")]),
        (
            "Hm, the template opened it.\n</think>\nHello.",
            [(True, "Hm, the template opened it.\n"), (False, "\nHello.")],
        ),
        ("[THINK]Hm.[/THINK]Hello.", [(True, "Hm."), (False, "Hello.")]),
        ("◁think▷Hm.◁/think▷Hello.", [(True, "Hm."), (False, "Hello.")]),
        ("<|begin_of_thought|>Hm.<|end_of_thought|>Hello.", [(True, "Hm."), (False, "Hello.")]),
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hello.",
            [(True, "Hm."), (False, "Hello.")],
        ),
        ("<think>It never ends", [(True, "It never ends")]),
        ("<think>\n</think>\n\nHello.", [(False, "\n\nHello.")]),
        ("<think>a</think>One.<think>b</think>Two.", [(True, "a"), (False, "One."), (True, "b"), (False, "Two.")]),
        ("Write `<think>` before it.", [(False, "Write `<think>` before it.")]),
        ("```xml\n<think>x</think>\n```", [(False, "```xml\n<think>x</think>\n```")]),
        ("5 < 6 and <b>bold</b>", [(False, "5 < 6 and <b>bold</b>")]),
        ("<reasoning>Hm.</reasoning>Hello.", [(True, "Hm."), (False, "Hello.")]),
        ("<seed:think>Hm.</seed:think>Hello.", [(True, "Hm."), (False, "Hello.")]),
        ("<antThinking>Hm.</antThinking>Hello.", [(True, "Hm."), (False, "Hello.")]),
        ("<|START_THINKING|>Hm.<|END_THINKING|>Hello.", [(True, "Hm."), (False, "Hello.")]),
        ("The tag </reasoning> closes it.", [(False, "The tag </reasoning> closes it.")]),
    ],
)
def test_thinking_in_any_form_is_told_from_text(said: str, pieces: list[tuple[bool, str]]) -> None:
    assert list(part("cleaning").apart(said)) == pieces


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("\ud83d\ude00", "\U0001f600"),
        ("cut at the end \ud83d", "cut at the end \ufffd"),
        ("\ude00 begins with half", "\ufffd begins with half"),
        ("a\x00b\x07c\x1b[31md\x9fe\x0bf\x0cg", "abc[31mdefg"),
        ("an \u202eelif\u202c of \u202dours\u202c", "an elif\u202c of ours\u202c"),
        ("\u2067שבת\u2069, \u200fשבת", "\u2067שבת\u2069, \u200fשבת"),
        ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
        ("one\r\ntwo\rthree\tfour", "one\ntwo\nthree\tfour"),
    ],
)
def test_text_is_made_readable(said: str, read: str) -> None:
    assert part("cleaning").readable(said) == read


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ('{"a": ["\\ud83d", {"\\uDE00": 1}]}', '{"a": ["\ufffd", {"\ufffd": 1}]}'),
        ('{"a": "\\ud83d\\ude00"}', '{"a": "\U0001f600"}'),
        ('{"a": "\ud83d"}', '{"a": "\ufffd"}'),
        ('{"a": "\\ud83d', '{"a": "\\ud83d'),
        ('{"a":  1}', '{"a":  1}'),
        ("[" * 100_000 + '"\\ud83d"', "[" * 100_000 + '"\\ud83d"'),
    ],
)
def test_the_characters_of_json_are_made_whole(said: str, read: str) -> None:
    assert part("cleaning").whole_json(said) == read


# Lists of tools.


def listed(*tools: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}).encode()


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (None, "no inputSchema"),
        ([], "no object"),
        ({"type": "string"}, "not of type object"),
        ({"type": "object", "properties": None}, "inputSchema.properties is null"),
        ({"type": "object", "properties": {"a": None}}, "inputSchema.properties.a is no schema"),
        (
            {"type": "object", "properties": {"a": {"type": "object", "properties": []}}},
            "properties.a.properties is []",
        ),
        ({"type": "object", "required": "a"}, "required is no list"),
        ({"type": "object", "anyOf": {}}, "anyOf is no list"),
    ],
)
def test_a_bad_tool_is_left_out_by_name_and_the_others_stay(schema: Any, reason: str) -> None:
    found: dict[str, str] = {}
    good = {"name": "good", "inputSchema": {"type": "object"}}
    answer = json.loads(part("listing").usable(listed({"name": "bad", "inputSchema": schema}, good), found))
    # What the protocol lets a tool leave out some providers insist on.
    assert answer["result"]["tools"] == [{"name": "good", "inputSchema": {"type": "object", "properties": {}}}]
    assert list(found) == ["bad"]
    assert reason in found["bad"]


def test_what_is_no_list_of_tools_passes_as_it_came() -> None:
    usable = part("listing").usable
    for body in (b"{}", b"[]", b"no JSON", b'{"result": {"content": []}}', b'{"result": {"tools": null}}'):
        assert usable(body, {}) == body


def test_a_tool_without_a_name_is_told_by_its_place() -> None:
    found: dict[str, str] = {}
    part("listing").usable(listed({"inputSchema": {"type": "object"}}, 7), found)
    assert list(found) == ["number 1", "number 2"]


# What is known of an endpoint.


def test_lessons_fade() -> None:
    now = 0.0
    learned = part("learned").Learned(trusted_seconds=10, now=lambda: now)
    learned.does_not_stream()
    learned.refuses_setting("temperature", 0.5, "only 1")
    learned.refused_length(1000, 500, None)
    assert not learned.streams
    assert learned.refusal_of("temperature", 0.5) == "only 1"
    assert learned.refusal_of("temperature", 1) is None, "another agent's"
    assert learned.room(None) is not None
    now = 10.0
    assert learned.streams
    assert learned.refusal_of("temperature", 0.5) is None
    assert learned.room(None) is None


def test_the_room_of_a_model_is_learned_in_its_own_tokens() -> None:
    learned = part("learned").Learned()
    assert learned.room(None) is None
    # It counts twice as many as we do.
    learned.refused_length(5000, 8000, 10_000)
    assert learned.room(2000) == 3000
    assert learned.room(None) == 3500
    # An answer as long as the window leaves half of it all the same.
    assert learned.room(8000) == 2000


def test_without_a_figure_each_refusal_leaves_less_room() -> None:
    learned = part("learned").Learned()
    learned.refused_length(5000, None, None)
    assert learned.room(None) == 4000
    learned.refused_length(3000, None, None)
    assert learned.room(None) == 2400
    learned.refused_length(9000, None, None)
    assert learned.room(None) == 2400


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("a" * 400, 100), ("汉" * 100, 100), ("приве" * 20, 100), ("a" * 40 + "汉" * 10, 20), ("", 0)],
)
def test_tokens_are_estimated_by_writing_system(text: str, tokens: int) -> None:
    assert part("tokens").text_tokens(text) == tokens


# Whole bodies.


@pytest.mark.parametrize(
    ("provider", "value", "status"),
    [
        ("openai", {"error": {"message": "x", "code": 429}}, 429),
        ("openai", {"error": {"message": "x", "code": "invalid_api_key"}}, 502),
        ("openai", {"object": "error", "message": "x", "type": "BadRequestError", "code": 400}, 400),
        ("openai", {"statusCode": "503", "message": "x"}, 503),
        ("openai", {"detail": "Not authenticated", "status": 401}, 401),
        ("anthropic", {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, 502),
        ("google", [{"error": {"code": 503, "status": "UNAVAILABLE"}}], 503),
        ("google", {"errors": ["x"]}, 502),
        ("openai", {"choices": []}, 502),
        ("openai", 7, 502),
    ],
)
def test_an_error_in_a_whole_body_is_the_refusal_that_it_is(provider: str, value: Any, status: int) -> None:
    refused = part("wire.forms").as_stream(provider, json.dumps(value).encode(), "application/json")
    assert refused.status == status
    assert refused.body["error"]


def test_halves_of_an_emoji_in_a_whole_body_stay_as_they_came() -> None:
    body = b'{"choices": [{"message": {"content": "\\ud83d"}, "finish_reason": "stop"}]}'
    assert b'"content": "\\ud83d"' in part("wire.forms").as_stream("openai", body, "")


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": None, "completion_tokens": "5"},
        {"prompt_tokens": -3, "completion_tokens": float("nan")},
        {"prompt_tokens": True},
        {},
        "many",
    ],
)
def test_figures_that_are_none_are_no_report(usage: Any) -> None:
    report = part("wire.reports").Report("openai")
    report.read({"choices": [], "usage": usage})
    assert not report.given
    assert (report.prompt, report.completion) == (0, 0)


@pytest.mark.parametrize(
    ("details", "completion", "reasoning"),
    [({}, 800, 765), ({"completion_tokens_details": {"reasoning_tokens": 765}}, 800, 765)],
)
def test_thinking_that_only_the_sum_has_is_paid_for_too(details: Any, completion: int, reasoning: int) -> None:
    # As Google's own endpoint for OpenAI's language tells it.
    report = part("wire.reports").Report("openai")
    usage = {"prompt_tokens": 12, "completion_tokens": 35, "total_tokens": 812, **details}
    report.read({"choices": [], "usage": usage})
    assert (report.prompt, report.completion, report.reasoning) == (12, completion, reasoning)


def test_what_came_from_a_cache_and_is_counted_apart_is_no_thinking() -> None:
    report = part("wire.reports").Report("openai")
    details = {"prompt_tokens_details": {"cached_tokens": 100}}
    report.read({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 112, **details}})
    assert (report.prompt, report.cached, report.completion, report.reasoning) == (110, 100, 2, 0)


def test_a_later_zero_replaces_nothing() -> None:
    report = part("wire.reports").Report("anthropic")
    usage = {"input_tokens": 100, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 5, "output_tokens": 1}
    report.read({"type": "message_start", "message": {"usage": usage}})
    report.read(
        {"type": "message_delta", "usage": {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 40}}
    )
    assert (report.prompt, report.cached, report.completion) == (125, 20, 40)


# Tool calls.


def told_apart(*pieces: dict[str, Any]) -> list[tuple[int, str | None, str | None, str]]:
    """Index, id, name and arguments of each piece, as a client of OpenAI's gets them."""
    calls = part("wire.calls").Calls()
    events = [{"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]} for piece in pieces]
    assert all(calls.tell_apart(event) for event in events)
    return [
        (piece["index"], piece.get("id"), piece["function"].get("name"), piece["function"]["arguments"])
        for piece in pieces
    ]


def piece(arguments: Any, name: str | None = None, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **more}


def test_pieces_of_calls_go_where_they_belong() -> None:
    pieces = (
        piece("", "a", index=0, id="x"),
        piece('{"n"', index=0),
        piece("", "b", index=1, id="y"),
        piece(": 1}", index=0),
        piece("{}", index=1),
    )
    assert told_apart(*pieces) == [
        (0, "x", "a", ""),
        (0, None, None, '{"n"'),
        (1, "y", "b", ""),
        (0, None, None, ": 1}"),
        (1, None, None, "{}"),
    ]


def test_names_that_are_repeated_are_said_once_and_arguments_may_be_an_object() -> None:
    pieces = (piece("", "a", index=0, id="x"), piece("{}", "a", index=0, id="x"), piece({"n": 1}, "a", index=0, id="y"))
    assert told_apart(*pieces) == [(0, "x", "a", ""), (0, None, None, "{}"), (1, "y", "a", '{"n": 1}')]


def test_a_place_may_be_anything() -> None:
    pieces = (piece("", "a", index=[1], id=7), piece("{}", index=[1]), piece("{}", "b", index={}))
    assert [one[0] for one in told_apart(*pieces)] == [0, 0, 1]


def test_a_name_may_come_after_its_id() -> None:
    assert told_apart(piece("", index=0, id="x"), piece("{}", "a", index=0)) == [
        (0, "x", None, ""),
        (0, None, "a", "{}"),
    ]


@pytest.mark.parametrize(
    "event",
    [
        {},
        [],
        7,
        {"choices": None},
        {"choices": 7},
        {"choices": [{"delta": {"tool_calls": 7}}, None]},
        {"choices": [{"delta": {"tool_calls": [7, {"index": 0}, {"index": 0, "function": None}]}}]},
    ],
)
def test_what_brings_no_calls_is_left_as_it_came(event: Any) -> None:
    before = json.dumps(event)
    part("wire.calls").Calls().tell_apart(event)
    assert json.dumps(event) == before
