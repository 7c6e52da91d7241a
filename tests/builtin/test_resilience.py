"""The great property: whatever fails wherever, one answer leaves, once, and everything adds up.

Chains of the middlewares that deal with failures, in any order and with any options, between guards and analytics. The
reference is the same chain written down naively: plain generators over a clock that is a number.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw import (
    AuthenticationFailed,
    BadRequest,
    CircuitOpen,
    Finish,
    Middleware,
    MiddlewareFactory,
    MiddlewareMetadata,
    ProviderDelta,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    Response,
    ResponseInfo,
    StreamInterrupted,
    TokenLimitExceeded,
    ToolCall,
    Usage,
    parts_of,
)
from neuro_mw.builtin import circuit_breaker, timeout
from neuro_mw.builtin.analytics import Analytics
from neuro_mw.builtin.circuit_breaker import CircuitBreaker
from neuro_mw.builtin.default_settings import DefaultSettings
from neuro_mw.builtin.fallback import Fallback
from neuro_mw.builtin.guardrails import Guardrails
from neuro_mw.builtin.retry import Retry
from neuro_mw.builtin.simulate_streaming import SimulateStreaming
from neuro_mw.builtin.timeout import Timeout
from neuro_mw.builtin.token_limit import TokenLimit
from neuro_mw.parts import Collector
from neuro_mw.testing import Fault, FaultyModel, cut
from tests.builtin.test_timeout import Ticking

MODES = ("generate", "stream")
NAMES = ("openai/one", "openai/two", "groq/one", "groq/x")
UNSAID = (ResponseInfo, ProviderDelta)
SECRET, FORBIDDEN = "secret", "boom"
MOST_CALLS = 16


# --- the world ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What one call of the user's meets: the faults of each model, as (kind, at, stall_s), and what they answer."""

    faults: dict[str, list[tuple[str, int, float] | None]]
    text: str = "well"
    reasoning: str = ""
    unsaid: bool = True
    tool: bool = False
    cuts: tuple[int, ...] = (3,)
    prompt: str = "hi"

    def response(self, name: str, number: int) -> Response:
        """The answer of a model to its n-th request: no other is like it."""
        at = NAMES.index(name)
        response = Response(text=f"{'ABCD'[at]}{number} {self.text}", usage=Usage(1 << (at * MOST_CALLS + number), 1))
        if self.reasoning:
            response.reasoning = f"{'ABCD'[at]}{number} {self.reasoning}"
        if self.unsaid:
            response.id, response.model, response.created = f"{name}#{number}", name, 1.0
            response.provider_fields = {"from": f"{name}#{number}"}
        if self.tool:
            response.tool_calls = [ToolCall(f"{name}#{number}", "f", '{"a": 1}')]
            response.finish_reason = "tool_calls"
        return response


ERRORS = {
    "unavailable": (ProviderUnavailable, {"retryable": True}),
    "rate_limited": (ProviderRateLimited, {"retryable": True, "retry_after": 3.0}),
    "much_later": (ProviderRateLimited, {"retryable": True, "retry_after": 99.0}),
    "slow": (ProviderTimeout, {"retryable": True}),
    "authentication": (AuthenticationFailed, {}),
    "bad_request": (BadRequest, {}),
    "other": (ProviderError, {}),
}


def fault_of(fault: tuple[str, int, float] | None) -> Fault | None:
    if fault is None:
        return None
    kind, at, stall_s = fault
    if kind in ERRORS:
        made, more = ERRORS[kind]
        return Fault(at, made(kind, provider="openai", model="one", **more), stall_s=stall_s)
    if kind == "bug":
        return Fault(at, KeyError("a bug of the model's"), stall_s=stall_s)
    return Fault(at, cut=True, stall_s=stall_s) if kind == "cut" else Fault(at, stall_s=stall_s or 1.0)


