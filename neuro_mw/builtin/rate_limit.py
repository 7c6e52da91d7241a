"""rate_limit: so many requests and tokens in a time, for everybody or for each user, session or model."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from time import monotonic as clock
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from neuro_mw import ConfigError, MiddlewareContext, Outcome, Params, RateLimitExceeded
from neuro_mw.state import Peek, Rate, Return, Script, Take
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
    """What a call took: for each limit in turn the key and how much; and what had been tried before it."""

    __slots__ = ("amounts", "attempts", "line", "number")

    def __init__(self, line: str, amounts: Sequence[int], attempts: int) -> None:
        self.line, self.amounts, self.attempts = line, amounts, attempts
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
        store: str | None = None
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
        self._ones = (1,) * self._requests
        self._tokens = min((one.amount for one in self._limits[self._requests :]), default=0)
        self._whose = Whose(self.config.key, self)
        self._waits = self.config.on_exceeded == "wait"
        self._lines = Lines()
        self._known: dict[str, Sequence[Script]] = {}  # what takes one of each limit, by whose they are

    async def transform_params(self, params: Params, context: MiddlewareContext) -> Params:
        """Let the call pass, at once or when it is its turn, or raise RateLimitExceeded; the params stay."""
        whose = self._whose.at_once(context.provider, context.model, context)
        if whose is None:
            whose = await self._whose.asked(context)
        amounts: Sequence[int] = self._ones
        if self._tokens:
            tokens = await self._estimate(params, context)
            amounts = [*amounts, *[tokens] * (len(self._limits) - self._requests)]
        taken = context.state(self)["taken"] = _Taken(whose, amounts, len(context.attempts))
        if self._waits and whose in self._lines:
            await self._wait(taken, None, params, context)
            return params
        refused = await self._take(taken, params, context)
        if refused is not None:
            if not self._waits or refused.retry_after_s is None:
                raise self._exceeded(taken, taken.number, refused.retry_after_s)
            await self._wait(taken, refused, params, context)
        return params

    def on_end(self, outcome: Outcome, context: MiddlewareContext) -> Awaitable[None] | None:
        """Give back what was not used, take what was used beyond."""
        scripts: Sequence[Script] = ()
        taken: _Taken | None = context.state(self).get("taken")
        if taken is not None and taken.number:
            attempts = context.attempts[taken.attempts :]
            if not attempts and outcome.status in ("failed", "cancelled"):
                scripts = self._returns(taken)
            elif taken.number > self._requests:
                estimate, used = taken.amounts[-1], 0
                for attempt in attempts:
                    usage = told(attempt)
                    if usage is not None:
                        used += int(usage.total_tokens or 0)
                    elif not unused(attempt):
                        used += estimate
                if used != estimate:
                    limits = self._limits[self._requests :]
                    scripts = [Return(self._key(taken.line, one), estimate - used, one.amount, one.period_s)
                               for one in limits]  # fmt: skip
        if not scripts and not self.store.remote:
            return None
        return self._end(taken, scripts, context)

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
        return f"rate_limit:{self.stored_as or self.metadata.id}:{limit.unit}:{limit.period_s}:{whose}"

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
        line = taken.line
        scripts = self._known.get(line)
        if scripts is None:
            scripts = [Take(self._key(line, one), 1, one.amount, one.period_s) for one in self._limits]
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[line] = scripts
        if not self._tokens:
            return scripts
        number = self._requests
        tokens = [Take(one.key, amount, *one.arguments[1:])
                  for one, amount in zip(scripts[number:], taken.amounts[number:], strict=True)]  # fmt: skip
        return [*scripts[:number], *tokens]

    def _returns(self, taken: _Taken) -> list[Script]:
        given = zip(self._limits[: taken.number], taken.amounts, strict=False)
        taken.number = 0
        return [Return(self._key(taken.line, one), amount, one.amount, one.period_s) for one, amount in given]

    def _exceeded(self, taken: _Taken, at: int, retry_after_s: float | None) -> RateLimitExceeded:
        self.count("rejected")
        limit, amount = self._limits[at], taken.amounts[at]
        what = f"this call may use {amount} tokens" if limit.unit == "tokens" else "this is one request more"
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
        ticket = self._lines.join(line, taken.amounts)
        try:
            if self._lines.ahead(line, ticket):
                at, pause_s = await self._foretold(taken, ticket, params, context)
            while True:
                if taken.number:
                    await self.ask(self._returns(taken), params, context)
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

    async def _foretold(
        self, taken: _Taken, ticket: Ticket, params: Params, context: MiddlewareContext
    ) -> tuple[int, float]:
        """Which limit keeps it waiting longest behind those who are before it, and for how many seconds."""
        keys = [self._key(taken.line, limit) for limit in self._limits]
        rates = await self.ask([Peek(key) for key in keys], params, context) or [None] * len(keys)
        before = self._lines.ahead(taken.line, ticket)
        longest = (0, 0.0)
        for at, (limit, rate) in enumerate(zip(self._limits, rates, strict=True)):
            wanted = taken.amounts[at] + sum(amounts[at] for amounts in before)
            pause_s = ((rate.used if rate else 0.0) + wanted - limit.amount) * limit.period_s / limit.amount
            if pause_s > longest[1]:
                longest = at, pause_s
        return longest
