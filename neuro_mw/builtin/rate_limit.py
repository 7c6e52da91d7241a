"""rate_limit: so many requests and tokens in a time, for everybody or for each user, session or model."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from time import monotonic as clock
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from neuro_mw import Attempt, ConfigError, MiddlewareContext, Outcome, Params, RateLimitExceeded
from neuro_mw.state import Peek, Rate, Return, Script, StoreUnavailable, Take
from neuro_mw.tokens import count_tokens

from ._catalog import CATALOG
from ._keeping import Keeping, OnStoreFailure
from ._size import output_limit, size_of
from ._usage import told, unused
from .limits.line import Lines, Ticket
from .limits.rates import read_limits
from .limits.whose import Key, Whose

_MAX_WAIT_S = 30.0
_KNOWN = 1024
_ASK_AGAIN_S = 1.0  # others may have given back what they did not use


class _Taken:
    """What a call took: whose it is, and how many tokens."""

    __slots__ = ("line", "number", "tokens")

    def __init__(self, line: str, tokens: int) -> None:
        self.line, self.tokens = line, tokens
        self.number = 0  # of the limits that gave


class RateLimit(Keeping):
    """Lets so many requests and tokens pass in a time; more are refused, or wait.

    ``limits`` are texts: "60/minute", "5/second", "100 requests/10s", "100000 tokens/hour". All of them hold; a call
    that one refuses takes nothing of the others. A limit is a leaky bucket (GCRA): "60/minute" lets 60 pass at once and
    one more each second, so that no minute ever sees more than the 60 it may begin with and the 60 that came back.

    ``key`` says whose a limit is: "global", "user", "session", "model", or a function of the context, plain or async
    ("package.module:name"), that returns a text. Calls without a user or session id share one limit.

    Tokens are an estimate at first (a quarter of the bytes that go in, and ``max_tokens`` where the request says it)
    and what the attempts used in the end, retries and fallbacks too. Where an attempt does not say, as one that was
    cancelled, the estimate stands; one that was turned away used none, and an answer from a cache neither. A call that
    failed or was cancelled before any model was asked gives back all.

    ``on_exceeded="reject"`` raises RateLimitExceeded, with ``retry_after``; None there means never: the call is larger
    than the limit. With ``"wait"`` calls wait for their turn, first come, first served within a process, for up to
    ``max_wait_s`` (30) seconds; where it would take longer, they are refused at once.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory, RateLimitExceeded
    >>> limit = RateLimit(limits=["1/minute", "1000 tokens/minute"])
    >>> model = MiddlewareFactory(preset=None, middleware=[limit]).apply_middleware("echo/echo")
    >>> asyncio.run(model.generate("hello")).text
    'hello'
    >>> try:
    ...     asyncio.run(model.generate("hello"))
    ... except RateLimitExceeded as error:
    ...     print(f"{error.retry_after:.0f} s")
    60 s
    """

    metadata = CATALOG["rate_limit"]

    class Config(BaseModel):
        """Options of rate_limit."""

        limits: list[str] = Field(min_length=1)
        key: Key = "global"
        on_exceeded: Literal["reject", "wait"] = "reject"
        max_wait_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
        """How long a call waits at most, with ``on_exceeded="wait"``; 30 seconds where it is not set."""
        store: str | None = Field(default=None, repr=False)
        on_store_failure: OnStoreFailure = "local"

        @model_validator(mode="after")
        def _consistent(self) -> Any:
            read_limits(self.limits)
            if self.max_wait_s is not None and self.on_exceeded != "wait":
                raise ConfigError("nothing waits", key="max_wait_s", expected='on_exceeded = "wait" with it')
            return self

    config: Config

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        self._limits = read_limits(self.config.limits)
        self._requests = sum(limit.unit == "requests" for limit in self._limits)
        self._tokens = min((one.amount for one in self._limits[self._requests :]), default=0)
        self._whose = Whose(self.config.key, self)
        self._waits = self.config.on_exceeded == "wait"
        self._lines = Lines()
        self._known: dict[str, Sequence[Script]] = {}  # what takes one of each limit, by whose they are

    def transform_params(self, params: Params, context: MiddlewareContext) -> Params | Awaitable[Params]:
        """Let the call pass, at once or when it is its turn, or raise RateLimitExceeded; the params stay."""
        whose = self._whose.at_once(context.provider, context.model, context)
        if self.memory is None or whose is None or self._waits:
            return self._pass(whose, params, context)
        tokens = 0
        if self._tokens:
            tokens = size_of(params, context.model).about + (output_limit(params) or 0)
            if tokens > self._tokens:
                return self._pass(whose, params, context)
        taken = context.state(self)["taken"] = _Taken(whose, tokens)
        for name, key, arguments in self._takes(taken):
            try:
                refused: Rate = self.memory.decide(name, key, *arguments)
            except StoreUnavailable:
                return self._enter(taken, params, context)
            if not refused.granted:
                raise self._exceeded(taken, taken.number, refused.retry_after_s)
            taken.number += 1
        return params

    async def _pass(self, whose: str | None, params: Params, context: MiddlewareContext) -> Params:
        """The same where something has to be waited for: a function, a count of tokens, a store, its turn."""
        if whose is None:
            whose = await self._whose.asked(context)
        tokens = await self._estimate(params, context) if self._tokens else 0
        taken = context.state(self)["taken"] = _Taken(whose, tokens)
        if self._waits and whose in self._lines:
            await self._wait(taken, None, params, context)
            return params
        return await self._enter(taken, params, context)

    async def _enter(self, taken: _Taken, params: Params, context: MiddlewareContext) -> Params:
        refused = await self._take(taken, params, context)
        if refused is not None:
            if not self._waits or refused.retry_after_s is None:
                raise self._exceeded(taken, taken.number, refused.retry_after_s)
            await self._wait(taken, refused, params, context)
        return params

    def on_end(self, outcome: Outcome, context: MiddlewareContext) -> Awaitable[None] | None:
        """Give back what was not used, take what was used beyond."""
        state = context.state(self)
        taken: _Taken | None = state.get("taken")
        scripts: Sequence[Script] = ()
        if taken is not None and taken.number:
            attempts = context.attempts_inside(self)
            if outcome.status in ("failed", "cancelled") and not attempts:
                scripts = self._returns(taken)
            elif taken.number > self._requests:
                scripts = self._settles(taken, attempts)
        if self.memory is None or (scripts and (self._waits or "local" in state)):
            return self._end(taken, scripts, context)
        self.write_now(scripts)
        return None

    def _settles(self, taken: _Taken, attempts: Sequence[Attempt]) -> Sequence[Script]:
        """What puts the tokens that were used in the place of the estimate."""
        used = 0
        for attempt in attempts:
            usage = told(attempt)
            if usage is not None:
                used += int(usage.total_tokens or 0)
            elif not unused(attempt):
                used += taken.tokens
        left = taken.tokens - used
        if not left:
            return ()
        return [Return(take.key, left, *take.arguments[1:]) for take in self._known_takes(taken.line)[self._requests :]]

    async def _end(self, taken: _Taken | None, scripts: Sequence[Script], context: MiddlewareContext) -> None:
        await self.write(context, *scripts)
        if self._waits and taken is not None and scripts:
            self._lines.tell(taken.line)

    # --- how much ------------------------------------------------------------------------------------------------

    async def _estimate(self, params: Params, context: MiddlewareContext) -> int:
        """About how many tokens a call will use; they are counted where a limit is too small for the estimate."""
        output = output_limit(params) or 0
        tokens = size_of(params, context.model).about + output
        if tokens > self._tokens:
            tokens = (await count_tokens(params, context.provider, context.model)).tokens + output
            for limit in self._limits[self._requests :]:
                if tokens > limit.amount:
                    self.count("rejected")
                    raise RateLimitExceeded(
                        f"the rate limit {limit.text!r} can never let this call pass: it may use {tokens} tokens, of "
                        f"which max_tokens are {output}. Lower max_tokens, shorten the request, or raise the limit"
                    )
        return tokens

    def _key(self, whose: str, limit: Any) -> str:
        return f"rate_limit:{self.id}:{limit.unit}:{limit.period_s}:{whose}"

    # --- taking --------------------------------------------------------------------------------------------------

    async def _take(self, taken: _Taken, params: Params, context: MiddlewareContext) -> Rate | None:
        """Take of all limits; where one refuses, its answer, and `taken` says how many gave."""
        scripts = self._takes(taken)
        taken.number = 0
        results: list[Rate] = await self.ask(scripts, params, context)
        if results and not results[-1].granted:
            taken.number = len(results) - 1
            return results[-1]
        taken.number = len(results)
        return None

    def _takes(self, taken: _Taken) -> Sequence[Script]:
        scripts = self._known_takes(taken.line)
        if not self._tokens:
            return scripts
        tokens = [Script("take", key, (taken.tokens, *rest)) for _, key, (_, *rest) in scripts[self._requests :]]
        return [*scripts[: self._requests], *tokens]

    def _known_takes(self, line: str) -> Sequence[Script]:
        """What takes one of each limit."""
        scripts = self._known.get(line)
        if scripts is None:
            scripts = [Take(self._key(line, one), 1, one.amount, one.period_s) for one in self._limits]
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[line] = scripts
        return scripts

    def _returns(self, taken: _Taken) -> list[Script]:
        given = self._takes(taken)[: taken.number]
        taken.number = 0
        return [Return(take.key, *take.arguments) for take in given]

    def _amounts(self, taken: _Taken) -> list[int]:
        """How much it wants of each limit."""
        return [1 if limit.unit == "requests" else taken.tokens for limit in self._limits]

    def _exceeded(self, taken: _Taken, at: int, retry_after_s: float | None) -> RateLimitExceeded:
        self.count("rejected")
        limit = self._limits[at]
        what = f"this call may use {taken.tokens} tokens" if limit.unit == "tokens" else "this is one request more"
        when = "it can never pass" if retry_after_s is None else f"it may pass in {retry_after_s:.1f} s"
        mend = f"calls wait up to {self._most_s:g} s (max_wait_s)" if self._waits else 'on_exceeded "wait" would wait'
        return RateLimitExceeded(
            f"the rate limit {limit.text!r} (key: {self._whose.shown}) is reached: {what}, and {when}; {mend}",
            retry_after=retry_after_s,
        )

    # --- waiting -------------------------------------------------------------------------------------------------

    @property
    def _most_s(self) -> float:
        return self.config.max_wait_s or _MAX_WAIT_S

    async def _wait(self, taken: _Taken, refused: Rate | None, params: Params, context: MiddlewareContext) -> None:
        """Wait for its turn, and take; raises RateLimitExceeded where that would come too late."""
        until, line = clock() + self._most_s, taken.line
        at, pause_s = (0, 0.0) if refused is None else (taken.number, refused.retry_after_s)
        ticket = self._lines.join(line, self._amounts(taken))
        try:
            if self._lines.ahead(line, ticket):
                at, pause_s = await self._foretold(taken, ticket, context)
            while True:
                if taken.number:
                    await self.run(self._returns(taken), context)
                left_s = until - clock()
                if pause_s is None or pause_s > left_s:
                    raise self._exceeded(taken, at, pause_s)
                if self._lines.ahead(line, ticket):
                    await ticket.sleep(left_s)
                    pause_s = 0.0
                    continue
                if pause_s:
                    await ticket.sleep(min(pause_s, _ASK_AGAIN_S))
                refused = await self._take(taken, params, context)
                if refused is None:
                    break
                at, pause_s = taken.number, refused.retry_after_s
        finally:
            self._lines.leave(line, ticket)
        self.count("waited")

    async def _foretold(self, taken: _Taken, ticket: Ticket, context: MiddlewareContext) -> tuple[int, float]:
        """Which limit keeps it waiting longest behind those who are before it, and for how many seconds."""
        peeks = [Peek(take.key) for take in self._known_takes(taken.line)]
        rates = await self.run(peeks, context) or [None] * len(peeks)
        before = self._lines.ahead(taken.line, ticket)
        amounts, longest = self._amounts(taken), (0, 0.0)
        for at, (limit, rate) in enumerate(zip(self._limits, rates, strict=True)):
            wanted = amounts[at] + sum(amounts[at] for amounts in before)
            pause_s = ((rate.used if rate else 0.0) + wanted - limit.amount) * limit.period_s / limit.amount
            if pause_s > longest[1]:
                longest = at, pause_s
        return longest
