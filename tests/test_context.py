"""What a hook knows of its call: ids, sessions, private state, and what is shared over retries."""

import asyncio
import os
import subprocess
import sys
from types import MappingProxyType

import pytest

from neuro_mw import MiddlewareContext, MiddlewareFactory, NeuroError, Session, middleware
from neuro_mw.testing import ScriptedModel

from .chain.conftest import MODES, call, run, wrap


def seen_by_a_hook(mode, model=None, **params):
    """The context that a hook gets, and the one that `on_end` gets."""
    contexts = []

    def transform(params, context):
        contexts.append(context)
        return params

    tap = middleware("tap", transform_params=transform, on_end=lambda outcome, context: contexts.append(context))
    run(call(wrap(model or ScriptedModel(), tap), mode, **params))
    return contexts


@pytest.mark.parametrize("mode", MODES)
def test_what_a_hook_sees(mode):
    one, two = seen_by_a_hook(mode)
    assert one is two
    assert (one.provider, one.model, one.mode, one.options) == ("openai", "gpt-4o", mode, {})
    assert one.session == Session()
    assert one.metadata.timestamp > 1.6e9
    assert one.request_id == one.metadata.request_id
    assert one.request_id.startswith("openai-")
    assert one.metadata is one.metadata
    assert [(attempt.provider, attempt.model, attempt.committed) for attempt in one.attempts] == [
        ("openai", "gpt-4o", True)
    ]