class Run:
    """One call of the user's: its models, what they were asked, and what came out."""

    def __init__(self, key: str, plan: Plan, chain: Chain) -> None:
        self.key, self.plan, self.options = key, plan, dict(chain)
        self.guards = self.options.keys() & GUARDS
        self.models = {
            name: FaultyModel(
                [plan.response(name, number) for number in range(MOST_CALLS)],
                faults=[fault_of(fault) for fault in plan.faults.get(name, ())],
                cuts=plan.cuts, delay_s=0, closing_s=0,
                provider=name.split("/")[0], model_id=name.split("/")[1],
            )
            for name in NAMES
        }  # fmt: skip
        self.asked: list[tuple[str, int]] = []  # the models' names, each with the number of its call
        self.got: list[Any] = []  # the parts that were let go
        self.response: Response | None = None
        self.error: BaseException | None = None
        self.took = 0.0
        self.cancelled = self.cancelling = 0  # how often by the caller, and what its task knows of then
        self.left = False  # the consumer went away
        self.told = False  # it was cancelled when the outermost observer had been told of the end already
        self.ends: dict[str, list[Any]] = {}  # what the observers were told
        self.entered: Counter[str] = Counter()

    def model(self, name: str) -> FaultyModel:
        """The model of this name, which is about to be asked."""
        model = self.models[name]
        self.asked.append((name, len(model.calls)))
        return model

    @property
    def calls(self) -> list[Any]:
        """What became of each call of a model."""
        return [self.models[name].calls[number] for name, number in self.asked]


class Door:
    """The object behind the chain: it leads each call to the models of its own run."""

    def __init__(self, runs: dict[str, Run], provider: str, model_id: str) -> None:
        self.runs, self.provider, self.model_id = runs, provider, model_id

    def _model(self, params: Any) -> FaultyModel:
        return self.runs[params["user"]].model(f"{self.provider}/{params.get('model', self.model_id)}")

    async def generate(self, params: Any) -> Response:
        return await self._model(params).generate(params)

    def stream(self, params: Any) -> Any:
        return self._model(params).stream(params)


class Watch(Middleware):
    """Tells each run of every passage, and sees to it that no model is asked after content was let go."""

    def __init__(self, runs: dict[str, Run], id: str, *, steps: bool) -> None:
        self.metadata = MiddlewareMetadata(id=id, kind="observer")  # type: ignore[misc]
        super().__init__()
        self.runs = runs
        if not steps:
            self.transform_parts = super().transform_parts  # type: ignore[method-assign]

    def transform_params(self, params: Any, context: Any) -> Any:
        run = context.state(self)["run"] = self.runs[params["user"]]
        run.entered[self.metadata.id] += 1
        return params

    def transform_parts(self, params: Any, context: Any) -> Any:
        state = context.state(self)

        def see(part: Any) -> Any:
            if not isinstance(part, UNSAID):
                state.setdefault("asked", len(state["run"].asked))
            return part

        return see

    async def on_end(self, outcome: Any, context: Any) -> None:
        state = context.state(self)
        run = state["run"]
        late = len(run.asked) - state.get("asked", len(run.asked))
        run.ends.setdefault(self.metadata.id, []).append((outcome.status, outcome.error, list(context.attempts), late))
        await asyncio.sleep(0)


