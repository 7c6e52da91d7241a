"""tool_guard with approve: who is asked for what, and what becomes of answers, failures, delays and cancellations."""

import asyncio
import gc
import sys
import time
from contextlib import suppress
from functools import partial

import pytest

from neuro_mw import (
    Blocked,
    ConfigError,
    Finish,
    MiddlewareError,
    MiddlewareFactory,
    ProviderDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    collect,
)
from neuro_mw.builtin import tool_guard
from neuro_mw.builtin.cache import Cache
from neuro_mw.builtin.tool_guard import ToolGuard
from neuro_mw.builtin.tools import approval
from neuro_mw.testing import ScriptedModel
from tests.builtin.tool_calls import PARIS, TOOLS, Parts, calling, read
from tests.chain.conftest import MODES, call, run, wrap

both = pytest.mark.parametrize("mode", MODES)
everywhere = pytest.mark.parametrize("on_violation", ["block", "drop", "reask"])


async def yes(call, context):
    return True


def asked(response, mode, approve, **options):
    return run(call(wrap(ScriptedModel(response), ToolGuard(approve=approve, **options)), mode, tools=TOOLS))


@both
@everywhere
def test_it_is_asked_for_each_call_in_order(mode, on_violation):
    seen = []

    async def approve(call, context):
        seen.append((call, context.request_id, context.mode))
        call.arguments = "changed"  # what was judged leaves
        return True

    answer = calling("weather", ("file_read", "{}"), text="so")
    found = asked(answer, mode, approve, on_violation=on_violation)
    assert (found.tool_calls, found.text, found.finish_reason) == (answer.tool_calls, "so", "tool_calls")
    assert [one[0].id for one in seen] == ["c0", "c1"]
    assert {one[1] for one in seen} == {seen[0][1]}
    assert seen[0][1].startswith("openai-")
    assert {one[2] for one in seen} == {mode}


@both
@pytest.mark.parametrize("said", [False, "", "not on a Sunday: Paris"])
def test_what_is_not_approved(mode, said):
    async def approve(call, context):
        return said if call.name == "weather" else True

    answer = calling(("file_read", "{}"), "weather", ("file_delete", "{}"))
    guard = ToolGuard(approve=approve)
    found = run(call(wrap(ScriptedModel(answer), guard), mode, tools=TOOLS))
    assert found.blocked.detail["violations"] == [{"tool": "weather", "rule": "not_approved"}]
    assert "Paris" not in str(found.to_dict())
    assert guard.tally.counts() == {"judged": 3, "not_approved": 1}

    found = asked(answer, mode, approve, on_violation="drop")
    assert [one.name for one in found.tool_calls] == ["file_read", "file_delete"]
    assert found.metadata["tool_guard"] == {
        "judged": 3, "dropped": 1, "violations": [{"tool": "weather", "rule": "not_approved"}], "reasks": 0,
    }  # fmt: skip


@both
@everywhere
def test_nobody_is_asked_for_what_is_refused_anyway(mode, on_violation):
    seen = []

    async def approve(call, context):
        seen.append(call.name)
        return call.name != "file_delete"

    asked(calling("weather", "x"), mode, approve, on_violation=on_violation)
    assert seen == (["weather"] if on_violation == "drop" else [])
    seen.clear()
    asked(calling(("file_delete", "{}"), "weather"), mode, approve, on_violation=on_violation)
    assert (
        seen
        == {"block": ["file_delete"], "drop": ["file_delete", "weather"], "reask": ["file_delete"] * 2}[on_violation]
    )


@both
@everywhere
@pytest.mark.parametrize("said", [None, 1, 0, {"approved": True}, ToolCall("", "", "")])
def test_an_answer_that_is_nonsense_fails(mode, on_violation, said):
    async def approve(call, context):
        return said

    with pytest.raises(MiddlewareError, match=f"approve returned {type(said).__name__}") as caught:
        asked(calling("weather"), mode, approve, on_violation=on_violation)
    assert caught.value.middleware == "tool_guard"


