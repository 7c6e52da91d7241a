"""default_settings: defaults, limits, and the system text, in both modes."""

import asyncio
import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import BadRequest, ConfigError, MiddlewareContext, MiddlewareFactory
from neuro_mw.builtin.default_settings import DefaultSettings
from neuro_mw.testing import ScriptedModel

USER = {"role": "user", "content": "hi"}
NUMBERS = st.integers(-(10**400), 10**400) | st.integers(-5, 5) | st.floats(allow_nan=False)


@pytest.fixture(params=["generate", "stream"])
def ask(request):
    """ask(options, **params): the answer, and the params that reached the model (None where none did)."""

    def ask(options, prompt="hi", **params):
        model = ScriptedModel("fine")
        settings = DefaultSettings(options)
        wrapped = MiddlewareFactory(preset=None, plugins=False, middleware=[settings]).apply_middleware(model)
        if request.param == "generate":
            response = wrapped.generate_sync(prompt, **params)
        else:
            response = wrapped.stream_sync(prompt, **params).response()
        return response, model.calls[0][1] if model.calls else None, settings.tally.counts()

    return ask


def sent(options, **params):
    """What the hook alone makes of params."""
    return DefaultSettings(options).transform_params(params, MiddlewareContext("openai", "gpt-4o"))


# --- defaults ----------------------------------------------------------------------------------------------------


def test_the_caller_wins(ask):
    options = {"params": {"temperature": 0.2, "top_p": 0.9, "seed": 1}}
    _, params, _ = ask(options, temperature=0, top_p=None)
    assert params == {"messages": [USER], "temperature": 0, "top_p": 0.9, "seed": 1}


@pytest.mark.parametrize(("said", "default"), [("max_tokens", "max_completion_tokens"),
                                               ("max_completion_tokens", "max_tokens")])  # fmt: skip
def test_the_two_names_of_one_setting(ask, said, default):
    assert ask({"params": {default: 100}}, **{said: 7})[1] == {"messages": [USER], said: 7}


@pytest.mark.parametrize("value", [["x"], {"a": ["x"]}])
def test_each_call_has_its_own_copy_of_a_default(value):
    """What an inner layer does to it is not seen by the next call, nor in the config."""
    settings, context = DefaultSettings(params={"stop": value}), MiddlewareContext("openai", "gpt-4o")
    before = copy.deepcopy(value)
    first = settings.transform_params({}, context)["stop"]
    first.append("y") if isinstance(first, list) else first["a"].append("y")
    assert settings.transform_params({}, context)["stop"] == settings.config.params["stop"] == value == before


def test_one_call_does_not_change_the_next(ask):
    options = {"params": {"stop": ["x"]}, "system": "be brief", "limits": {"top_p": {"max": 0.5}}}
    given = {"messages": [{"role": "system", "content": [{"type": "text", "text": "old"}]}, dict(USER)], "top_p": 1,
             "extra_body": {"top_p": 1}}  # fmt: skip
    before = copy.deepcopy(given)
    first = ask(options, prompt=given)[1]
    assert given == before
    assert ask(options, prompt=given)[1] == first
    assert first["messages"][0]["content"] == [{"type": "text", "text": "be brief"}, {"type": "text", "text": "old"}]


# --- limits ------------------------------------------------------------------------------------------------------


def test_what_is_beyond_is_brought_back(ask):
    options = {"limits": {"temperature": {"min": 0.1, "max": 1.0}, "max_tokens": {"max": 500}, "top_p": {"max": 1}}}
    response, params, counts = ask(options, temperature=1.7, max_tokens=10_000, top_p=0.5)
    assert params == {"messages": [USER], "temperature": 1.0, "max_tokens": 500, "top_p": 0.5}
    assert response.text == "fine"
    assert counts == {"clamped.temperature": 1, "clamped.max_tokens": 1}
    assert ask(options, temperature=0)[1]["temperature"] == 0.1


def test_or_the_call_is_refused(ask):
    options = {"limits": {"temperature": {"min": 0, "max": 1.5}}, "on_violation": "refuse"}
    response, params, _ = ask(options, temperature=1.7)
    assert params is None
    assert response.blocked.category == "limits"
    assert response.blocked.reason == "temperature is 1.7, allowed is at least 0 and at most 1.5"
    assert response.blocked.detail == {"param": "temperature", "value": 1.7, "min": 0, "max": 1.5}
    assert ask(options, temperature=1.5)[0].blocked is None
    assert ask(options)[0].blocked is None


