"""budget: what calls may cost in a time, for everybody or for each user, session or model."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from itertools import count
from math import inf
from time import monotonic
from time import time as clock
from typing import Any

from neuro_mw import Attempt, BudgetExceeded, MiddlewareContext, Outcome, Params
from neuro_mw.state import Release, Reserve, Script, Settle, Spending, StoreUnavailable
from neuro_mw.state.protocol import MAX_TTL_S
from neuro_mw.tokens import count_tokens

from ._catalog import CATALOG
from ._keeping import Keeping
from ._size import size_of
from .limits.books import Call, Held
from .limits.budget_options import BudgetOptions
from .limits.costs import Prices, Rates
from .limits.money import MOST, NANO, nano_of, shown
from .limits.telling import described, does_not_fit, not_known
from .limits.whose import Whose
from .limits.windows import window_at

_log = logging.getLogger("neuro_mw")

_ROOM = 16  # an estimate of the input has to fit so many times more; near the end tokens are counted
_SAY_AGAIN_S = 60.0
_next = count(1).__next__  # the name of a lease in memory


class Budget(Keeping):
    """Lets calls pass as long as what they may cost at most is left of ``limit_usd``.

    Each attempt reserves before it is made what it may cost at most: its input, and the longest answer that
    ``max_tokens`` or else the model allows. Afterwards what it did cost takes the place of that. An attempt that was
    turned away by the provider, or never reached it, costs nothing. Where the usage is not known, as of an answer that
    was cancelled, cut or too late, the whole reservation stays spent: set ``max_tokens`` to keep it small. Answers
    from a cache are free. What middlewares ask models on their own counts as well, when it has ended.

    ``window`` is "day" or "month" (in UTC, by this machine's clock), a number of seconds, or None for all time. A call
    counts in the window in which it began. ``key`` says whose a budget is: "global", "user", "session", "model", or a
    function of the context, plain or async ("package.module:name"), that returns a text. Calls without a user or
    session id share one budget.

    ``on_exceeded="reject"`` raises BudgetExceeded; its ``retry_after`` is the end of the window, None where the call
    alone is dearer than the whole budget. ``"warn"`` lets it pass, counts it, and says so in the log (once a minute)
    and in ``metadata["budget"]``. ``"downgrade"`` asks ``downgrade_to`` instead, and rejects what is too dear for that,
    too.

    Prices are those of ``prices``, then of `neuro_mw.pricing`. ``on_unknown_price`` says what becomes of calls whose
    price, or whose longest answer, is not known: they are rejected, or pass without a reservation.

    A process that dies holds what it had reserved for ``lease_s`` more; so this should be longer than any call.

    >>> import asyncio
    >>> from neuro_mw import BudgetExceeded, MiddlewareFactory
    >>> budget = Budget(limit_usd=0.001, prices={"echo": {"input": 0, "output": 1.0}})
    >>> model = MiddlewareFactory(preset=None, middleware=[budget]).apply_middleware("echo/echo")
    >>> asyncio.run(model.generate("hello", max_tokens=1000)).text
    'hello'
    >>> try:
    ...     asyncio.run(model.generate("hello", max_tokens=1000))
    ... except BudgetExceeded as error:
    ...     print(str(error).partition(":")[0])
    the budget of $0.001 a day (key
    """

    metadata = CATALOG["budget"]

    Config = BudgetOptions
    config: BudgetOptions

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        self.limit = nano_of(self.config.limit_usd)
        self._prices = Prices(self.config.prices)
        self._whose = Whose(self.config.key, self)
        self._window, self._lease_s = (0.0, 0.0, ""), self.config.lease_s
        self._call_key = f"neuro_mw.budget.{id(self)}"
        self._said_at: float | None = None
        if self.config.downgrade_to is not None and "/" in self.config.downgrade_to:
            self.asks = {"downgrade_to": self.config.downgrade_to}

    # --- before --------------------------------------------------------------------------------------------------

    def transform_params(self, params: Params, context: MiddlewareContext) -> Params | Awaitable[Params]:
        """Reserve what the call may cost, or raise BudgetExceeded; with "downgrade" another model may be named."""
        shared = context.shared
        call = shared.get(self._call_key) or shared.setdefault(self._call_key, Call())
        prefix, ttl_s = self._opened()
        held = context.state(self)["held"] = Held(call, prefix, ttl_s)
        whose = self._whose.at_once(context.provider, context.model, context)
        if whose is not None:
            held.key = prefix + whose
            if self.memory is not None and self._reserved(held, params, context):
                return params
        return self._enter(held, whose, params, context)

    def _reserved(self, held: Held, params: Params, context: MiddlewareContext) -> bool:
        """Reserve in memory; False where that says no, or something has to be known first: then it is decided again."""
        script = self._first(held, _next(), params, context)
        if script is None or self.memory is None:
            return False
        try:
            standing: Spending = self.memory.decide(script.name, script.key, *script.arguments)
        except StoreUnavailable:
            return False
        if standing.granted:
            held.call.leases += 1
            held.lease, held.amount = script.arguments[:2]
        return standing.granted

    def _first(
        self, held: Held, lease: Any, params: Params, context: MiddlewareContext, *, room: bool = False
    ) -> Script | None:
        """What an attempt reserves, as far as that can be told without waiting or counting.

        ``room``: for as much input again, which layers between may add.
        """
        rates = self._prices.rates(context.provider, context.model)
        output = None if rates is None else rates.longest(params)
        if rates is None or output is None:
            return None
        amount, most = self._estimate(rates, params, context.model, output)
        if room and amount + (self.limit - most) // _ROOM <= most:
            amount += (self.limit - most) // _ROOM
        if not 0 < amount <= most:
            return None
        arguments = lease, amount, most, self._lease_s, held.ttl_s
        return Script("reserve", held.key, arguments)  # as `Reserve` makes it of what is known to be right

    async def _enter(self, held: Held, whose: str | None, params: Params, context: MiddlewareContext) -> Params:
        """The same where something has to be waited for, and what becomes of a call that does not fit."""
        if whose is None:
            held.key = held.prefix + await self._whose.asked(context)
        provider, model = context.provider, context.model
        refused = await self._reserve(held, params, context, provider, model)
        if refused is None:
            return params
        if self.config.on_exceeded == "warn":
            await self._ask(held, held.call.next_lease(context), refused[1], MOST, params, context)
            self._warn(held, refused)
            return params
        name = self.config.downgrade_to
        if name is not None:
            provider, model = name.split("/", 1) if "/" in name else (provider, name)
            if (provider, model) != (context.provider, context.model):
                if self.config.key == "model":
                    held.key = f"{held.prefix}model:{provider}/{model}"
                again = await self._reserve(held, {**params, "model": name}, context, provider, model)
                if again is None:
                    self.count("downgraded")
                    asked = f"{context.provider}/{context.model}"
                    held.said = {"downgraded_from": asked, "model": f"{provider}/{model}"}
                    return {**params, "model": name}
                refused = again
        raise self._exceeded(refused, held, f"{provider}/{model}")

    def foresee(self, params: Params, context: MiddlewareContext) -> Sequence[Script]:
        """What the first attempt will reserve, if nothing changes on the way and nothing has to be counted."""
        call: Call = context.shared.setdefault(self._call_key, Call())
        whose = self._whose.at_once(context.provider, context.model, context, counts=False)
        if whose is None or call.leases:
            return ()
        prefix, ttl_s = self._opened()
        held = Held(call, prefix, ttl_s)
        held.key = prefix + whose
        script = self._first(held, call.next_lease(context, foreseen=True), params, context, room=True)
        return () if script is None else (script,)

    async def _reserve(
        self, held: Held, params: Params, context: MiddlewareContext, provider: str, model: str
    ) -> tuple[Spending, int] | None:
        """Reserve for a call of this model; where it is too dear, how the budget stands and what was asked of it."""
        rates = self._prices.rates(provider, model)
        output = None if rates is None else rates.longest(params)
        if rates is None or output is None:
            self._unknown(rates, f"{provider}/{model}", context)
            return None
        amount, most = self._estimate(rates, params, model, output)
        if not amount:
            return None
        lease = held.call.next_lease(context)
        if amount <= most:
            standing = await self._ask(held, lease, amount, most, params, context)
            if standing is None:
                return None
            if most == self.limit:  # there is nothing to count
                return standing, amount
        if most != self.limit:
            tokens = (await count_tokens(params, provider, model)).tokens
            amount = rates.at_most(tokens, size_of(params, model), output)[0]
        standing = await self._ask(held, lease, amount, self.limit, params, context)
        return None if standing is None else (standing, amount)

    def _estimate(self, rates: Rates, params: Params, model: str, output: int) -> tuple[int, int]:
        """More than a call can cost, and up to where of the limit it may be taken for that, without counting."""
        size = size_of(params, model)
        amount, inward = rates.at_most(size.at_most, size, output)
        return amount, self.limit - _ROOM * inward

    async def _ask(
        self, held: Held, lease: str, amount: int, limit: int, params: Params, context: MiddlewareContext
    ) -> Spending | None:
        """Reserve an amount: None where it was granted, or nothing is asked since the store is away."""
        script = Reserve(held.key, lease, amount, limit, self.config.lease_s, held.ttl_s)
        held.lease, held.amount = lease, amount  # it may be there, also where the answer never comes
        if self._store.remote:
            found = self.foreseen("reserve", held.key, context)
            if found is not None and found[1].granted:
                self.used(found[0], context)
                if found[0].arguments[1] >= amount:
                    held.lease, held.amount = found[0].arguments[:2]
                    return None
                self.owe([Release(held.key, found[0].arguments[0])])
            self.unwritten(context)  # what an attempt before this one gives back may be needed now
        results: list[Spending] = await self.ask([script], params, context)
        if results and not results[0].granted:
            held.lease, held.amount = None, 0
            return results[0]
        return None

    def _opened(self) -> tuple[str, float]:
        """The beginning of the keys of the window that holds now, and for how long they are kept."""
        now = clock()
        begins, until, prefix = self._window
        if not begins <= now < until:
            name, begins, ends = window_at(self.config.window, now)
            until = inf if ends is None else ends
            prefix = f"budget:{self.id}:{self.config.window}:{name}:"
            self._window = begins, until, prefix
        ttl_s = until - now + self._lease_s
        return prefix, ttl_s if ttl_s < MAX_TTL_S else MAX_TTL_S

    # --- where it does not fit -----------------------------------------------------------------------------------

    def _unknown(self, rates: Rates | None, name: str, context: MiddlewareContext) -> None:
        if self.config.on_unknown_price == "allow":
            self.count("unknown_price")
            self.let_pass(context)
            return
        self.count("rejected")
        raise BudgetExceeded(not_known(name, priced=rates is not None))

    def _exceeded(self, refused: tuple[Spending, int], held: Held, name: str) -> BudgetExceeded:
        self.count("rejected")
        standing, amount = refused
        ends = None if amount > self.limit or self.config.window is None else self._window[1]
        return BudgetExceeded(
            does_not_fit(self._described(), standing, amount, self.limit, name),
            retry_after=None if ends is None else max(0.0, ends - clock()),
        )

    def _warn(self, held: Held, refused: tuple[Spending, int]) -> None:
        self.count("over_limit")
        spent = refused[0].spent
        held.said = {"over_limit": True, "limit_usd": self.limit / NANO, "spent_usd": spent / NANO}
        now = monotonic()
        if self._said_at is None or now >= self._said_at + _SAY_AGAIN_S:
            self._said_at = now
            _log.warning("middleware '%s': %s: %s are spent, calls go on", self.id, self._described(),
                         shown(spent))  # fmt: skip

    def _described(self) -> str:
        return described(self.limit, self.config.window, self._whose.shown)

    # --- after ---------------------------------------------------------------------------------------------------

    def on_end(self, outcome: Outcome, context: MiddlewareContext) -> Awaitable[None] | None:
        """Let what the attempts did cost take the place of what was reserved."""
        state = context.state(self)
        held: Held | None = state.get("held")
        if held is None:
            return self.write(context) if self.memory is None else None
        if held.said is not None and outcome.response is not None:
            outcome.response.metadata[self.id] = held.said
        attempts = context.attempts_inside(self)
        scripts, unknown = held.closed(attempts, self._prices, per_model=self.config.key == "model")
        for what in unknown:
            self.count(what)
        if self.memory is None or "local" in state:
            return self.write(context, *scripts)
        self.write_now(scripts)
        return None

    async def on_asked(self, attempt: Attempt, context: MiddlewareContext) -> None:
        """Pay for what a middleware asked a model on its own, as a judge."""
        cost, unknown = self._prices.cost(attempt, 0)
        if unknown is not None:
            self.count(unknown)
        if cost:
            whose = self._whose.at_once(attempt.provider, attempt.model, context, counts=False)
            call: Call = context.shared.setdefault(self._call_key, Call())
            prefix = call.prefix or self._opened()[0]
            await self.write_beside(Settle(prefix + (whose or await self._whose.asked(context)), "", cost), context)
