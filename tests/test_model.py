"""The wrapped model: prompts, streams, sync calls, views, loops and threads, wrapped twice."""

import asyncio
import contextvars
import copy
import gc
import pickle
import subprocess
import sys
import threading
from collections import OrderedDict
from concurrent.futures import CancelledError, ThreadPoolExecutor
from types import MappingProxyType

import pytest

from neuro_mw import (
    BadRequest,
    Blocked,
    ConfigError,
    Finish,
    LanguageModel,
    MiddlewareFactory,
    NeuroError,
    RequestBlocked,
    Response,
    Session,
    Stream,
    StreamError,
    TextDelta,
    Usage,
    background,
    middleware,
)
from neuro_mw.testing import ScriptedModel

from .chain.conftest import MODES, call, run, wrap


def passing(id="pass", **metadata):
    return middleware(id, transform_parts=lambda params, context: lambda part: part, **metadata)


def sent(prompt=None, /, *, mode="generate", **params):
    model = ScriptedModel()
    run(call(wrap(model, passing()), mode, prompt, **params))
    return model.calls[0][1]


def user(text):
    return {"role": "user", "content": text}


# --- prompts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_forms_of_a_prompt(mode):
    system = {"role": "system", "content": "be brief"}
    assert sent("hi", mode=mode) == {"messages": [user("hi")]}
    assert sent("", mode=mode) == {"messages": [user("")]}
    assert sent("hi", mode=mode, temperature=0.5, odd_key=1) == {
        "messages": [user("hi")],
        "temperature": 0.5,
        "odd_key": 1,
    }
    assert sent("hi", mode=mode, messages=[system]) == {"messages": [system, user("hi")]}
    assert sent({"messages": [user("hi")], "seed": 1}, mode=mode, seed=2) == {"messages": [user("hi")], "seed": 2}
    assert sent(None, mode=mode, messages=[user("hi")]) == {"messages": [user("hi")]}
    assert sent(None, mode=mode) == {}


@pytest.mark.parametrize("prompt", [5, ["hi"], b"hi", True, user, ("a",)], ids=repr)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_no_prompt(mode, prompt):
    with pytest.raises(ConfigError, match="a prompt is a string or a dict of params, not"):
        run(call(wrap(ScriptedModel(), passing()), mode, prompt))


@pytest.mark.parametrize("messages", ["hello", 5, b"x"], ids=repr)
def test_messages_that_are_no_list_beside_a_prompt(messages):
    with pytest.raises(NeuroError, match="messages"):
        sent("hi", messages=messages)


@pytest.mark.parametrize("messages", ["hello", 5, b"x"], ids=repr)
def test_messages_that_are_no_list(messages):
    with pytest.raises(NeuroError, match="messages"):
        sent({"messages": messages})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", [5, ["gpt"], {"a": 1}, True], ids=repr)
def test_a_model_that_is_no_name(mode, model):
    with pytest.raises(NeuroError, match="model"):
        run(call(wrap(ScriptedModel(), passing()), mode, model=model))


class Message(dict):
    """As provider SDKs make them."""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "messages",
    [[user("hi")], (user("hi"),), [OrderedDict(user("hi"))], [Message(user("hi"))]],
    ids=["list", "tuple", "ordered", "subclass"],
)  # fmt: skip
@pytest.mark.parametrize("with_prompt", [False, True])
def test_what_a_transform_does_to_messages_is_not_seen_by_the_caller(mode, messages, with_prompt):
    """Rule 11: dict, message list and message dicts are the hook's own."""
    messages, before = copy.deepcopy(messages), copy.deepcopy(messages)

    def spoil(params, context):
        for message in params["messages"]:
            message["content"] = "spoiled"
        params["extra"] = 1
        return params

    model = wrap(ScriptedModel(), middleware("spoil", transform_params=spoil))
    request = {"messages": messages}
    if with_prompt:
        run(call(model, mode, "more", messages=messages))
    else:
        run(call(model, mode, request))
    assert messages == before
    assert request == {"messages": before}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [2, 0, -1, "2", 2.5, [1]], ids=repr)
def test_several_choices_are_refused_before_anything_runs(mode, n):
    ran = []
    model = ScriptedModel()
    tap = middleware("tap", transform_params=lambda params, context: (ran.append(1), params)[1])
    with pytest.raises(BadRequest, match=rf"n={n!r} is not supported for openai/gpt-4o".replace("[", r"\[")) as caught:
        run(call(wrap(model, tap), mode, n=n))
    assert "one call for each choice" in str(caught.value)
    assert (ran, model.calls) == ([], [])