@pytest.mark.parametrize("value", ["0.5", True, [1], {"a": 1}, float("nan")])
def test_what_is_no_number_is_refused(ask, value):
    with pytest.raises(BadRequest, match=r"params\['temperature'\] is .*a number is expected, at most 1"):
        ask({"limits": {"temperature": {"max": 1}}}, temperature=value)


def test_the_message_does_not_hold_what_was_given(ask):
    with pytest.raises(BadRequest) as error:
        ask({"limits": {"temperature": {"max": 1}}}, temperature="my secret")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("value", [501, -1, float("inf"), 10**400])
def test_no_way_round_a_limit_of_the_answer(ask, name, value):
    for limited in ("max_tokens", "max_completion_tokens"):
        options = {"limits": {limited: {"max": 500}}}
        assert ask(options, **{name: value})[1][name] == 500
        assert ask(options, extra_body={name: value})[1]["extra_body"] == {name: 500}
        refused = ask({**options, "on_violation": "refuse"}, **{name: value})[0].blocked
        assert refused.category == "limits"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("limit", "becomes"), [({"min": 10}, -1), ({"min": 10, "max": 50}, 50)])
def test_a_negative_output_is_above_every_limit_not_below(ask, name, limit, becomes):
    """To some servers it is "no limit": a least length must not make it a short one."""
    for limited in ("max_tokens", "max_completion_tokens"):
        options = {"limits": {limited: limit}}
        assert ask(options, **{name: -1})[1][name] == becomes
        assert ask(options, extra_body={name: -1})[1]["extra_body"] == {name: becomes}
    assert ask({"limits": {"seed": {"min": 10}}}, seed=-1)[1]["seed"] == 10


@pytest.mark.parametrize(("high", "value", "expected"), [(500.0, 900, 500), (500.0, 900.0, 500.0), (0.5, 3, 0.5)])
def test_a_whole_number_stays_one_where_the_limit_is_written_as_a_float(ask, high, value, expected):
    """TOML's 500.0: OpenAI refuses a max_tokens of 500.0."""
    made = ask({"limits": {"top_k": {"max": high}}}, top_k=value)[1]["top_k"]
    assert (made, type(made)) == (expected, type(expected))


def test_both_names_may_have_limits_of_their_own(ask):
    options = {"limits": {"max_tokens": {"max": 5}, "max_completion_tokens": {"max": 7}}}
    params = ask(options, max_tokens=100, max_completion_tokens=100)[1]
    assert (params["max_tokens"], params["max_completion_tokens"]) == (5, 7)


@given(st.none() | st.integers(-9, 9), st.none() | st.integers(-9, 9), NUMBERS)
def test_a_clamped_value_is_the_nearest_allowed(low, high, value):
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        return
    made = sent({"limits": {"x": {"min": low, "max": high}}}, x=value)["x"]
    allowed = [one for one in (value, low, high) if one is not None]
    allowed = [one for one in allowed if (low is None or one >= low) and (high is None or one <= high)]
    assert made == (value if value in allowed else low if low is not None and value < low else high)
    assert isinstance(made, int) or not isinstance(value, int)


# --- the system text ---------------------------------------------------------------------------------------------

OLD = {"role": "system", "content": "old"}
OURS = {"role": "system", "content": "ours"}


@pytest.mark.parametrize(
    ("mode", "messages", "expected"),
    [
        ("prepend", [USER], [OURS, USER]),
        ("append", [USER], [OURS, USER]),
        ("replace", [USER], [OURS, USER]),
        ("if_absent", [USER], [OURS, USER]),
        ("prepend", [OLD, USER], [{"role": "system", "content": "ours\n\nold"}, USER]),
        ("append", [OLD, USER], [{"role": "system", "content": "old\n\nours"}, USER]),
        ("replace", [OLD, USER, OLD], [OURS, USER]),
        ("if_absent", [OLD, USER], [OLD, USER]),
        ("if_absent", [USER, OLD], [USER, OLD]),
        ("prepend", [USER, OLD], [OURS, USER, OLD]),
        ("append", [USER, OLD], [OURS, USER, OLD]),
        ("append", [OLD, {"role": "developer", "content": "new"}, USER, OLD],
         [OLD, {"role": "developer", "content": "new\n\nours"}, USER, OLD]),
        ("prepend", [{"role": "developer", "content": "old"}, USER],
         [{"role": "developer", "content": "ours\n\nold"}, USER]),
        ("replace", [{"role": "developer", "content": "old"}, USER], [OURS, USER]),
        ("if_absent", [{"role": "developer", "content": "old"}, USER], [{"role": "developer", "content": "old"}, USER]),
        ("prepend", [{"role": "system", "content": None}, USER], [OURS, USER]),
        ("if_absent", [{"role": "system", "content": ""}, USER], [OURS, USER]),
        ("if_absent", [{"role": "system", "content": []}, USER],
         [{"role": "system", "content": [{"type": "text", "text": "ours"}]}, USER]),
        ("if_absent", [{"role": "system", "content": ""}, OLD, USER], [{"role": "system", "content": ""}, OLD, USER]),
        ("prepend", [{"role": "system", "content": {"type": "text", "text": "old"}}],
         [{"role": "system", "content": [{"type": "text", "text": "ours"}, {"type": "text", "text": "old"}]}]),
        ("append", [{"role": "system", "content": {"type": "text", "text": "old"}}],
         [{"role": "system", "content": [{"type": "text", "text": "old"}, {"type": "text", "text": "ours"}]}]),
        ("prepend", [{"role": "system", "content": [{"type": "text", "text": "old", "cache_control": {}}]}],
         [{"role": "system", "content": [{"type": "text", "text": "ours"},
                                         {"type": "text", "text": "old", "cache_control": {}}]}]),
        ("append", [{"role": "system", "content": [{"type": "text", "text": "old"}]}],
         [{"role": "system", "content": [{"type": "text", "text": "old"}, {"type": "text", "text": "ours"}]}]),
    ],
)  # fmt: skip
def test_where_the_system_text_goes(ask, mode, messages, expected):
    assert ask({"system": "ours", "system_mode": mode}, prompt={"messages": messages})[1]["messages"] == expected