class Loop(Ticking):
    """Threads run at once, in a moment; what nobody closed and what nobody heard of is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Any] = []
        self.set_exception_handler(lambda loop, told: self.faults.append(told))

    def run_in_executor(self, executor: Any, function: Any, *args: Any) -> Any:
        done = self.create_future()
        result = function(*args)  # it may raise here: none of ours does
        self.call_soon(lambda: done.cancelled() or done.set_result(result))
        return done

    def _asyncgen_finalizer_hook(self, generator: Any) -> None:
        self.faults.append(generator)
        super()._asyncgen_finalizer_hook(generator)  # type: ignore[misc]  # asyncio's own


# --- the chain ---------------------------------------------------------------------------------------------------


class Redacting(Guardrails):
    metadata = replace(Guardrails.metadata, id="redacting")

    async def startup(self) -> None:
        """Nothing is warmed up: there are as many chains as examples."""


class Blocking(Redacting):
    metadata = replace(Guardrails.metadata, id="blocking")


WORDS = {"match": "substring"}
GUARDS = {
    "redacting": Redacting(bad_words={"list": [SECRET], **WORDS}),
    "blocking": Blocking(bad_words={"list": [FORBIDDEN], **WORDS}, action="block"),
}
KINDS = {
    "retry": Retry, "fallback": Fallback, "timeout": Timeout, "circuit_breaker": CircuitBreaker,
    "token_limit": TokenLimit, "default_settings": DefaultSettings, "simulate_streaming": SimulateStreaming,
    "analytics": Analytics,
}  # fmt: skip
CONTROLS = [name for name in KINDS if name != "analytics"]
DOCUMENTED = sorted(CONTROLS, key=lambda name: -KINDS[name].metadata.priority)

Chain = list[tuple[str, dict[str, Any]]]
"""Ids with options, outermost first."""

HALVES = st.integers(0, 6).map(lambda number: number + 0.5)  # times pass in whole seconds: never a tie


@st.composite
def limits(draw: Any) -> dict[str, float]:
    found = draw(st.fixed_dictionaries({}, optional=dict.fromkeys(("total_s", "first_part_s", "idle_s"), HALVES)))
    total = found.get("total_s", inf)
    return {name: min(value, total) for name, value in found.items()} or {"total_s": 4.5}


OPTIONS: dict[str, Any] = {
    "retry": st.fixed_dictionaries({
        "attempts": st.integers(1, 4), "initial_delay_s": st.just(1), "max_delay_s": st.just(4),
        "jitter": st.just(False),
        "on": st.sampled_from([["rate_limited", "timeout", "unavailable"], ["any"], ["unavailable"]]),
    }),
    "fallback": st.fixed_dictionaries({
        "models": st.permutations([*NAMES, "two"]).flatmap(lambda names: st.integers(1, 3).map(lambda n: names[:n]))
    }),
    "timeout": limits(),
    "circuit_breaker": st.fixed_dictionaries({
        "failure_threshold": st.integers(1, 3), "window_s": st.just(1e6),
        "open_s": st.sampled_from([1.5, 2.5, 1e6]),
        "key": st.sampled_from(["provider/model", "provider"]),
    }),
    "token_limit": st.sampled_from([
        {"max_input_tokens": 1000}, {"max_input_tokens": 1000}, {"max_input_tokens": 40}, {"max_input_tokens": 40},
        {"max_input_tokens": 40, "strategy": "refuse"},
    ]),
    "default_settings": st.just({"params": {"temperature": 0.5}, "system": "Be brief."}),
    "simulate_streaming": st.sampled_from([{"chunk": "word"}, {"chunk": 3}]),
    "analytics": st.just({}),
}  # fmt: skip
LONG = [{"role": "user", "content": "old words " * 40}, {"role": "assistant", "content": "an old answer"}]


@st.composite
def chains(draw: Any, *, anywhere: bool) -> Chain:
    """Some of the middlewares. Guards and analytics stand outside of all others unless they may stand anywhere."""
    often = ("retry", "fallback")
    names = [name for name in draw(st.permutations(CONTROLS)) if draw(st.integers(0, 3 if name in often else 1))]
    inner = draw(st.sampled_from([[name for name in DOCUMENTED if name in names], names]))
    outer = [name for name in ("analytics", "redacting", "blocking") if draw(st.booleans())]
    order = draw(st.permutations(inner + outer)) if anywhere else outer + inner
    order.insert(draw(st.integers(len(outer) if not anywhere else 0, len(order))), "watch.between")
    return [(name, draw(OPTIONS[name]) if name in OPTIONS else {}) for name in ("watch.outer", *order, "watch.inner")]


KIND = st.sampled_from(["unavailable", "rate_limited", "slow", "cut", "stall"] * 2 + [*ERRORS, "bug", "much_later"])
AT = st.sampled_from([0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 7])
FAULT = st.sampled_from([True, True, True, False]).flatmap(
    lambda faulty: st.tuples(KIND, AT, st.sampled_from([0, 0, 2, 4, 9])) if faulty else st.none()
)
PIECES = st.lists(st.sampled_from([SECRET, "secr", "et", "sec", " ", "x", "top "]), max_size=4).map("".join)
TEXT = PIECES | st.tuples(PIECES, st.sampled_from([FORBIDDEN, "bo", "bo om"]), PIECES).map("".join)
PLAN = st.builds(
    Plan,
    faults=st.fixed_dictionaries({name: st.lists(FAULT, min_size=2, max_size=6) for name in NAMES}),
    text=TEXT, reasoning=st.just("") | TEXT, unsaid=st.booleans(), tool=st.booleans(),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    prompt=st.sampled_from(["hi"] * 9 + ["a secret", "boom"]),
)  # fmt: skip


class World:
    """A chain over models that fail."""

    def __init__(self, chain: Chain, *, steps: bool = True) -> None:
        self.chain, self.runs = chain, {}
        runs: dict[str, Run] = self.runs
        self.layers = [self._layer(name, options, steps) for name, options in chain]

        class Factory(MiddlewareFactory):
            def _resolve(self, name: str, driver: str) -> Any:
                return Door(runs, *name.split("/"))

        order = {name: {"priority": 1000 - at} for at, (name, _) in enumerate(chain)}
        self.factory = Factory(preset=None, plugins=False, middleware=self.layers, middleware_config=order)
        self.wrapped = self.factory.apply_middleware("openai/one")
        assert self.wrapped.chain == tuple(order)

    def _layer(self, name: str, options: dict[str, Any], steps: bool) -> Any:
        if name.startswith("watch"):
            return Watch(self.runs, name, steps=steps)
        return GUARDS[name] if name in GUARDS else KINDS[name](**options)

    def begin(self, key: str, plan: Plan) -> Run:
        """A new call; what the circuits know is forgotten."""
        run = self.runs[key] = Run(key, plan, self.chain)
        for layer in self.layers:
            if isinstance(layer, CircuitBreaker):
                layer.reset()
        return run

    async def call(self, run: Run, mode: str, *, leave: str = "", after: int = 0) -> None:
        """One call of the user's; in a stream it may `leave` after so many parts."""
        began = asyncio.get_running_loop().time()
        try:
            if mode == "generate":
                run.response = await self.wrapped.generate(run.plan.prompt, user=run.key, messages=LONG)
                return
            stream = self.wrapped.stream(run.plan.prompt, user=run.key, messages=LONG)
            if leave == "aclose":
                await self._read(stream, run, after)
                await stream.aclose()
                return
            async with stream:
                await self._read(stream, run, after if leave else inf)
                if run.left and leave == "raise":
                    raise KeyboardInterrupt("the consumer's own")
            if not run.left:
                run.response = await stream.response()
        except (Exception, asyncio.CancelledError, KeyboardInterrupt) as error:  # noqa: BLE001  # it is looked at below
            run.error = error
        finally:
            for layer in self.layers:
                if isinstance(layer, CircuitBreaker):
                    assert [one["probes"] for one in layer.states().values() if one["probes"]] == []
            run.cancelling = asyncio.current_task().cancelling()  # type: ignore[union-attr]  # a task runs
            run.took = asyncio.get_running_loop().time() - began

    async def _read(self, stream: Any, run: Run, most: float) -> None:
        if most == 0:
            run.left = True
            return
        async for part in stream:
            run.got.append(part)
            if len(run.got) >= most and not isinstance(part, Finish):
                run.left = True
                return

    def ticking(self, main: Any) -> Any:
        """Run a coroutine function in this world; nothing may be left over."""

        async def inside() -> Any:
            loop = asyncio.get_running_loop()
            with pytest.MonkeyPatch.context() as patch:
                for module in (timeout, circuit_breaker):
                    patch.setattr(module, "clock", loop.time)
                async with self.factory:
                    result = await main()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return result

        with asyncio.Runner(loop_factory=Loop) as runner:
            result = runner.run(inside())
            assert runner.get_loop().faults == []  # type: ignore[attr-defined]
        return result