@both
@everywhere
@pytest.mark.parametrize("error", [RuntimeError("x"), TimeoutError("its own"), MemoryError()])
def test_an_error_is_a_failure_of_the_guard_and_nothing_leaves(mode, on_violation, error):
    async def approve(call, context):
        raise error

    seen = []

    async def main():
        model = wrap(
            ScriptedModel(calling("weather", text="hello")), ToolGuard(approve=approve, on_violation=on_violation)
        )
        if mode == "generate":
            await model.generate("hi", tools=TOOLS)
        async with model.stream("hi", tools=TOOLS) as stream:
            async for part in stream:
                seen.append(part)

    with pytest.raises(type(error)) as caught:
        run(main())
    assert caught.value is error
    assert any("middleware 'tool_guard' failed" in note for note in error.__notes__)
    assert not any(isinstance(one, ToolCallDelta) for one in seen)
    del error.__notes__[:]


@both
@everywhere
def test_it_may_refuse_in_words_of_its_own(mode, on_violation):
    async def approve(call, context):
        raise Blocked("not today", category="hours")

    found = asked(calling("weather"), mode, approve, on_violation=on_violation)
    assert (found.blocked.reason, found.blocked.category, found.tool_calls) == ("not today", "hours", [])


@both
@everywhere
def test_who_does_not_decide_in_time_does_not_approve(mode, on_violation):
    cancelled = []

    async def approve(call, context):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(call.id)

    guard = ToolGuard(approve=approve, approve_timeout_s=0.001, on_violation=on_violation)
    found = run(call(wrap(ScriptedModel(calling("weather")), guard), mode, tools=TOOLS))
    assert found.tool_calls == []
    told = found.blocked.detail if found.blocked else found.metadata["tool_guard"]
    assert told["violations"][0] == {"tool": "weather", "rule": "not_approved"}
    times = 2 if on_violation == "reask" else 1
    assert cancelled == ["c0"] * times
    assert guard.tally.counts()["approve_timeouts"] == times


@both
@everywhere
def test_a_cancellation_reaches_who_is_asked(mode, on_violation):
    async def main():
        waiting, cancelled = asyncio.Event(), []

        async def approve(call, context):
            waiting.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(call.id)
                raise

        model = ScriptedModel(calling("weather"))
        task = asyncio.create_task(
            call(wrap(model, ToolGuard(approve=approve, on_violation=on_violation)), mode, tools=TOOLS)
        )
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return cancelled, model.opened == model.closed

    assert run(main()) == (["c0"], True)


@both
@everywhere
def test_a_cancellation_from_within_is_no_cancellation_of_the_call(mode, on_violation):
    async def approve(call, context):
        raise asyncio.CancelledError

    with pytest.raises(MiddlewareError, match="approve was cancelled from within"):
        asked(calling("weather"), mode, approve, on_violation=on_violation)


@both
def test_calls_at_once_are_asked_for_at_once(mode):
    async def main():
        inside, all_inside = [], asyncio.Event()

        async def approve(call, context):
            inside.append(context.request_id)
            if len(inside) == 20:
                all_inside.set()
            await all_inside.wait()
            return True

        model = wrap(ScriptedModel(calling("weather")), ToolGuard(approve=approve))
        found = await asyncio.gather(*(call(model, mode, tools=TOOLS) for _ in range(20)))
        return {one.tool_calls[0].arguments for one in found}, len(set(inside))

    assert run(main()) == ({PARIS}, 20)


def test_who_leaves_a_stream_before_finish_asks_nobody():
    seen = []

    async def approve(call, context):
        seen.append(call)
        return True

    model = ScriptedModel(calling("weather", text="hello there"))

    async def main():
        async with wrap(model, ToolGuard(approve=approve)).stream("hi", tools=TOOLS) as stream:
            async for _ in stream:
                break

    run(main())
    assert (seen, model.opened, model.closed) == ([], 1, 1)


