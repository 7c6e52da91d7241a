"""token_limit: what is cut, what is kept, what is refused, in both modes."""

import copy
import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    BadRequest,
    ConfigError,
    Middleware,
    MiddlewareContext,
    MiddlewareFactory,
    MiddlewareMetadata,
    TokenLimitExceeded,
    pricing,
)
from neuro_mw.builtin import token_limit
from neuro_mw.builtin._turns import older_turns, turn_starts
from neuro_mw.builtin.token_limit import TokenLimit
from neuro_mw.testing import ScriptedModel
from neuro_mw.tokens import count_tokens_sync


def message(role, content="x", **more):
    return {"role": role, "content": content, **more}


def called(*ids):
    calls = [{"id": id, "type": "function", "function": {"name": "look", "arguments": "{}"}} for id in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(id):
    return {"role": "tool", "tool_call_id": id, "content": "found"}


USES = message("assistant", [{"type": "tool_use", "id": "a"}])
USED = message("user", [{"type": "tool_result", "tool_use_id": "a"}])
MCP_USES = message("assistant", [{"type": "mcp_tool_use", "id": "a"}])
MCP_USED = message("user", [{"type": "mcp_tool_result", "tool_use_id": "a"}])
LONG = [
    message("system", "be brief"), message("user", "one " * 50), message("assistant", "two " * 50),
    message("user", "three " * 50), message("assistant", "four " * 50), message("user", "five " * 50),
]  # fmt: skip


@pytest.fixture(params=["generate", "stream"])
def ask(request):
    """ask(limit, messages): the answer, and the params that reached the model."""

    def ask(limit, messages, *outer, provider="openai", model_id="gpt-4o", **params):
        model = ScriptedModel("fine", provider=provider, model_id=model_id)
        factory = MiddlewareFactory(preset=None, plugins=False, middleware=[*outer, limit])
        wrapped = factory.apply_middleware(model)
        if request.param == "generate":
            response = wrapped.generate_sync({"messages": messages}, **params)
        else:
            response = wrapped.stream_sync({"messages": messages}, **params).response()
        return response, model.calls[-1][1]

    return ask


def tokens(messages, model="gpt-4o", **params):
    return count_tokens_sync({"messages": messages, **params}, "openai", model).tokens


# --- truncating --------------------------------------------------------------------------------------------------


def test_the_oldest_turn_goes_first(ask):
    kept = [LONG[0], *LONG[3:]]
    limit = TokenLimit(max_input_tokens=tokens(kept))
    before = copy.deepcopy(LONG)
    response, params = ask(limit, LONG)
    assert params["messages"] == kept
    assert before == LONG
    assert response.text == "fine"
    assert response.metadata["token_limit"] == {
        "input_tokens": tokens(kept), "limit": tokens(kept), "removed_messages": 2,
        "removed_tokens": tokens(LONG) - tokens(kept), "method": "o200k_base",
    }  # fmt: skip
    assert limit.tally.counts() == {"truncated": 1, "removed_messages": 2}


def test_one_token_less_and_another_turn_goes(ask):
    kept = [LONG[0], *LONG[3:]]
    assert ask(TokenLimit(max_input_tokens=tokens(kept) - 1), LONG)[1]["messages"] == [LONG[0], LONG[5]]


def test_what_fits_stays_as_it_is_and_nothing_is_said(ask):
    response, params = ask(TokenLimit(max_input_tokens=tokens(LONG)), LONG)
    assert params == {"messages": LONG}
    assert response.metadata == {}


def test_keep_system_and_keep_last(ask):
    limit = tokens(LONG[3:])
    kept = ask(TokenLimit(max_input_tokens=limit, keep_system=False, keep_last=2), LONG)[1]["messages"]
    assert kept == LONG[3:]
    with pytest.raises(TokenLimitExceeded):
        ask(TokenLimit(max_input_tokens=limit, keep_last=2), LONG)
    with pytest.raises(TokenLimitExceeded):
        ask(TokenLimit(max_input_tokens=tokens(LONG) - 1, keep_last=3), LONG)


def test_what_must_stay_is_too_long(ask):
    with pytest.raises(TokenLimitExceeded) as error:
        ask(TokenLimit(max_input_tokens=20), LONG)
    rest = tokens([LONG[0], LONG[5]])
    assert ask(TokenLimit(max_input_tokens=rest), LONG)[1]["messages"] == [LONG[0], LONG[5]]
    with pytest.raises(TokenLimitExceeded):
        ask(TokenLimit(max_input_tokens=rest - 1), LONG)
    assert str(error.value).startswith(
        f"the request holds {tokens(LONG)} tokens (o200k_base), openai/gpt-4o takes 20 "
        f"(max_input_tokens). 4 messages with {tokens(LONG) - rest} tokens in 2 older turns could go, {rest} tokens "
        "must stay. "
    )
    assert "five" not in str(error.value)
    assert "lower max_tokens" in str(error.value)


def test_refuse_says_what_could_go(ask):
    limit = TokenLimit(max_input_tokens=tokens(LONG) - 1, strategy="refuse")
    with pytest.raises(TokenLimitExceeded, match=r"4 messages with \d+ tokens in 2 older turns could go, \d+ tokens"):
        ask(limit, LONG)
    with pytest.raises(TokenLimitExceeded, match="Nothing of it may go"):
        ask(TokenLimit(max_input_tokens=5), [message("user", "one two three four five six")])


def test_tools_count_too(ask):
    tools = [{"type": "function", "function": {"name": "look", "description": "around " * 60, "parameters": {}}}]
    fits = TokenLimit(max_input_tokens=tokens(LONG))
    assert len(ask(fits, LONG, tools=tools)[1]["messages"]) < len(LONG)


def test_each_model_is_counted_for_itself(ask):
    """Claude's factor: the same messages take more, so that more of them go."""
    limit = tokens(LONG)
    response, params = ask(TokenLimit(max_input_tokens=limit), LONG, provider="anthropic", model_id="claude-sonnet-4-5")
    assert params["messages"] == [LONG[0], *LONG[3:]]
    assert response.metadata["token_limit"]["method"] == "1.6 x cl100k_base"
    small = [message("user", "one two three"), message("assistant", "four"), message("user", "five")]
    assert ask(TokenLimit(max_input_tokens=4), small, provider="echo", model_id="echo")[1]["messages"] == small[2:]


# --- turns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([message("user"), called("a"), result("a"), message("user")], [0, 3]),
        ([message("user"), called("a", "b"), message("user"), result("a"), result("b"), message("user")], [0, 5]),
        ([called("a"), message("user"), message("user"), result("a"), message("user")], [0, 4]),
        ([message("assistant"), message("user")], [0, 1]),
        ([message("user"), message("user")], [0, 1]),
        ([result("a"), message("user"), result("b")], [0, 1]),
        ([message("user"), USES, USED, message("assistant"), message("user")], [0, 4]),
        ([message("user"), MCP_USES, MCP_USED, message("user")], [0, 3]),
        ([MCP_USES, message("user"), MCP_USED, message("user")], [0, 3]),
        ([USES, message("user"), USED, message("user")], [0, 3]),
        (["no message", None, message("user", None), {"role": "assistant", "tool_calls": [None, {"id": []}]}], [0, 2]),
        ([], []),
    ],
)  # fmt: skip
def test_where_turns_begin(messages, expected):
    assert turn_starts(messages) == expected


