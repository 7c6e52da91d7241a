"""What a budget knows of a call: what it holds for it, and which of its attempts are paid for."""

from __future__ import annotations

from typing import Any

from neuro_mw import Attempt, MiddlewareContext
from neuro_mw.state import Release, Script, Settle

from .costs import Prices


class Call:
    """Of the whole call: how many leases it took, and which attempts are in the books."""

    __slots__ = ("booked", "leases")

    def __init__(self) -> None:
        self.leases = 0
        self.booked: set[int] = set()


class Held:
    """Of one passage: what it reserved under a lease (None: nothing), and how many attempts there were before.

    ``prefix`` begins the keys of all budgets of this window, which are kept for ``ttl_s``; ``key`` is the one that is
    meant.
    """

    __slots__ = ("amount", "attempts", "call", "key", "lease", "prefix", "said", "ttl_s")

    def __init__(self, call: Call, attempts: int, prefix: str, ttl_s: float) -> None:
        self.call, self.attempts, self.prefix, self.ttl_s = call, attempts, prefix, ttl_s
        self.key, self.amount = prefix, 0
        self.lease: Any = None
        self.said: dict[str, Any] | None = None

    def next_lease(self, context: MiddlewareContext) -> str:
        """The name of the next lease of the call."""
        return f"{context.request_id}:{self.call.leases}"

    def closed(self, context: MiddlewareContext, prices: Prices, *, per_model: bool) -> tuple[list[Script], list[str]]:
        """What is to be written as the passage ends, and what was not known of its attempts.

        What middlewares asked on their own is paid for as well. Attempts side by side may find each other's ended:
        who comes first pays for both, so that each is paid for once.
        """
        booked, key = self.call.booked, self.key
        spent, elsewhere, unknown = 0, [], []
        attempts, asked = context.attempts[self.attempts :], context.asked
        for attempt in [*attempts, *asked] if asked else attempts:
            if attempt.duration is None or id(attempt) in booked:
                continue  # under way, or paid for
            booked.add(id(attempt))
            cost, not_known = prices.cost(attempt, self.amount)
            if not_known is not None:
                unknown.append(not_known)
            if per_model and cost and key != (its := self.prefix + named(attempt)):
                elsewhere.append(Settle(its, "", cost))
            else:
                spent += cost
        if spent:
            return [*elsewhere, Settle(key, "" if self.lease is None else self.lease, spent)], unknown
        if self.lease is not None:
            return [*elsewhere, Release(key, self.lease)], unknown
        return elsewhere, unknown


def named(attempt: Attempt) -> str:
    """Whose budget an attempt is of where each model has one, as `Whose` says it."""
    return f"model:{attempt.provider}/{attempt.model}"
