"""Which of a call's questions to models are told by which passage, where something further out calls inward again."""

from __future__ import annotations

from typing import Any

from neuro_mw import Attempt, MiddlewareContext


class Questions:
    """What middlewares ask models on their own, in one passage of a call: nothing is told by two of them.

    ``key`` is where the passages of a call through this layer find each other, in ``context.shared``.
    """

    __slots__ = ("_before", "_context", "_key")

    def __init__(self, context: MiddlewareContext, key: str) -> None:
        self._context, self._key, self._before = context, key, len(context.asked)

    def answered(self) -> list[Attempt]:
        """What was asked since this passage began, and answered: of whichever passage asks this first."""
        asked = [one for one in self._context.asked[self._before :] if one.duration is not None]
        if not asked:
            return asked
        told: Any = self._context.shared.setdefault(f"{self._key}.asked", set())
        found = [one for one in asked if id(one) not in told]
        told.update(map(id, found))
        return found