@pytest.mark.parametrize("mode", MODES)
def test_a_middleware_cannot_ask_for_several_choices_either(mode):
    model = ScriptedModel()
    many = middleware("many", transform_params=lambda params, context: {**params, "n": 3})
    with pytest.raises(BadRequest, match="n=3"):
        run(call(wrap(model, many), mode))
    assert model.calls == []
    assert sent("hi", mode=mode, n=1)["n"] == 1
    assert sent("hi", mode=mode, n=None)["n"] is None


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_as_parts_text_and_answer():
    model = wrap(ScriptedModel("abcdef", cuts=(2,)), passing())

    async def check():
        assert [part.type async for part in model.stream("x")] == ["text_delta"] * 3 + ["finish"]
        assert [text async for text in model.stream("x").text()] == ["ab", "cd", "ef"]
        assert (await model.stream("x").response()).text == "abcdef"
        stream = model.stream("x")
        async for part in stream:
            assert part == TextDelta("ab")
            break
        whole = await stream.response()
        assert whole is await stream.response()
        assert whole.text == "abcdef"
        assert whole.receipt.layers["pass"]["status"] == "completed"

    run(check())


def test_a_stream_that_is_never_iterated_makes_no_call():
    model = ScriptedModel()
    ran = []
    tap = middleware("tap", transform_params=lambda params, context: (ran.append(1), params)[1])

    async def check():
        stream = wrap(model, tap).stream("x")
        assert isinstance(stream, Stream)
        await stream.aclose()
        async with wrap(model, tap).stream("x"):
            pass

    run(check())
    gc.collect()
    assert (ran, model.opened) == ([], 0)


def test_a_stream_is_consumed_once():
    model = wrap(ScriptedModel(), passing())

    async def check():
        stream = model.stream("x")
        async for _ in stream:
            pass
        with pytest.raises(StreamError, match=r"was already consumed; call stream\(\) again"):
            async for _ in stream:
                pass
        with pytest.raises(StreamError, match="already consumed"):
            async for _ in stream.text():
                pass
        assert (await stream.response()).text == "hello"

    run(check())


def test_a_closed_stream_says_so():
    model = wrap(ScriptedModel(), passing())

    async def check():
        async with model.stream("x") as stream:
            async for _ in stream:
                break
        with pytest.raises(StreamError, match="was closed"):
            async for _ in stream:
                pass
        with pytest.raises(StreamError, match="closed"):
            await stream.response()
        await stream.aclose()

    run(check())


def test_a_failed_stream_says_so():
    model = wrap(ScriptedModel("abcdef", cuts=(1,), error=KeyError("x"), error_at=2), passing())

    async def check():
        stream = model.stream("x")
        with pytest.raises(KeyError) as caught:
            async for _ in stream:
                pass
        assert caught.value.partial.text == "ab"
        with pytest.raises(StreamError, match="has failed"):
            await stream.response()

    run(check())


def test_the_answer_may_be_read_right_after_finish():
    model = wrap(ScriptedModel(), passing())

    texts = []

    async def check():
        async with model.stream("x") as stream:
            async for part in stream:
                if isinstance(part, Finish):
                    texts.append((await stream.response()).text)

    run(check())
    assert texts == ["hello"]


# --- sync ------------------------------------------------------------------------------------------------------------


def test_sync_calls_outside_of_a_loop():
    model = wrap(ScriptedModel("abcdef", cuts=(2,)), passing())
    assert model.generate_sync("x").text == "abcdef"
    assert model.generate_sync({"messages": []}, seed=1).text == "abcdef"
    assert [part.type for part in model.stream_sync("x")] == ["text_delta"] * 3 + ["finish"]
    assert list(model.stream_sync("x").text()) == ["ab", "cd", "ef"]
    with model.stream_sync("x") as stream:
        for part in stream:
            assert part == TextDelta("ab")
            break
        assert stream.response().text == "abcdef"


def test_sync_calls_inside_of_a_running_loop():
    model = wrap(ScriptedModel("abcdef", cuts=(2,)), passing())

    async def notebook():
        assert model.generate_sync("x").text == "abcdef"
        assert "".join(model.stream_sync("x").text()) == "abcdef"
        return (await model.generate("x")).text

    assert run(notebook()) == "abcdef"