# --- the reference -----------------------------------------------------------------------------------------------


class Interrupted(BaseException):
    """The time of a timeout is over."""


@dataclass
class Reference:
    """The chain without anything but its meaning: each layer a generator of parts, over a clock that is a number."""

    plan: Plan
    mode: str
    chain: Chain
    now: float = 0.0
    deadline: float = inf
    asked: list[tuple[str, int]] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    opened_at: dict[str, float] = field(default_factory=dict)
    raised: list[tuple[Exception, int]] = field(default_factory=list)  # by which of the calls of models
    got: list[Any] = field(default_factory=list)
    error: BaseException | None = None

    def run(self) -> Reference:
        try:
            for part in self.inside(0, "openai/one", self.mode == "generate"):
                self.got.append(part)
        except Exception as error:  # noqa: BLE001  # it is what comes out
            self.error = error
        return self

    def wait(self, seconds: float) -> None:
        if self.now + seconds > self.deadline:
            self.now = self.deadline
            raise Interrupted
        self.now += seconds

    def inside(self, at: int, name: str, whole: bool) -> Any:
        """What comes from the layer of this number."""
        if at == len(self.chain):
            return self.model(name, whole)
        id, options = self.chain[at]
        layer = getattr(self, id, None)
        if layer is None:
            return self.inside(at + 1, name, whole)
        return layer(lambda other=name, all_at_once=whole: self.inside(at + 1, other, all_at_once), name, **options)

    def model(self, name: str, whole: bool) -> Any:
        number = sum(asked == name for asked, _ in self.asked)
        self.asked.append((name, number))
        response = self.plan.response(name, number)
        faults = self.plan.faults.get(name, [])
        fault = fault_of(faults[number]) if number < len(faults) else None
        parts = [*cut(parts_of(response), self.plan.cuts)]
        for at, part in enumerate(parts):
            if fault is not None and at == fault.at:
                self.wait(fault.stall_s)
                if fault.error is not None:
                    self.raised.append((fault.error, len(self.asked) - 1))
                    raise fault.error
                if fault.cut:
                    raise ProviderUnavailable("", provider="", model="") if whole else StreamInterrupted("")
            if not whole:
                yield part
        if whole:
            yield from parts_of(response)

    def retry(self, inner: Any, name: str, *, attempts: int, on: list[str], **_: Any) -> Any:
        for attempt in range(1, attempts + 1):
            try:
                held, parts = opening(inner())
            except Exception as error:
                after = getattr(error, "retry_after", None)
                if attempt == attempts or kind_of(error, on) not in on or (after or 0) > 4:
                    raise
                self.wait(after or min(2 ** (attempt - 1), 4))
            else:
                yield from held
                yield from parts
                return

    def fallback(self, inner: Any, name: str, *, models: list[str]) -> Any:
        goes_on = ("rate_limited", "timeout", "unavailable", "authentication", "circuit_open", "context_too_long")
        full = [one if "/" in one else f"openai/{one}" for one in models]
        order = [name, *dict.fromkeys(one for one in full if one != name)]
        final = None
        for one in order:
            try:
                held, parts = opening(inner(one))
            except Exception as error:  # noqa: BLE001  # it may be raised later
                cannot = one != name and isinstance(error, BadRequest)
                final = final if cannot else error
                if one == order[-1] or not (cannot or kind_of(error, goes_on) in goes_on):
                    raise final from None
            else:
                yield from held
                yield from parts
                return

    def timeout(self, inner: Any, name: str, *, total_s: float = inf, first_part_s: float = inf,
                idle_s: float = inf) -> Any:  # fmt: skip
        """In streams, each part has its own end, counted from the beginning; in `generate` the whole has one."""
        parts, began, said = inner(), self.now, False
        end = min(total_s, first_part_s) if self.mode == "stream" else total_s
        while True:
            self.deadline = began + end
            try:
                part = next(parts, None)
            except Interrupted:
                raise ProviderTimeout("", provider="", model="") from None
            finally:
                self.deadline = inf
            if part is None:
                return
            yield part
            said = said or not isinstance(part, UNSAID)
            if self.mode == "stream":
                waits = self.now - began + idle_s
                end = min(total_s, waits if said or first_part_s == inf else first_part_s)

    def circuit_breaker(self, inner: Any, name: str, *, failure_threshold: int, key: str, open_s: float,
                        **_: Any) -> Any:  # fmt: skip
        counted = name.split("/")[0] if key == "provider" else name
        probes = counted in self.opened_at
        if probes and self.now < self.opened_at[counted] + open_s:
            raise CircuitOpen("")
        try:
            yield from inner()
        except Exception as error:
            troubles = ("rate_limited", "timeout", "unavailable")
            if kind_of(error, troubles) in troubles:
                self.failures[counted] += 1
                if probes or self.failures[counted] == failure_threshold:
                    self.opened_at[counted], self.failures[counted] = self.now, 0
            raise
        self.failures[counted] = 0
        if probes:
            del self.opened_at[counted]

    def token_limit(self, inner: Any, name: str, *, max_input_tokens: int, strategy: str = "truncate") -> Any:
        if strategy == "refuse" and max_input_tokens < 1000:
            raise TokenLimitExceeded("")
        yield from inner()

    def simulate_streaming(self, inner: Any, name: str, **_: Any) -> Any:
        yield from inner(all_at_once=True)