def test_a_tool_that_speaks_in_the_users_name_is_no_user():
    said, answered = message("user"), message("assistant")
    messages = [said, answered, said, USES, USED, answered, said]
    assert older_turns(messages, 3, keep_system=True) == []
    assert older_turns(messages, 2, keep_system=True) == [[0, 1]]
    assert turn_starts([message("user"), USED, message("user")]) == [0, 2]
    assert turn_starts([message("user"), MCP_USED, message("user")]) == [0, 2]


@pytest.mark.parametrize("messages", [None, "user", 5, {"role": "user"}, (message("user"), message("user"))])
def test_messages_that_are_no_list_have_no_turns(messages):
    assert older_turns(messages, 1, keep_system=True) == []


@st.composite
def conversations(draw):
    """Messages in any order, with tool calls whose results come later, or never, and users in between."""
    messages, open_ids = [], []
    for number in range(draw(st.integers(0, 14))):
        kind = draw(st.sampled_from(["system", "developer", "user", "user", "assistant", "call", "result"]))
        if kind == "call":
            ids = [f"c{number}{one}" for one in range(draw(st.integers(1, 2)))]
            messages.append(called(*ids))
            open_ids += ids
        elif kind == "result" and open_ids:
            messages.append(result(open_ids.pop(draw(st.integers(0, len(open_ids) - 1)))))
        elif kind != "result":
            messages.append(message(kind, draw(st.text("ab ", max_size=30)) + str(number)))
    return messages