def test_text_does_not_wait_for_an_approval():
    async def main():
        gate, seen = asyncio.Event(), []

        async def approve(call, context):
            await gate.wait()
            return True

        async with wrap(ScriptedModel(calling("weather", text="hello")), ToolGuard(approve=approve)).stream(
            "hi", tools=TOOLS
        ) as stream:
            async for part in stream:
                seen.append(part.type)
                if seen == ["text_delta"] * 2:
                    gate.set()
        return seen

    assert run(main()) == ["text_delta", "text_delta", "tool_call_delta", "finish"]


@both
def test_an_answer_without_calls_asks_nobody(mode):
    async def approve(call, context):
        raise AssertionError

    answer = calling(text="hello", provider_fields={"tool_call_fields": {"a": {"t": 1}}})
    assert asked(answer, mode, approve) == answer  # also with a reason that does not fit


class Approver:
    async def __call__(self, call, context):
        return call.name == "weather"

    async def method(self, call, context):
        return call.name == "weather"


async def of_three(name, call, context):
    return call.name == name


@both
@pytest.mark.parametrize(
    "approve",
    [Approver(), Approver().method, partial(of_three, "weather"), f"{__name__}:of_weather", f"{__name__}.of_weather"],
)
def test_what_it_may_be(mode, approve):
    found = asked(calling("weather", ("file_read", "{}")), mode, approve, on_violation="drop")
    assert [one.name for one in found.tool_calls] == ["weather"]


of_weather = partial(of_three, "weather")


@both
def test_named_in_a_file(mode):
    factory = MiddlewareFactory(preset=None, plugins=False)
    factory.register(ToolGuard, replace=True)
    config = {"tool_guard": {"config": {"approve": f"{__name__}:of_weather", "on_violation": "drop"}}}
    model = factory.apply_middleware(ScriptedModel(calling("weather", ("file_read", "{}"))), middleware_config=config)
    assert [one.name for one in run(call(model, mode, tools=TOOLS)).tool_calls] == ["weather"]
    with pytest.raises(ConfigError, match="approve: 'no:no' cannot be loaded: ModuleNotFoundError: No module named"):
        factory.apply_middleware(ScriptedModel(), middleware_config={"tool_guard": {"config": {"approve": "no:no"}}})


@both
def test_the_limit_of_the_layer_holds_for_who_is_asked(mode):
    async def approve(call, context):
        await asyncio.Event().wait()

    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[ToolGuard(approve=approve)],
                                middleware_config={"tool_guard": {"timeout_s": 0.01}})  # fmt: skip
    with pytest.raises(tool_guard.MiddlewareError, match="tool_guard"):
        run(call(factory.apply_middleware(ScriptedModel(calling("weather"))), mode, tools=TOOLS))


@both
def test_passed_over_it_loses_nothing(mode):
    """With "skip" a failure lets all pass; text behind a call has not left before it."""

    async def approve(call, context):
        raise RuntimeError

    parts = [TextDelta("a"), ToolCallDelta(0, "c0", "weather", PARIS), TextDelta("b"),
             ProviderDelta({"tool_call_fields": {"c0": {"t": 1}}}), Finish("tool_calls")]  # fmt: skip
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=[ToolGuard(approve=approve)],
                                middleware_config={"tool_guard": {"on_error": "skip"}})  # fmt: skip
    found = run(call(factory.apply_middleware(Parts(parts)), mode, tools=TOOLS))
    assert found == run(collect(parts))


def test_parts_are_those_of_the_guard_that_asks_nobody():
    answer = calling("weather", ("x", "{}"), text="hello")
    plain = run(read(wrap(ScriptedModel(answer), ToolGuard(on_violation="drop")), "stream", tools=TOOLS))
    assert (
        run(read(wrap(ScriptedModel(answer), ToolGuard(on_violation="drop", approve=yes)), "stream", tools=TOOLS))
        == plain
    )