@pytest.mark.parametrize("mode", MODES)
def test_sent_is_what_reached_the_provider(mode):
    seen = []
    inner = middleware("inner", transform_params=lambda params, context: {**params, "seed": 7})
    outer = middleware("outer", priority=1, transform_params=lambda params,
        context: (seen.append(context.sent), params)[1],
                       on_end=lambda outcome, context: seen.append(context.sent))  # fmt: skip
    run(call(wrap(ScriptedModel(), outer, inner), mode))
    before, after = seen
    assert before is None
    assert after["seed"] == 7
    assert after["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_was_sent_on_a_short_cut(mode):
    from neuro_mw import Response

    seen = []

    async def answer(do_generate, params, context):
        return Response(text="cached")

    cut = middleware("cut", wrap_generate=answer, on_end=lambda outcome, context: seen.append(context))
    run(call(wrap(ScriptedModel(), cut), mode))
    assert seen[0].sent is None
    assert seen[0].attempts == []


def test_request_ids_are_unique_also_over_chains_threads_and_loops():
    from concurrent.futures import ThreadPoolExecutor

    def many(_):
        return [MiddlewareContext("openai", "m").for_call("generate").request_id for _ in range(500)]

    with ThreadPoolExecutor(8) as pool:
        ids = [id for chunk in pool.map(many, range(8)) for id in chunk]
    assert len(set(ids)) == len(ids) == 4000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_gives_no_id_of_its_parent():
    program = (
        "import os, neuro_mw\n"
        "def ids(): return [neuro_mw.MiddlewareContext('p', 'm').request_id for _ in range(3)]\n"
        "read, write = os.pipe()\n"
        "if os.fork() == 0:\n    os.write(write, ' '.join(ids()).encode()); os._exit(0)\n"
        "os.wait(); os.close(write)\n"
        "child = os.read(read, 4096).decode().split()\n"
        "assert len(child) == 3 and not set(child) & set(ids()), child\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_call_has_its_own():
    contexts = []
    tap = middleware("tap", on_end=lambda outcome, context: contexts.append(context))
    model = wrap(ScriptedModel(), tap)
    for mode in MODES:
        run(call(model, mode))
    one, two = contexts
    assert one.request_id != two.request_id
    assert one.shared is not two.shared
    assert one.attempts is not two.attempts


@pytest.mark.parametrize("mode", MODES)
def test_state_is_private_to_middleware_and_call(mode):
    states = []

    def hooks(id, priority):
        def transform(params, context):
            assert context.state(made) == {}
            context.state(made)["id"] = id
            return params

        def on_end(outcome, context):
            states.append(dict(context.state(made)))

        made = middleware(id, priority=priority, transform_params=transform, on_end=on_end)
        return made

    model = wrap(ScriptedModel(), hooks("a", 2), hooks("b", 1))
    for _ in range(2):
        run(call(model, mode))
    assert states == [{"id": "b"}, {"id": "a"}] * 2


@pytest.mark.parametrize("mode", MODES)
def test_a_second_inward_call_is_a_fork(mode):
    contexts, outer_context = [], []

    async def twice(do_generate, params, context):
        context.shared["signal"] = 1
        context.state(outer)["mine"] = 1
        outer_context.append(context)
        await do_generate(params)
        return await do_generate(params)

    def remember(params, context):
        assert context.state(inner) == {}
        context.state(inner)["seen"] = 1
        contexts.append(context)
        return params

    outer = middleware("outer", priority=1, wrap_generate=twice)
    inner = middleware("inner", transform_params=remember)
    run(call(wrap(ScriptedModel(), outer, inner), mode))
    first, second = contexts
    assert first is not second
    assert first.shared is second.shared is outer_context[0].shared
    assert first.shared == {"signal": 1}
    assert first.request_id == second.request_id
    assert first.attempts is second.attempts
    assert len(first.attempts) == 2
    assert second.state(outer) == {}


def test_a_fork_for_another_model():
    context = MiddlewareContext("openai", "gpt-4o", {"a": 1}, {"user_id": "u"})
    context.state(context)["x"] = 1
    fork = context.fork("groq", "llama")
    assert (fork.provider, fork.model, fork.options, fork.session) == ("groq", "llama", {"a": 1}, context.session)
    assert fork.state(context) == {}
    assert fork.request_id == context.request_id
    assert context.fork().provider == "openai"
    assert context.fork(model="x").model == "x"


def test_concurrent_calls_share_no_state():
    async def check(do_generate, params, context):
        context.state(made)["seed"] = context.shared["seed"] = params["seed"]
        context.options["seed"] = params["seed"]
        await asyncio.sleep(0)
        response = await do_generate(params)
        await asyncio.sleep(0)
        assert context.state(made) == context.shared == {"seed": params["seed"]}
        assert context.options == {"seed": params["seed"]}
        return response

    made = middleware("made", wrap_generate=check)
    model = wrap(ScriptedModel(delay_s=0), made)

    async def many():
        await asyncio.gather(*(call(model, MODES[seed % 2], seed=seed) for seed in range(60)))

    run(many())


# --- sessions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, Session()),
        ({}, Session()),
        ({"user_id": "u"}, Session(None, "u", {})),
        ({"session_id": "s", "user_id": "u", "extra": {"a": 1}, "tier": 2}, Session("s", "u", {"a": 1, "tier": 2})),
        ({"extra": None}, Session()),
        (MappingProxyType({"user_id": "u"}), Session(None, "u", {})),
    ],
)
def test_a_session_may_be_a_dict_everywhere(given, wanted):
    assert MiddlewareContext("p", "m", session=given).session == wanted
    factory = MiddlewareFactory(plugins=False)
    assert factory.create_context("p", "m", session=given).session == wanted
    seen = []
    made = middleware("made", on_end=lambda outcome, context: seen.append(context.session))
    run(wrap(ScriptedModel(), made).with_context(session=given).generate("x"))
    assert seen == [wanted]


def test_a_session_object_is_taken_as_it_is():
    session = Session(user_id="u")
    assert MiddlewareContext("p", "m", session=session).session is session


@pytest.mark.parametrize("session", ["u1", 5, ["u1"], {"extra": 5}], ids=repr)
def test_a_wrong_session_is_named(session):
    with pytest.raises(NeuroError, match="session"):
        MiddlewareContext("p", "m", session=session)


@pytest.mark.parametrize("options", ["a", 5, [1]], ids=repr)
def test_wrong_options_are_named(options):
    with pytest.raises(NeuroError, match="options"):
        MiddlewareContext("p", "m", options)


def test_options_are_a_copy():
    options = {"a": 1}
    context = MiddlewareContext("p", "m", options)
    options["a"] = 2
    assert context.options == {"a": 1}
    context.for_call("stream").options["a"] = 3
    assert context.options == {"a": 1}


def test_repr_holds_no_session():
    context = MiddlewareContext("p", "m", {"key": "sk-1"}, {"user_id": "u"}, mode="stream")
    assert repr(context) == "MiddlewareContext(provider='p', model='m', mode='stream')"