@given(conversations(), st.integers(1, 120), st.integers(1, 3), st.booleans())
def test_what_is_kept(messages, limit, keep_last, keep_system):
    """Against the rules told one by one, for any conversation and any limit."""
    config = {"max_input_tokens": limit, "keep_last": keep_last, "keep_system": keep_system}
    model = ScriptedModel("fine")
    wrapped = MiddlewareFactory(preset=None, plugins=False, middleware=[TokenLimit(config)]).apply_middleware(model)
    turns = older_turns(messages, keep_last, keep_system=keep_system)
    rests = []
    for number in range(len(turns) + 1):
        without = {at for turn in turns[:number] for at in turn}
        rests.append([one for at, one in enumerate(messages) if at not in without])
    fitting = [rest for rest in rests if tokens(rest) <= limit]
    try:
        wrapped.generate_sync({"messages": messages})
    except TokenLimitExceeded:
        assert fitting == []
        return
    kept = model.calls[0][1]["messages"]
    assert kept == fitting[0]  # as few turns as will do

    gone = [at for at, one in enumerate(messages) if one not in kept]  # no two of them are the same
    users = [at for at, one in enumerate(messages) if one["role"] == "user"]
    if keep_system:
        assert all(messages[at]["role"] not in ("system", "developer") for at in gone)
    if gone:
        assert max(gone) < users[-min(keep_last, len(users))]
    for at, one in enumerate(messages):
        for call in one.get("tool_calls", ()):
            answers = [n for n, other in enumerate(messages) if other.get("tool_call_id") == call["id"]]
            assert all((n in gone) is (at in gone) for n in answers)


# --- where the limit comes from ----------------------------------------------------------------------------------


@pytest.fixture
def window(monkeypatch):
    def window(most_in, most_out=None):
        known = pricing.ContextWindow(most_in, most_out)
        monkeypatch.setattr(token_limit.pricing, "context_window", lambda provider, model: known)

    return window


def test_the_models_window_is_the_default(ask, window):
    window(tokens(LONG))
    assert ask(TokenLimit(), LONG)[1]["messages"] == LONG
    window(tokens(LONG) - 1)
    assert ask(TokenLimit(), LONG)[1]["messages"] == [LONG[0], *LONG[3:]]
    assert ask(TokenLimit(max_input_tokens=10**6), LONG)[1]["messages"] == LONG


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_less_what_is_reserved_for_the_answer(ask, window, name):
    window(tokens(LONG) + 100, 4000)
    assert ask(TokenLimit(), LONG, **{name: 100})[1]["messages"] == LONG
    response, params = ask(TokenLimit(), LONG, **{name: 101})
    assert params["messages"] == [LONG[0], *LONG[3:]]
    assert response.metadata["token_limit"]["limit"] == tokens(LONG) - 1
    assert ask(TokenLimit(max_output_tokens=100), LONG, **{name: 101})[1]["messages"] == LONG
    window(tokens(LONG) + 50, 50)
    assert ask(TokenLimit(), LONG, **{name: 10**9})[1]["messages"] == LONG  # it can write 50 at most
    window(60, 50)
    with pytest.raises(TokenLimitExceeded, match=r"takes 10 \(its context window less max_tokens\)"):
        ask(TokenLimit(), LONG, **{name: 10**9})
    for odd in (float("nan"), -1, "many"):
        window(tokens(LONG))
        assert ask(TokenLimit(), LONG, **{name: odd})[1]["messages"] == LONG