def test_a_sync_stream_that_is_left_is_closed():
    scripted = ScriptedModel("abcdef", cuts=(1,))
    model = wrap(scripted, passing())
    with model.stream_sync("x") as stream:
        assert next(iter(stream)) == TextDelta("a")
    assert (scripted.opened, scripted.closed) == (1, 1)
    assert scripted.pulled < 6
    with pytest.raises(StreamError, match="was closed"):
        iter(stream)
    with pytest.raises(StreamError):
        stream.response()
    stream.close()


def test_a_sync_stream_that_is_dropped_is_closed():
    scripted = ScriptedModel("abcdef", cuts=(1,))
    stream = wrap(scripted, passing()).stream_sync("x")
    next(iter(stream))
    del stream
    gc.collect()
    for _ in range(200):  # the background loop closes it as soon as it gets to it
        if scripted.closed:
            break
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), background.loop()).result(10)
    assert (scripted.opened, scripted.closed) == (1, 1)


def test_a_sync_stream_ends_for_good():
    stream = wrap(ScriptedModel(), passing()).stream_sync("x")
    assert len(list(stream)) == 3
    with pytest.raises(StopIteration):
        next(stream)
    with pytest.raises(StreamError, match="already consumed"):
        list(stream)
    assert stream.response().text == "hello"


@pytest.mark.parametrize(
    "error", [KeyError("x"), BadRequest("m", provider="p", model="m"), StopIteration("x")], ids=repr
)
def test_errors_of_sync_calls_keep_their_type(error):
    model = wrap(ScriptedModel(error=error), passing())
    with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)):
        model.generate_sync("x")
    with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)):
        list(model.stream_sync("x"))


def test_a_sync_call_inside_of_a_middleware_does_not_hang():
    async def nested(do_generate, params, context):
        return inner.generate_sync("x")

    inner = wrap(ScriptedModel("inner"), passing())
    model = wrap(ScriptedModel(), middleware("nested", wrap_generate=nested))
    with pytest.raises(RuntimeError, match="would wait for itself"):
        model.generate_sync("x")
    assert run(model.generate("x")).text == "inner"


def test_a_sync_call_in_a_worker_thread_of_a_middleware():
    async def nested(do_generate, params, context):
        return await asyncio.to_thread(inner.generate_sync, "x")

    inner = wrap(ScriptedModel("inner"), passing())
    assert wrap(ScriptedModel(), middleware("nested", wrap_generate=nested)).generate_sync("x").text == "inner"


def test_sync_calls_see_the_callers_context_variables():
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    model = wrap(
        ScriptedModel(),
        middleware("tap", transform_params=lambda params, context: (seen.append(variable.get()), params)[1]),
    )
    variable.set("mine")
    model.generate_sync("x")
    list(model.stream_sync("x"))
    assert seen == ["mine", "mine"]


def test_a_cancelled_sync_call_raises():
    model = wrap(ScriptedModel(error=asyncio.CancelledError()), passing())
    with pytest.raises((CancelledError, asyncio.CancelledError)):
        model.generate_sync("x")
    assert wrap(ScriptedModel("fine"), passing()).generate_sync("x").text == "fine"


def test_sync_calls_from_many_threads():
    model = wrap(ScriptedModel("abc", delay_s=0), passing())

    def one(number):
        return model.generate_sync("x").text if number % 2 else "".join(model.stream_sync("x").text())

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(64))) == ["abc"] * 64


def test_the_background_loop_is_replaced_when_it_was_closed():
    old = background.loop()
    assert background.loop() is old
    old.call_soon_threadsafe(old.stop)
    for thread in threading.enumerate():
        if thread.name == "neuro_mw-sync":
            thread.join(10)
    old.close()
    assert wrap(ScriptedModel("fine"), passing()).generate_sync("x").text == "fine"
    assert background.loop() is not old


@pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="no fork here")
def test_sync_calls_work_in_a_forked_child():
    program = (
        "import os, neuro_mw\n"
        "model = neuro_mw.MiddlewareFactory(plugins=False).apply_middleware('echo/echo')\n"
        "assert model.generate_sync('a').text == 'a'\n"
        "child = os.fork()\n"
        "if child == 0:\n    os._exit(0 if model.generate_sync('b').text == 'b' else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert model.generate_sync('c').text == 'c'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_process_ends_though_a_stream_is_open():
    program = (
        "import neuro_mw\n"
        "model = neuro_mw.MiddlewareFactory(plugins=False).apply_middleware('echo/echo')\n"
        "stream = model.stream_sync('a b c')\nprint(next(stream.text()))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "a\n"), done.stderr


# --- views -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_with_context(mode):
    seen = []
    tap = middleware(
        "tap", on_end=lambda outcome, context: seen.append((context.session.user_id, dict(context.options)))
    )
    model = wrap(ScriptedModel(), tap)
    mine = model.with_context(session={"user_id": "u1"}, options={"a": 1})
    both = mine.with_context(options={"b": 2})
    other = both.with_context(session=Session(user_id="u2"), options={"a": 3})
    nobody = other.with_context(session={})
    for one in (model, mine, both, other, nobody):
        run(call(one, mode))
        assert one.chain == ("tap",)
    assert seen == [
        (None, {}),
        ("u1", {"a": 1}),
        ("u1", {"a": 1, "b": 2}),
        ("u2", {"a": 3, "b": 2}),
        (None, {"a": 3, "b": 2}),
    ]


@pytest.mark.parametrize("mode", MODES)
def test_the_session_of_the_context_given(mode):
    seen = []
    tap = middleware("tap", on_end=lambda outcome, context: seen.append((context.session.user_id, context.options)))
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[tap])
    context = factory.create_context("openai", "gpt-4o", {"a": 1}, session={"user_id": "u"})
    model = factory.apply_middleware(ScriptedModel(), context)
    run(call(model, mode))
    run(call(model.with_context(options={"b": 2}), mode))
    assert seen == [("u", {"a": 1}), ("u", {"a": 1, "b": 2})]


def test_a_view_keeps_on_block_and_decides_conditions_anew():
    def refuse(params, context):
        raise Blocked("no")

    factory = MiddlewareFactory(preset=None, plugins=False, on_block="raise",
        middleware=[middleware("guard", kind="guard", transform_params=refuse)],
                                middleware_config={"guard": {"conditions": {"options": {"tier": "free"}}}})  # fmt: skip
    model = factory.apply_middleware(ScriptedModel())
    assert model.chain == ()
    assert run(model.generate("x")).text == "hello"
    free = model.with_context(options={"tier": "free"})
    assert free.chain == ("guard",)
    with pytest.raises(RequestBlocked):
        run(free.generate("x"))
    assert free.with_context(options={"tier": "paid"}).chain == ()


@pytest.mark.parametrize(
    "wrong", [{"session": "u1"}, {"session": 5}, {"options": "a"}, {"options": 5}, {"options": [1]}], ids=repr
)
def test_a_wrong_view_is_named(wrong):
    with pytest.raises(NeuroError, match=next(iter(wrong))):
        wrap(ScriptedModel(), passing()).with_context(**wrong)


def test_options_may_hold_anything():
    model = wrap(ScriptedModel(), passing())
    recursive = []
    recursive.append(1)
    for value in (
        {"a": {1, 2}},
        [1, [2]],
        object(),
        bytearray(b"x"),
        {"a": {"b": [{}]}},
        MappingProxyType({"a": 1}),
        recursive,
        print,
    ):
        view = model.with_context(options={"value": value})
        assert run(view.generate("x")).text == "hello"


# --- loops, threads, wrapped twice -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_several_loops_on_one_model(mode):
    model = wrap(ScriptedModel("abc", delay_s=0), passing(), middleware("end", on_end=lambda outcome, context: None))
    assert [run(call(model, mode)).text for _ in range(3)] == ["abc"] * 3


@pytest.mark.parametrize("mode", MODES)
def test_several_threads_on_one_model(mode):
    model = wrap(ScriptedModel("abc", delay_s=0), passing())

    async def some():
        return {answer.text for answer in await asyncio.gather(*(call(model, mode) for _ in range(20)))}

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: asyncio.run(some()), range(8))) == [{"abc"}] * 8


def upper(id, suffix):
    def step(params, context):
        return lambda part: TextDelta(part.text.upper()) if isinstance(part, TextDelta) else part

    async def wrap_generate(do_generate, params, context):
        response = await do_generate({**params, suffix: True})
        response.metadata[id] = 1
        return response

    return middleware(id, transform_parts=step, wrap_generate=wrap_generate)


