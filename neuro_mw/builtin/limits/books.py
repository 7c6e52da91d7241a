"""What a budget knows of a call: what it holds for it, and which of its attempts are paid for."""

from __future__ import annotations

import os
from typing import Any

from neuro_mw import Attempt, MiddlewareContext
from neuro_mw.state import Release, Script, Settle

from .costs import Prices

_LONG = 100


class Call:
    """Of the whole call: how many leases its passages took."""

    __slots__ = ("_name", "foreseen", "leases", "prefix")

    def __init__(self) -> None:
        self.leases = self.foreseen = 0
        self._name = self.prefix = ""  # the keys of the window in which it began

    def next_lease(self, context: MiddlewareContext, *, foreseen: bool = False) -> str:
        """The name of a lease, which no other has: a request id may be one that users choose."""
        self._name = self._name or f"{context.request_id[:_LONG]}:{os.urandom(8).hex()}"
        if foreseen:
            self.foreseen += 1
            return f"{self._name}:f{self.foreseen}"
        self.leases += 1
        return f"{self._name}:{self.leases}"


class Held:
    """Of one passage: what it reserved under a lease (None: nothing).

    ``prefix`` begins the keys of all budgets of this window, which are kept for ``ttl_s``; ``key`` is the one that is
    meant.
    """

    __slots__ = ("amount", "call", "key", "lease", "prefix", "said", "ttl_s")

    def __init__(self, call: Call, prefix: str, ttl_s: float) -> None:
        self.call, self.prefix, self.ttl_s = call, prefix, ttl_s
        call.prefix = call.prefix or prefix
        self.key, self.amount = prefix, 0
        self.lease: Any = None
        self.said: dict[str, Any] | None = None

    def closed(
        self, attempts: list[Attempt], prices: Prices, *, per_model: bool
    ) -> tuple[list[Script], list[str]]:
        """What is to be written as the passage ends, and what was not known of its attempts.

        An attempt that is still under way will have no other end here: it costs what was reserved.
        """
        key, spent, elsewhere, unknown = self.key, 0, [], []
        for attempt in attempts:
            cost, not_known = prices.cost(attempt, self.amount)
            if not_known is not None:
                unknown.append(not_known)
            if per_model and cost and key != (its := self.prefix + named(attempt)):
                elsewhere.append(Settle(its, "", cost))
            else:
                spent += cost
        if spent:
            return [Settle(key, "" if self.lease is None else self.lease, spent), *elsewhere], unknown
        if self.lease is not None:
            return [Release(key, self.lease), *elsewhere], unknown
        return elsewhere, unknown


def named(attempt: Attempt) -> str:
    """Whose budget an attempt is of where each model has one, as `Whose` says it."""
    return f"model:{attempt.provider}/{attempt.model}"