def test_where_both_names_are_given_the_first_one_goes_to_the_provider(ask, window):
    window(tokens(LONG) + 100, 4000)
    assert ask(TokenLimit(), LONG, max_completion_tokens=100, max_tokens=3000)[1]["messages"] == LONG
    response, _ = ask(TokenLimit(), LONG, max_completion_tokens=101, max_tokens=1)
    assert response.metadata["token_limit"]["limit"] == tokens(LONG) - 1


def test_a_window_of_which_only_one_end_is_known(ask, window):
    window(tokens(LONG) + 100, None)
    assert ask(TokenLimit(), LONG, max_tokens=100)[1]["messages"] == LONG
    assert ask(TokenLimit(), LONG, max_tokens=101)[1]["messages"] == [LONG[0], *LONG[3:]]
    window(None, 4000)
    response, params = ask(TokenLimit(), LONG, max_tokens=101)
    assert params["messages"] == LONG
    assert response.metadata["token_limit"]["method"].startswith("not counted")


@pytest.mark.parametrize(("listed", "apart"), [(272_000, True), (1_048_576, True), (1000, False), (128_000, False)])
def test_where_the_answer_has_a_window_of_its_own_nothing_is_taken_off(window, listed, apart):
    window(listed, 400)
    context = MiddlewareContext("openai", "m")
    for name, reserved in (("max_tokens", 300), ("max_completion_tokens", 300), ("max_tokens", 500)):
        taken = 0 if apart else min(reserved, 400)
        assert TokenLimit()._limit({name: reserved}, context) == listed - taken


@pytest.mark.parametrize("model", ["gpt-5-chat-latest", "gpt-5-pro", "gpt-4o", "gpt-4.1"])
def test_windows_that_are_shared(model):
    most = pricing.context_window("openai", model)
    assert TokenLimit()._limit({"max_tokens": 1000}, MiddlewareContext("openai", model)) == most.max_input_tokens - 1000


@pytest.mark.parametrize("model", ["openai/gpt-5", "openai/gpt-5-mini", "gemini/gemini-2.5-pro"])
def test_real_windows_of_their_own(model):
    context = MiddlewareContext(*model.split("/"))
    most = pricing.context_window(*model.split("/"))
    assert TokenLimit()._limit({"max_tokens": most.max_output_tokens}, context) == most.max_input_tokens


@pytest.mark.parametrize(("most_in", "limit"), [(50, 50), (49, 49), (51, 1)])
def test_a_list_that_cannot_be_right_takes_nothing_off(window, most_in, limit):
    """Where the answer would leave nothing to the request."""
    window(most_in, 50)
    assert TokenLimit()._limit({"max_tokens": 10**9}, MiddlewareContext("openai", "gpt-4o")) == limit


def test_a_real_window(ask):
    messages = [message("user", "word " * 5000), message("assistant"), message("user", "word " * 4000)]
    assert ask(TokenLimit(), messages, model_id="gpt-4")[1]["messages"] == messages[2:]  # 8,192
    assert ask(TokenLimit(), messages)[1]["messages"] == messages  # 128,000


def test_behind_a_change_of_model_the_other_ones_window_counts(ask):
    class Change(Middleware):
        metadata = MiddlewareMetadata(id="change", priority=60)

        async def wrap_generate(self, do_generate, params, context):
            return await do_generate({**params, "model": "gpt-4"})

        async def wrap_stream(self, do_stream, params, context):
            async for part in do_stream({**params, "model": "gpt-4"}):
                yield part

    messages = [message("user", "word " * 5000), message("assistant"), message("user", "word " * 4000)]
    factory_params = ask(TokenLimit(), messages, Change())[1]
    assert (factory_params["messages"], factory_params["model"]) == (messages[2:], "gpt-4")


