"""What all contexts of one call have in common, and the forks that they are in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import count
from time import time
from typing import Any

from .stats import Record
from .types import Attempt, Params

_next = count(1).__next__
_process = os.urandom(6).hex()


def _reseed() -> None:
    global _process  # a forked child must not repeat its parent's ids
    _process = os.urandom(6).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reseed)


@dataclass(slots=True)
class CallMetadata:
    """When a call was made (seconds since 1970) and its id, unique for each call."""

    timestamp: float
    request_id: str


class Call:
    """What all contexts of one call have in common, also over retries and fallbacks."""

    sent: Params | None = None
    block_seen = False
    router: Any = None  # the way to the models, set when the call enters its chain
    chain: Any = None  # the one that the call began in
    params: Params | None = None  # what the caller asked
    _asked: list[Attempt] | None = None
    _shared: dict[str, Any] | None = None
    _left_out: dict[str, str] | None = None
    _failures: list[str] | None = None
    _detours: list[tuple[frozenset[str], Any]] | None = None
    _idle: dict[str, str | None] | None = None
    refusals: tuple[str, ...] = ()  # the texts that refusals were given as answers
    forked = False  # somewhere a layer called inward again

    def __init__(self, provider: str) -> None:
        self.provider, self.timestamp, self.process, self.number = provider, time(), _process, _next()
        self.attempts: list[Attempt] = []
        self.executions: list[Record] = []

    @property
    def shared(self) -> dict[str, Any]:
        if self._shared is None:
            self._shared = {}
        return self._shared

    @property
    def asked(self) -> list[Attempt]:
        if self._asked is None:
            self._asked = []
        return self._asked

    @property
    def left_out(self) -> dict[str, str]:
        """Why layers were left out of this very call, by id."""
        if self._left_out is None:
            self._left_out = {}
        return self._left_out

    @property
    def failures(self) -> list[str]:
        """The ids of layers whose ``custom`` condition raised, or which did not do all their work."""
        if self._failures is None:
            self._failures = []
        return self._failures

    @property
    def detours(self) -> list[tuple[frozenset[str], Any]]:
        """The chains that a change of model led to, each with the ids outside of it."""
        if self._detours is None:
            self._detours = []
        return self._detours

    @property
    def idle(self) -> dict[str, str | None]:
        """Why layers have nothing to do in this very call, by id; None where they have."""
        if self._idle is None:
            self._idle = {}
        return self._idle

    @property
    def identity(self) -> tuple[str, str, int]:
        """What the request id is made of."""
        return self.provider, self.process, self.number

    @property
    def request_id(self) -> str:
        return "{}-{}{:x}".format(*self.identity)


class Fork:
    """A further inward call: the id of the layer that made it, "" for the caller."""

    __slots__ = ("by",)

    def __init__(self, by: str) -> None:
        self.by = by


@dataclass(frozen=True, slots=True)
class Inside:
    """The middlewares that apply further in, outermost first, and a hash of what they are.

    ``fingerprint`` differs where ids, versions, configs or failure policies of these layers do, the code of hooks that
    are not ours, or the model behind them (its type, and its `identity` where it has one); it is the same in each
    process. ``lenient``: one of them that may change answers, no observer, is passed over where it fails;
    ``lenient_beyond``: one in a wrapped model behind them is, or may be left out, which this call does not show.
    ``shareable``: none of all these says that what it lets pass is for one call alone.
    """

    middlewares: tuple[Any, ...]
    fingerprint: str
    lenient: bool = False
    lenient_beyond: bool = False
    shareable: bool = True
