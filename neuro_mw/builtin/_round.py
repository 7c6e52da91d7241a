"""What one call asks of one store over a network: one question for all of its middlewares, one answer to write."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic as clock
from typing import TYPE_CHECKING, Any

from neuro_mw import MiddlewareContext
from neuro_mw.state import Release, Script

if TYPE_CHECKING:
    from ._keeping import Keeping

_ROUNDS = "neuro_mw.rounds"  # in context.shared, by store
_FRESH_S = 0.1  # so old may a "no answer" be that was asked for further out; then it is asked again

Write = tuple["Keeping", Script]


class Round:
    """Its owner is the outermost middleware that asked: it asks for those further in, and writes for them at the end.

    ``reserved`` is what may stand in the store of what was asked for others and not used yet; it is noted before it
    is asked, so that a call that is cancelled meanwhile gives it back.
    """

    __slots__ = ("answers", "asked_at", "owner", "reserved", "writes")

    def __init__(self, owner: Keeping) -> None:
        self.owner, self.asked_at = owner, 0.0
        self.answers: dict[Script, Any] = {}
        self.reserved: dict[Script, Keeping] = {}
        self.writes: list[Write] = []

    def ask_for(self, foreseen: Sequence[Write]) -> list[Script]:
        """What is going to be asked for others."""
        self.reserved = {script: one for one, script in foreseen if script.name == "reserve"}
        return [script for _, script in foreseen]

    def answered(self, scripts: Sequence[Script], results: Sequence[Any]) -> None:
        """What came back, up to the first that stopped."""
        self.asked_at = clock()
        self.answers.update(zip(scripts, results, strict=False))
        self.reserved = {one: who for one, who in self.reserved.items() if one in self.answers}
        for script, result in self.answers.items():
            if script in self.reserved and not result.granted:
                del self.reserved[script]

    def take(self, script: Script) -> Any:
        """The answer to this question, once; raises KeyError where there is none that still holds."""
        result = self.answers.pop(script)
        self.reserved.pop(script, None)
        if script.name == "read" and result is None and clock() - self.asked_at > _FRESH_S:
            raise KeyError
        return result

    def find(self, name: str, key: str) -> tuple[Script, Any] | None:
        """The question of this name on this key, with its answer; `take` says that it is used."""
        return next(((one, self.answers[one]) for one in self.answers if (one.name, one.key) == (name, key)), None)

    def unused(self) -> list[Write]:
        """What gives back the reservations that nobody used."""
        reserved, self.reserved = self.reserved, {}
        for script in reserved:
            self.answers.pop(script, None)
        return [(one, Release(script.key, script.arguments[0])) for script, one in reserved.items()]


def round_of(context: MiddlewareContext, store: object) -> Round | None:
    """The round of this call with this store, where one was begun and not ended."""
    found: Round | None = context.shared.get(_ROUNDS, {}).get(id(store))
    return found


def begin(context: MiddlewareContext, store: object, owner: Keeping) -> Round:
    """Begin one."""
    rounds = context.shared.setdefault(_ROUNDS, {})
    rounds[id(store)] = round = Round(owner)
    return round


def end(context: MiddlewareContext, store: object) -> None:
    """End it: who asks again begins another one."""
    context.shared.get(_ROUNDS, {}).pop(id(store), None)