@pytest.mark.parametrize(
    ("mode", "old", "expected"),
    [
        ("prepend", "old", {"system": "ours\n\nold", "messages": [USER]}),
        ("append", "old", {"system": "old\n\nours", "messages": [USER]}),
        ("append", [{"type": "text", "text": "old"}],
         {"system": [{"type": "text", "text": "old"}, {"type": "text", "text": "ours"}], "messages": [USER]}),
        ("replace", "old", {"messages": [OURS, USER]}),
        ("if_absent", "old", {"system": "old", "messages": [USER]}),
        ("if_absent", "", {"system": "", "messages": [OURS, USER]}),
    ],
)  # fmt: skip
def test_where_it_goes_beside_the_param_of_anthropic(ask, mode, old, expected):
    assert ask({"system": "ours", "system_mode": mode}, system=old)[1] == expected


@pytest.mark.parametrize("mode", ["prepend", "append", "replace", "if_absent"])
@pytest.mark.parametrize("messages", ["hi", (USER,), {"role": "user"}, 5])
def test_messages_that_are_no_list_stay_what_they_are(mode, messages):
    """No driver takes them, and it will say so."""
    assert sent({"system": "ours", "system_mode": mode}, messages=messages) == {"messages": messages}


def test_with_both_it_goes_before_or_behind_all(ask):
    for mode, system, said in (("prepend", "ours\n\nfirst", "old"), ("append", "first", "old\n\nours")):
        params = ask({"system": "ours", "system_mode": mode}, prompt={"messages": [OLD, USER]}, system="first")[1]
        assert params == {"system": system, "messages": [{"role": "system", "content": said}, USER]}


@given(
    st.sampled_from(["prepend", "append", "replace", "if_absent"]),
    st.lists(st.sampled_from(["system", "developer", "user", "assistant"]), max_size=6),
)
def test_nothing_else_is_touched(mode, roles):
    messages = [{"role": role, "content": f"{role} {at}"} for at, role in enumerate(roles)]
    made = sent({"system": "OURS", "system_mode": mode}, messages=[dict(one) for one in messages])["messages"]
    kinds = ("system", "developer")
    assert [one for one in made if one["role"] not in kinds] == [one for one in messages if one["role"] not in kinds]
    ours = [at for at, one in enumerate(made) if "OURS" in one["content"]]
    absent = not any(role in kinds for role in roles)
    assert len(ours) == (1 if mode != "if_absent" or absent else 0)
    old = [one["content"] for one in messages if one["role"] in kinds]
    text = " ".join(one["content"] for one in made if one["role"] in kinds)
    assert all((content in text) is (mode != "replace") for content in old)
    if mode in ("prepend", "replace"):
        assert made[0]["content"].startswith("OURS")
    if ours:
        assert all(one["role"] in kinds for one in made[: ours[0] + 1])  # in front of what is said