def opening(parts: Any) -> tuple[list[Any], Any]:
    held = []
    for part in parts:
        held.append(part)
        if not isinstance(part, UNSAID):
            break
    return held, parts


def kind_of(error: Exception, on: Any) -> str:
    """The name under which `on` may list an error."""
    names = {
        ProviderRateLimited: "rate_limited", ProviderTimeout: "timeout", ProviderUnavailable: "unavailable",
        StreamInterrupted: "unavailable", AuthenticationFailed: "authentication", CircuitOpen: "circuit_open",
        TokenLimitExceeded: "context_too_long",
    }  # fmt: skip
    if "any" in on and not isinstance(error, CircuitOpen | TokenLimitExceeded):
        return "any"
    return names.get(type(error), "none")


# --- what holds --------------------------------------------------------------------------------------------------


def collected(parts: Any) -> Response:
    collector = Collector()
    for part in parts:
        collector.add(part)
    return collector.response()


def said(response: Response) -> tuple[Any, ...]:
    """All that a model says."""
    return (response.text, response.reasoning, response.tool_calls, response.id, response.model, response.created,
            response.provider_fields, response.finish_reason)  # fmt: skip


def redacted(text: str) -> str:
    return text.replace(SECRET, "[REDACTED]")


def check_answer(run: Run, expected: Reference, mode: str) -> None:
    """What came is the answer of the one model call that was committed, guarded, or its beginning and the error."""
    guards = run.guards
    wanted = collected(expected.got)
    asked_to_block = "blocking" in guards and FORBIDDEN in run.plan.prompt
    got = run.response if mode == "generate" else collected(run.got)
    forbidden = "blocking" in guards and any(FORBIDDEN in text for text in (wanted.text, wanted.reasoning))
    if asked_to_block:
        assert run.asked == []
    else:
        assert run.asked == expected.asked
    if asked_to_block or (forbidden and (expected.error is None or (got is not None and got.blocked))):
        assert run.error is None
        assert got.blocked.middleware == "blocking"
        assert got.finish_reason == "content_filter"
        if got.text != got.blocked.reason:  # some had left before
            check_beginning(got, wanted, guards)
        return
    assert run.took == expected.now
    if expected.error is None:
        assert run.error is None
        assert said(got) == said(guarded(wanted, guards))
    else:
        assert type(run.error) is type(expected.error)
        if str(expected.error):  # the model's; those of the layers say nothing in the reference
            (number,) = (number for error, number in expected.raised if error is expected.error)
            assert run.error is run.calls[number].error
        if mode == "stream":
            assert not any(isinstance(part, Finish) for part in run.got)
            if guards:
                check_beginning(got, wanted, guards)
            else:
                assert said(got) == said(wanted)
            assert said(run.error.partial) == said(got)