def test_where_no_window_is_known_nothing_is_cut_and_that_is_said(ask, caplog):
    limit = TokenLimit()
    with caplog.at_level(logging.WARNING, logger="neuro_mw"):
        for _ in range(2):
            response, params = ask(limit, LONG, provider="vllm", model_id="mine")
            assert params["messages"] == LONG
            assert response.metadata["token_limit"] == {
                "input_tokens": None, "limit": None, "removed_messages": 0, "removed_tokens": 0,
                "method": "not counted: the context window of vllm/mine is not known",
            }  # fmt: skip
    assert [record.getMessage() for record in caplog.records] == [
        "middleware 'token_limit' limits no input of vllm/mine, whose context window is not known: set max_input_tokens"
    ]
    assert limit.tally.counts() == {"no_limit": 2}


def test_a_name_of_a_model_ends_no_line_of_the_log(ask, caplog):
    with caplog.at_level(logging.WARNING, logger="neuro_mw"):
        ask(TokenLimit(), LONG, provider="vllm", model_id="mine\nERROR forged\ud800")
    (said,) = (record.getMessage() for record in caplog.records)
    assert "\n" not in said
    said.encode()


# --- the answer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ({}, {"max_tokens": 50}), ({"max_tokens": None}, {"max_tokens": 50}), ({"max_tokens": 51}, {"max_tokens": 50}),
        ({"max_tokens": 49}, {"max_tokens": 49}), ({"max_tokens": 0}, {"max_tokens": 0}),
        ({"max_tokens": -1}, {"max_tokens": 50}), ({"max_tokens": float("nan")}, {"max_tokens": 50}),
        ({"max_tokens": float("inf")}, {"max_tokens": 50}),
        ({"max_completion_tokens": 60}, {"max_completion_tokens": 50}),
        ({"max_completion_tokens": 60, "max_tokens": 70}, {"max_completion_tokens": 50, "max_tokens": 50}),
        ({"extra_body": {"max_tokens": 60, "a": 1}}, {"max_tokens": 50, "extra_body": {"max_tokens": 50, "a": 1}}),
        ({"extra_body": {"a": 1}}, {"max_tokens": 50, "extra_body": {"a": 1}}),
    ],
)  # fmt: skip
def test_the_answer_is_capped_and_never_made_longer(ask, said, sent):
    before = copy.deepcopy(said)
    params = ask(TokenLimit(max_output_tokens=50), [message("user")], **said)[1]
    assert {name: value for name, value in params.items() if name != "messages"} == sent
    assert repr(said) == repr(before)


@pytest.mark.parametrize("value", ["60", True, [1]])
def test_a_cap_that_is_no_number_is_refused(ask, value):
    with pytest.raises(BadRequest, match=r"params\['max_tokens'\] is of type .*at most 50"):
        ask(TokenLimit(max_output_tokens=50), [message("user")], max_tokens=value)


# --- the cheap answer --------------------------------------------------------------------------------------------

TEXTS = st.text(max_size=60) | st.text("aé漢😀\ud800 ", max_size=60) | st.text("0123456789", max_size=40)
REQUESTS = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "odd" * 20]), "content": TEXTS})
            | st.just(called("a")) | st.just(result("a")) | st.just({"content": "a", "odd": "b" * 50})
            | st.just(message("user", [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}])),
            max_size=5,
        )
    },
    optional={"temperature": st.just(1), "system": TEXTS, "odd": TEXTS, "tools": st.just([{}, {}])},
)  # fmt: skip


MODELS = ["openai/gpt-4o", "openai/gpt-4", "openai/gpt-4o-mini", "echo/echo", "anthropic/claude-sonnet-4-5", "groq/x"]


@given(REQUESTS, st.sampled_from(MODELS))
def test_a_request_that_is_not_counted_could_not_have_been_too_long(request, model):
    real = count_tokens_sync(request, *model.split("/")).tokens
    assert not token_limit._surely_within(request, real - 1, model.partition("/")[2])
    assert not token_limit._surely_within(request, 0, "gpt-4o")


