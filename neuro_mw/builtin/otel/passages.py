"""Which attempts are of which passage, where something further out calls inward more than once."""

from __future__ import annotations

from typing import Any

from neuro_mw import Attempt, MiddlewareContext


class Passage:
    """One of a call's passages through a layer: no attempt, and no question of a middleware, is of two of them.

    Those that come later, or run beside the first, have contexts of their own and keep a note under ``key`` of
    ``context.shared``; the list of the first one holds their attempts as well.
    """

    __slots__ = ("_attempts", "_context", "_first_asked", "_first_attempt", "_key")

    def __init__(self, context: MiddlewareContext, key: str) -> None:
        self._context, self._key, self._attempts = context, key, context.own_attempts
        self._first_attempt, self._first_asked = len(self._attempts), len(context.asked)
        if context.depth:
            context.shared.setdefault(key, []).append((context.depth, self._attempts))

    def attempts(self) -> list[Attempt]:
        """Its attempts so far, without those of passages further in or beside it."""
        own = self._attempts[self._first_attempt :]
        later = self._context.shared.get(self._key, ())
        theirs = {id(one) for depth, made in later if depth > self._context.depth for one in made}
        return [one for one in own if id(one) not in theirs] if theirs else own

    def asked(self) -> list[Attempt]:
        """What middlewares asked on their own since it began and was answered: of whichever passage asks this first."""
        asked = [one for one in self._context.asked[self._first_asked :] if one.duration is not None]
        if not asked:
            return asked
        told: Any = self._context.shared.setdefault(f"{self._key}.asked", set())
        found = [one for one in asked if id(one) not in told]
        told.update(map(id, found))
        return found