# --- config ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "key"),
    [
        *(({"params": {name: "x"}}, f"params.{name}") for name in ("messages", "model", "n", "stream", "system")),
        *(({"params": {name: "x"}}, f"params.{name}") for name in
          ("api_key", "azure_ad_token", "aws_secret_access_key", "vertex_credentials", "password", "hf_token")),
        *(({"params": {name: "x"}}, f"params.{name}") for name in
          ("token", "apikey", "x-auth", "bearer", "jwt", "secret", "signature", "AWS_ACCESS_KEY_ID", "client_secret")),
        *(({"params": {name: "x"}}, f"params.{name}") for name in
          ("base_url", "api_base", "api_version", "organization", "project", "aws_region_name", "vertex_location")),
        ({"params": {"extra_body": {"auth": "x"}}}, "params.extra_body.auth"),
        ({"params": {"metadata": {"a": {"b": {"password": "x"}}}}}, "params.metadata.a.b.password"),
        ({"params": {"extra_body": {"a": [{"password": "x"}]}}}, "params.extra_body.a.0.password"),
        ({"params": {"extra_headers": {"x-auth": "x"}}}, "params.extra_headers.x-auth"),
        ({"params": {"extra_body": {"system": "x"}}}, "params.extra_body.system"),
        ({"params": {"extra_headers": {"Authorization": "Bearer x"}}}, "params.extra_headers.Authorization"),
        ({"params": {"headers": {"X-Api-Key": "x"}}}, "params.headers.X-Api-Key"),
        ({"params": {"extra_body": {"messages": []}}}, "params.extra_body.messages"),
        ({"limits": {"temperature": {"min": 2, "max": 1}}}, "limits.temperature"),
        ({"limits": {"temperature": {}}}, "limits.temperature"),
        ({"limits": {"temperature": {"most": 1}}}, "limits.temperature.most"),
        ({"limits": {"temperature": {"max": "much"}}}, "limits.temperature.max"),
        ({"limits": {"temperature": {"max": float("nan")}}}, "limits.temperature.max"),
        ({"limits": {"messages": {"max": 1}}}, "limits.messages"),
        ({"params": {"temperature": 2}, "limits": {"temperature": {"max": 1}}}, "params.temperature"),
        ({"params": {"max_tokens": 9}, "limits": {"max_completion_tokens": {"max": 5}}}, "params.max_tokens"),
        ({"params": {"seed": "x"}, "limits": {"seed": {"max": 5}}}, "params.seed"),
        ({"params": {"extra_body": {"seed": 9}}, "limits": {"seed": {"max": 5}}}, "params.extra_body.seed"),
        ({"params": {"extra_body": {"max_tokens": 9}}, "limits": {"max_completion_tokens": {"max": 5}}},
         "params.extra_body.max_tokens"),
        ({"limits": {"max_tokens": {"max": -1}}}, "limits.max_tokens.max"),
        ({"limits": {"max_completion_tokens": {"max": 0.5}}}, "limits.max_completion_tokens.max"),
        ({"limits": {"max_tokens": {"min": -1, "max": 5}}}, "limits.max_tokens.min"),
        ({"system": " "}, "system"),
        ({"system": "x", "system_mode": "before"}, "system_mode"),
        ({"on_violation": "warn"}, "on_violation"),
        ({"defaults": {}}, "defaults"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options, key):
    with pytest.raises(ConfigError) as error:
        DefaultSettings(options)
    assert error.value.key == f"middleware.default_settings.config.{key}"


def test_names_that_only_look_like_keys():
    options = {"params": {"prompt_cache_key": "a", "max_tokens": 5, "tools": [{"password": {}}],
                          "extra_headers": {"X-Team": "a"}, "author": "b", "key_points": 3,
                          "response_format": {"json_schema": {"properties": {"token": {}}}},
                          "extra_body": {"eos_token": "c", "guided_json": {"properties": {"key": {}}}}},
               "limits": {"max_tokens": {"min": 0, "max": 5.0}}}  # fmt: skip
    assert sent(options, messages=[])["prompt_cache_key"] == "a"


def test_without_options_it_has_no_hook():
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[DefaultSettings()])
    model = ScriptedModel()
    wrapped = factory.apply_middleware(model)
    assert asyncio.run(wrapped.generate("hi")).text == "hello"
    assert "default_settings" not in factory.registry.get_aggregated_stats()  # it never ran


def test_what_is_switched_off_by_none_is_no_contradiction():
    settings = DefaultSettings({"system": None, "system_mode": "append", "on_violation": "refuse"})
    assert DefaultSettings(settings.config.model_dump()).config == settings.config


def test_a_secret_in_a_tool_that_is_called_over_the_net():
    with pytest.raises(ConfigError, match=r"params\.tools\.0\.headers\.Authorization"):
        DefaultSettings(params={"tools": [{"type": "mcp", "headers": {"Authorization": "Bearer x"}}]})