def guarded(response: Response, guards: set[str]) -> Response:
    if "redacting" not in guards:
        return response
    return replace(response, text=redacted(response.text), reasoning=redacted(response.reasoning))


def check_beginning(got: Response, wanted: Response, guards: set[str]) -> None:
    """Nothing but a beginning of what was let go inside, and nothing of what is guarded."""
    for channel in ("text", "reasoning"):
        left, whole = getattr(got, channel), getattr(wanted, channel)
        # a block ends the text of guards outside of it: what they make of its beginning is not that of the whole
        ends = range(len(whole) + 1) if "blocking" in guards else [len(whole)]
        filtered = redacted if "redacting" in guards else str
        assert any(filtered(whole[:end]).startswith(left) for end in ends)
        if "blocking" in guards:
            assert FORBIDDEN not in left
        if "redacting" in guards:
            assert SECRET not in left
    assert got.id in (None, wanted.id)


def check_books(run: Run, mode: str) -> None:
    """Streams are closed once, observers told once, attempts and usage add up."""
    calls = run.calls
    assert run.cancelling == run.cancelled
    for call in calls:
        assert call.over
        assert call.closed == (call.mode == "stream")
        assert call.read_after_close == 0
    for call in calls[:-1]:
        assert call.usage is None, "a model was asked after another had answered"
    for id, count in run.entered.items():
        assert len(run.ends.get(id, [])) == count, id
    for ends in run.ends.values():
        assert [late for *_, late in ends if late] == [], "a model was asked after content was let go"
    if not run.ends:
        assert calls == []
        return
    ((status, error, attempts, _),) = run.ends["watch.outer"]
    if run.error is not None and isinstance(run.error, Exception):
        assert (status, error) == ("failed", run.error)
    elif run.error is not None or run.left:
        assert status == "cancelled" or run.told
    else:
        response = run.response or collected(run.got)
        assert status == ("blocked" if response.blocked else "completed")
    assert len(run.ends.get("watch.inner", [])) >= len(calls)
    assert [f"{one.provider}/{one.model}" for one in attempts] == [name for name, _ in run.asked]
    for attempt, call in zip(attempts, calls, strict=True):
        assert attempt.duration is not None
        assert attempt.usage == (call.usage or Usage())
        if isinstance(call.error, Exception) and not isinstance(run.error, asyncio.CancelledError):
            assert attempt.error is call.error
        elif status == "completed" and mode == "generate":
            assert (attempt.error is None) == (call.usage is not None)