@pytest.mark.parametrize("mode", MODES)
def test_wrapped_twice(mode):
    """Rule 12."""
    scripted = ScriptedModel(Response(text="abc", usage=Usage(3, 2), id="r", model="m"))
    inner = wrap(scripted, upper("inner", "seed"))
    assert isinstance(inner, LanguageModel)
    outer = wrap(inner, upper("outer", "top_k"))
    answer = run(call(outer, mode))
    assert (outer.provider, outer.model_id, outer.chain) == ("openai", "gpt-4o", ("outer",))
    assert (answer.text, answer.usage, answer.id, answer.model) == ("ABC", Usage(3, 2), "r", "m")
    assert answer.metadata == {"inner": 1, "outer": 1}
    assert (scripted.calls[0][1]["seed"], scripted.calls[0][1]["top_k"]) == (True, True)
    assert answer.receipt.layers["outer"]["status"] == "completed"
    assert "inner" not in answer.receipt.layers


@pytest.mark.parametrize("mode", MODES)
def test_a_block_of_the_inner_model_is_one_of_the_outer(mode):
    def refuse(params, context):
        raise Blocked("no")

    inner = wrap(ScriptedModel(), middleware("guard", transform_params=refuse))
    answer = run(call(wrap(inner, passing()), mode))
    assert answer.blocked.middleware == "guard"
    assert answer.receipt.layers["pass"]["status"] == "blocked"
    with pytest.raises(RequestBlocked):
        run(call(wrap(inner, passing(), on_block="raise"), mode))


def test_wrapped_twice_closes_both():
    scripted = ScriptedModel("abcdef", cuts=(1,))
    outer = wrap(wrap(scripted, passing()), passing())

    async def leave():
        async with outer.stream("x") as stream:
            async for _ in stream:
                break
        assert scripted.closed == 1

    run(leave())


# --- the rest --------------------------------------------------------------------------------------------------------


def test_repr_stats_and_explain():
    model = wrap(ScriptedModel(), passing())
    assert repr(model) == "WrappedModel(openai/gpt-4o, chain=['pass'])"
    run(model.generate("x"))
    assert model.stats().results["pass"].applied is True
    assert model.explain()["pass"].applied is True
    assert model.explain().applied == model.chain


@pytest.mark.parametrize("mode", MODES)
def test_answers_are_the_callers_own(mode):
    shared = Response(text="abc", metadata={"a": 1})
    model = wrap(ScriptedModel(shared), passing())
    one, two = (run(call(model, mode)) for _ in range(2))
    one.metadata["a"] = one.text = 5
    assert (two.metadata["a"], two.text) == (1, "abc")
    assert shared.metadata == {"a": 1}


@pytest.mark.parametrize("mode", MODES)
def test_answers_can_be_copied_and_pickled(mode):
    answer = run(call(wrap(ScriptedModel(), passing()), mode))
    assert pickle.loads(pickle.dumps(answer)) == copy.deepcopy(answer) == answer


@pytest.mark.parametrize("how", ["generate", "stream"])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_sync_call_raises_what_ends_a_process_and_the_next_one_works(how, error):
    """It is for who called, not for the loop of all sync calls."""

    def ends(params, context):
        if params["messages"][0]["content"] == "end":
            raise error
        return params

    model = MiddlewareFactory(preset=None, plugins=False, middleware=[middleware("ends", transform_params=ends)])
    model = model.apply_middleware(ScriptedModel("hello"))
    for _ in range(2):
        with pytest.raises(type(error)):
            model.generate_sync("end") if how == "generate" else list(model.stream_sync("end"))
        assert model.generate_sync("go on").text == "hello"


def test_a_task_that_somebody_left_behind_ends_nothing():
    async def leave():
        raise SystemExit(3)

    def leaves(params, context):
        task = asyncio.get_running_loop().create_task(leave())
        task.add_done_callback(lambda task: task.exception())
        return params

    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[middleware("leaves", transform_params=leaves)])
    model = factory.apply_middleware(ScriptedModel("hello", delay_s=0.01))
    assert [model.generate_sync("x").text for _ in range(3)] == ["hello"] * 3


def test_nobody_waits_for_a_loop_that_was_closed():
    closed = asyncio.new_event_loop()
    closed.close()
    background._serve(closed)
    assert closed.is_closed()