@both
@everywhere
def test_what_is_said_after_the_limit_does_not_count(mode, on_violation):
    """Whether it blocks, or makes nothing of being cancelled: True comes too late, and so does an error."""

    async def main(approve):
        guard = ToolGuard(approve=approve, approve_timeout_s=0.01, on_violation=on_violation)
        found = await call(wrap(ScriptedModel(calling("weather")), guard), mode, tools=TOOLS)
        told = found.blocked.detail if found.blocked else found.metadata["tool_guard"]
        assert (found.tool_calls, told["violations"][0]["rule"]) == ([], "not_approved")
        assert guard.tally.counts()["approve_timeouts"] == (2 if on_violation == "reask" else 1)

    async def blocking(call, context):
        time.sleep(0.03)  # noqa: ASYNC251  # as the code of a user may
        return True

    async def swallowing(call, context):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return True

    async def failing(call, context):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError from None

    for approve in (blocking, swallowing, failing):
        run(main(approve))


@both
@everywhere
def test_who_does_not_stop_is_not_waited_for(mode, on_violation):
    async def main():
        end, over, unobserved = asyncio.Event(), [], []
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: unobserved.append(what))

        async def approve(call, context):
            while not end.is_set():
                with suppress(asyncio.CancelledError):
                    await end.wait()
            over.append(call.id)
            raise RuntimeError

        guard = ToolGuard(approve=approve, approve_timeout_s=0.01, on_violation=on_violation)
        model = wrap(ScriptedModel(calling("weather")), guard)
        found = await asyncio.wait_for(call(model, mode, tools=TOOLS), 5)
        assert (found.tool_calls, over) == ([], [])
        task = asyncio.create_task(call(model, mode, tools=TOOLS))
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        end.set()
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
        await asyncio.sleep(0)
        gc.collect()
        return over, unobserved, approval._left

    over, unobserved, left = run(main())
    assert (set(over), unobserved, left) == ({"c0"}, [], set())


@both
@everywhere
def test_an_exit_is_for_the_caller(mode, on_violation):
    async def approve(call, context):
        raise SystemExit(3)

    async def main():
        with pytest.raises(SystemExit):
            await call(
                wrap(ScriptedModel(calling("weather")), ToolGuard(approve=approve, on_violation=on_violation)),
                mode, tools=TOOLS,
            )  # fmt: skip
        return True

    assert run(main())


@pytest.mark.parametrize(
    ("source", "said"),
    [("raise SystemExit(4)", "SystemExit: 4"), ("raise KeyError('x')", "KeyError: 'x'"), ("", "no attribute 'ask'")],
)
def test_a_module_that_cannot_be_imported(tmp_path, monkeypatch, source, said):
    (tmp_path / "approving.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "approving", raising=False)
    with pytest.raises(ConfigError, match="approving:ask' cannot be loaded") as caught:
        ToolGuard(approve="approving:ask")
    assert (said in str(caught.value), caught.value.key) == (True, "middleware.tool_guard.config.approve")
    with pytest.raises(ConfigError, match="names nothing"):
        ToolGuard(approve="approving")


@both
def test_an_approval_is_for_one_call(mode):
    """A cache outside neither keeps nor shares what was approved."""
    seen = []

    async def approve(call, context):
        seen.append(context.session.user_id)
        return context.session.user_id == "u1"

    def ask_for(user, model):
        return run(call(model.with_context(session={"user_id": user}), mode, tools=TOOLS))

    guard = ToolGuard(approve=approve)
    assert (guard.shareable, ToolGuard().shareable) == (False, True)
    model = wrap(ScriptedModel(calling("weather")), Cache(), guard)
    assert len(ask_for("u1", model).tool_calls) == 1
    assert ask_for("u2", model).tool_calls == []
    assert len(ask_for("u1", model).tool_calls) == 1
    assert seen == ["u1", "u2", "u1"]
    model = wrap(inner := ScriptedModel(calling("weather")), Cache(), ToolGuard())
    ask_for("u1", model)
    ask_for("u2", model)
    assert len(inner.calls) == 1