def check_requests(run: Run) -> None:
    """Every model was asked the same: what the user said, as the layers make it."""
    settings, cut_off = "default_settings" in run.options, run.options.get("token_limit", {}).get("max_input_tokens")
    prompt = redacted(run.plan.prompt) if "redacting" in run.guards else run.plan.prompt
    wanted = [{"role": "user", "content": prompt}]
    if cut_off != 40:
        wanted = LONG + wanted
    if settings:
        wanted = [{"role": "system", "content": "Be brief."}, *wanted]
    for (name, _), call in zip(run.asked, run.calls, strict=True):
        assert call.params["messages"] == wanted
        assert call.params.get("temperature") == (0.5 if settings else None)
        assert call.params.get("model", "one") == name.split("/")[1]
        assert "stream" not in call.params


def check_stats(world: World, runs: list[Run]) -> None:
    for id, stats in world.factory.registry.get_aggregated_stats().items():
        ends = stats.successful_executions, stats.failed_executions, stats.cancelled, stats.inner_errors
        assert stats.total_executions == sum(ends), id
        if id.startswith("watch"):
            statuses = Counter(status for run in runs for status, *_ in run.ends.get(id, ()))
            assert stats.total_executions == sum(run.entered[id] for run in runs) == statuses.total()
            assert (stats.cancelled, stats.failed_executions) == (statuses["cancelled"], 0)
            assert stats.inner_errors == statuses["failed"]
        if id in ("retry", "fallback", "analytics", "simulate_streaming", "default_settings"):
            assert stats.failed_executions == 0, id


def check_analytics(world: World, runs: list[Run]) -> None:
    """Where it stands outside of all that asks again: one record for each call, with all that was spent."""
    for layer in world.layers:
        if isinstance(layer, Analytics):
            attempts = [run.ends["watch.outer"][0][2] for run in runs]
            spent = [sum((attempt.usage for attempt in one), Usage()).total_tokens for one in attempts]
            assert [record["usage"]["total"] or None for record in layer.records()] == spent


@pytest.fixture(autouse=True)
def nothing_is_left():
    """What nobody awaited, closed or retrieved is told when it is collected; warnings are errors."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    gc.collect()


@given(chain=chains(anywhere=False), plan=PLAN, steps=st.booleans())
def test_the_chain_is_its_reference(chain, plan, steps):
    """In both modes, for every order of the layers within the guards."""
    world = World(chain, steps=steps)
    runs = {mode: world.begin(mode, plan) for mode in MODES}
    references = {mode: Reference(plan, mode, chain).run() for mode in MODES}

    async def main():
        for mode in MODES:
            for layer in world.layers:
                if isinstance(layer, CircuitBreaker):
                    layer.reset()
            await world.call(runs[mode], mode)

    world.ticking(main)
    for mode, run in runs.items():
        check_answer(run, references[mode], mode)
        check_books(run, mode)
        check_requests(run)
    check_stats(world, [*runs.values()])
    check_analytics(world, [*runs.values()])