@pytest.mark.parametrize("more", [{}, {"system": "x"}])
def test_letters_that_take_four_tokens_each(more):
    request = {"messages": [message("user", "\U00013000\U0001f9ff\ud800" * 300)], **more}
    real = count_tokens_sync(request, "anthropic", "claude-sonnet-4-5").tokens
    assert real > 3 * 900
    assert not token_limit._surely_within(request, real - 1, "claude-sonnet-4-5")


@pytest.mark.parametrize("one", [message("word " * 300), {"content": "", "odd": "word " * 300}])
def test_texts_in_odd_places(one):
    real = count_tokens_sync({"messages": [one]}, "openai", "gpt-4o").tokens
    assert real > 300
    assert not token_limit._surely_within({"messages": [one]}, real - 1, "gpt-4o")


LONG_CALL = [{"id": "a", "type": "function", "function": {"name": "look", "arguments": "word " * 300}}]
SCHEMA = {"type": "object", "properties": {f"word {number}": {"type": "string"} for number in range(60)}}
TOOL = {"name": "look", "parameters": SCHEMA}


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{**message("assistant"), "tool_calls": LONG_CALL}]},
        {"messages": [message("user", "x", name="word " * 300)]},
        {"messages": [message("user")], "tools": [{"type": "function", "function": TOOL}]},
        {"messages": [message("user")], "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
    ],
    ids=["tool_calls", "name", "tools", "response_format"],
)
def test_what_stands_beside_the_content_counts(ask, more):
    """A request that looks short by its contents alone is counted all the same."""
    real = count_tokens_sync(more, "openai", "gpt-4o").tokens
    assert real > 300
    assert not token_limit._surely_within(more, real - 1, "gpt-4o")
    with pytest.raises(TokenLimitExceeded, match=f"the request holds {real} tokens"):
        ask(TokenLimit(max_input_tokens=real - 1), **more)


def test_a_request_that_cannot_be_too_long_is_not_counted(ask, monkeypatch):
    monkeypatch.setattr(token_limit, "count_tokens", None)
    assert ask(TokenLimit(), LONG)[0].text == "fine"


def test_a_long_request_is_cut_beside_the_event_loop(ask, monkeypatch):
    threads = []

    def count(*given):
        threads.append(threading.current_thread())
        return count_tokens_sync(*given)

    monkeypatch.setattr(token_limit, "count_tokens_sync", count)
    ask(TokenLimit(max_input_tokens=tokens([LONG[0], LONG[5]])), LONG)
    assert threads
    assert all("asyncio" in thread.name for thread in threads)  # a worker of asyncio.to_thread


@pytest.mark.parametrize(("limit", "loaded"), [(100, ["gpt-4o", "gpt-4"]), (None, [])])
def test_encodings_are_loaded_beforehand_where_they_will_be_needed(ask, monkeypatch, limit, loaded):
    found = []
    monkeypatch.setattr(token_limit, "count_tokens_sync", lambda text, provider, model: found.append(model))
    ask(TokenLimit(max_input_tokens=limit), [message("user")])
    assert found == loaded


# --- config ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "key"),
    [({"max_input_tokens": 0}, "max_input_tokens"), ({"max_input_tokens": -5}, "max_input_tokens"),
     ({"max_output_tokens": 0}, "max_output_tokens"), ({"keep_last": 0}, "keep_last"),
     ({"max_input_tokens": True}, "max_input_tokens"), ({"max_input_tokens": "5"}, "max_input_tokens"),
     ({"max_output_tokens": 1.0}, "max_output_tokens"), ({"keep_last": True}, "keep_last"),
     ({"strategy": "cut"}, "strategy"), ({"max_tokens": 5}, "max_tokens")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options, key):
    with pytest.raises(ConfigError) as error:
        TokenLimit(options)
    assert error.value.key == f"middleware.token_limit.config.{key}"
