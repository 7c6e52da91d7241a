"""The compiled chain is the naive onion, in both modes, for every cut."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    Blocked,
    Collector,
    Finish,
    Middleware,
    MiddlewareFactory,
    MiddlewareMetadata,
    ReasoningDelta,
    Response,
    TextDelta,
    ToolCall,
    Usage,
)
from neuro_mw.testing import ScriptedModel


class Sample(Middleware):
    """A middleware with a reference: what it does to a call, in one plain function."""

    hooks = ""

    def __init__(self, id: str, priority: int, log: list[str], on_error: str | None = None) -> None:
        self.metadata = MiddlewareMetadata(id=id, priority=priority, on_error=on_error)  # type: ignore[misc]
        self.id, self.log = id, log

    async def ref(self, inner: Any, params: dict[str, Any]) -> Response:
        raise AssertionError


class Transform(Sample):
    def transform_params(self, params, context):
        self.log.append(f"T{self.id}")
        params["tags"] = [*params.get("tags", ()), self.id]
        params["messages"][0]["seen"] = self.id  # its own copy: this may be done in place
        return params

    async def ref(self, inner, params):
        self.log.append(f"T{self.id}")
        messages = [{**params["messages"][0], "seen": self.id}]
        return await inner({**params, "tags": [*params.get("tags", ()), self.id], "messages": messages})


class WrapGenerate(Sample):
    async def wrap_generate(self, do_generate, params, context):
        self.log.append(f">{self.id}")
        response = await do_generate(params)
        self.log.append(f"<{self.id}")
        response.text += f"[{self.id}]"
        return response

    async def ref(self, inner, params):
        self.log.append(f">{self.id}")
        response = await inner(params)
        self.log.append(f"<{self.id}")
        return replace(response, text=response.text + f"[{self.id}]")


class WrapStream(Sample):
    async def wrap_stream(self, do_stream, params, context):
        self.log.append(f">{self.id}")
        async for part in do_stream(params):
            if isinstance(part, Finish):
                yield TextDelta(f"[{self.id}]")
            yield part
        self.log.append(f"<{self.id}")

    ref = WrapGenerate.ref


class WrapBoth(WrapStream):
    wrap_generate = WrapGenerate.wrap_generate


class Upper(Sample):
    def transform_parts(self, params, context):
        return lambda part: TextDelta(part.text.upper()) if isinstance(part, TextDelta) else part

    async def ref(self, inner, params):
        response = await inner(params)
        return replace(response, text=response.text.upper())


class Hold(Sample):
    """Holds all text and lets it go, in brackets, at the end; drops the reasoning."""

    def transform_parts(self, params, context):
        held: list[str] = []

        class Step:
            def feed(self, part):
                if isinstance(part, TextDelta):
                    held.append(part.text)
                    return None
                return None if isinstance(part, ReasoningDelta) else part

            def finish(self):
                return [TextDelta("<"), TextDelta("".join(held)), TextDelta(">")]

            def abort(self):
                held.clear()

        return Step()

    async def ref(self, inner, params):
        response = await inner(params)
        return replace(response, text=f"<{response.text}>", reasoning="")


class Twice(Sample):
    async def wrap_generate(self, do_generate, params, context):
        await do_generate({**params, "try": 1})
        return await do_generate({**params, "try": 2})

    async def wrap_stream(self, do_stream, params, context):
        async for _ in do_stream({**params, "try": 1}):
            pass
        async for part in do_stream({**params, "try": 2}):
            yield part

    async def ref(self, inner, params):
        await inner({**params, "try": 1})
        return await inner({**params, "try": 2})


class Short(Sample):
    async def wrap_generate(self, do_generate, params, context):
        return Response(text=f"short {self.id}", usage=Usage(1, 1))

    async def ref(self, inner, params):
        return Response(text=f"short {self.id}", usage=Usage(1, 1))


class Skipped(Sample):
    """Everything fails, and is passed over."""

    def __init__(self, id: str, priority: int, log: list[str]) -> None:
        super().__init__(id, priority, log, on_error="skip")

    def transform_params(self, params, context):
        params["messages"].clear()
        raise RuntimeError("transform")

    async def wrap_generate(self, do_generate, params, context):
        response = await do_generate(params)
        response.text = "spoilt"
        raise RuntimeError("wrap")

    async def wrap_stream(self, do_stream, params, context):
        count = 0
        async for part in do_stream(params):
            count += 1
            if count == 3:
                raise RuntimeError("mid")
            yield part

    def transform_parts(self, params, context):
        def step(part):
            raise RuntimeError("step")

        return step

    def on_end(self, outcome, context):
        raise RuntimeError("end")

    async def ref(self, inner, params):
        return await inner(params)


class Guard(Sample):
    """Refuses the request if it carries its own id as a word."""

    def transform_params(self, params, context):
        if self.id in params.get("refuse", ()):
            raise Blocked("no", category="test", message=f"refused by {self.id}")
        return params

    async def ref(self, inner, params):
        if self.id in params.get("refuse", ()):
            return Response(text=f"refused by {self.id}", finish_reason="content_filter")
        return await inner(params)


KINDS = [Transform, WrapGenerate, WrapStream, WrapBoth, Upper, Hold, Twice, Short, Skipped, Guard]

responses = st.builds(
    Response,
    text=st.text("abc xyz", max_size=30),
    reasoning=st.text("mno", max_size=8),
    tool_calls=st.lists(
        st.builds(ToolCall, id=st.just("c1"), name=st.just("f"), arguments=st.just('{"a": 1}')), max_size=2
    ),
    usage=st.just(Usage(3, 2)),
    id=st.none() | st.just("r1"),
    provider_fields=st.just({}) | st.just({"fp": "x", "list": [1]}),
)


def onion(samples: list[Sample], model: ScriptedModel) -> Any:
    async def innermost(params):
        model.calls.append(("ref", params))
        return replace(model.response, metadata={})

    call: Any = innermost
    for sample in sorted(samples, key=lambda one: one.metadata.priority):  # stable: reversed ties are handled below
        call = lambda params, sample=sample, inner=call: sample.ref(inner, params)  # noqa: E731
    return call


@given(
    kinds=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), max_size=7),
    response=responses,
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    refuse=st.lists(st.sampled_from(["m0", "m1", "m2", "m3"]), max_size=1),
)
def test_chain_is_the_naive_onion(kinds, response, cuts, refuse):
    async def check() -> None:
        logs: dict[str, list[str]] = {}
        results: dict[str, Response] = {}
        sent: dict[str, list[Any]] = {}
        given = {"messages": [{"role": "user", "content": "hi"}], "refuse": refuse}
        for way in ("ref", "generate", "stream"):
            log: list[str] = []
            samples = [kind(f"m{index}", priority, log) for index, (kind, priority) in enumerate(kinds)]
            model = ScriptedModel(response, cuts=cuts)
            if way == "ref":
                # ties: the earlier registered is outer, so the inner ones come later in a reversed list
                results[way] = await onion(samples[::-1], model)(given)
            else:
                wrapped = MiddlewareFactory(preset=None, plugins=False, middleware=samples).apply_middleware(model)
                if not samples:
                    assert wrapped is model
                    return
                results[way] = await (
                    wrapped.generate(given) if way == "generate" else wrapped.stream(given).response()
                )
                assert model.opened == model.closed
            logs[way], sent[way] = log, [params for _, params in model.calls]
        for way in ("generate", "stream"):
            ours, reference = results[way], results["ref"]
            assert (ours.text, ours.reasoning, ours.tool_calls, ours.finish_reason) == (
                reference.text, reference.reasoning, reference.tool_calls, reference.finish_reason)  # fmt: skip
            if ours.blocked is None:
                assert (ours.id, ours.usage, ours.provider_fields) == (
                    reference.id, reference.usage, reference.provider_fields)  # fmt: skip
            assert logs[way] == logs["ref"]
            assert sent[way] == sent["ref"]
        assert results["generate"] == results["stream"]
        assert given == {"messages": [{"role": "user", "content": "hi"}], "refuse": refuse}

    asyncio.run(check())


@given(response=responses, cuts=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_parts_and_responses_are_inverse(response, cuts):
    from neuro_mw import parts_of
    from neuro_mw.testing import cut

    for parts in (parts_of(response), cut(parts_of(response), cuts)):
        collector = Collector()
        for part in parts:
            collector.add(part)
        assert collector.response() == response
