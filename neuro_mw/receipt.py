"""The receipt of a call: what every layer did to it, without a word of its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, overload

from .stats import CHANGED_ANSWER, CHANGED_REQUEST, PLAIN, STATUS_NAMES, Record

if TYPE_CHECKING:
    from .call import Call
    from .types import Mode


class Execution(NamedTuple):
    """A passage of a call through a layer, as it ended: seconds of its own and in all, `ended` by `time.perf_counter`.

    ``status`` is as in a receipt; ``error`` is the type of what left, and no text.
    """

    id: str
    status: str
    self_s: float
    total_s: float
    ended: float
    failures_skipped: int = 0
    error: str | None = None


class Executions(Sequence[Execution]):
    """What has ended, in order, and what is still to end; each is made when it is read."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, at: int) -> Execution: ...
    @overload
    def __getitem__(self, at: slice) -> list[Execution]: ...
    def __getitem__(self, at: int | slice) -> Execution | list[Execution]:
        return [*map(_execution, self._records[at])] if isinstance(at, slice) else _execution(self._records[at])


def _execution(record: Record) -> Execution:
    head, self_s, total_s, given, ended = record
    extra = given or PLAIN
    return Execution(head.id, STATUS_NAMES[extra.status], self_s, total_s, ended, extra.skipped, extra.error)


class ChainFacts(Protocol):
    """What a receipt needs to know of a chain."""

    @property
    def ids(self) -> tuple[str, ...]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def left_out(self) -> Mapping[str, str]: ...
    def reasons(self, mode: Mode) -> dict[str, str]: ...


class Receipt:
    """Proof of what ran. Built when it is read; it holds ids, decisions and times, never text.

    ``request_id``, ``chain`` (a fingerprint of the chain's ids, versions and configs) and ``layers``: for each layer
    its status ("completed", "short_circuited", "blocked", "failed", "cancelled", "skipped"), the reason where it was
    skipped, ``changed_request``, ``changed_answer``, ``self_time`` (ms), ``failures_skipped`` and how often it ran.

    >>> import neuro_mw
    >>> response = neuro_mw.MiddlewareFactory().apply_middleware("echo/echo").generate_sync("hello")
    >>> response.receipt.layers["analytics"]["status"]
    'completed'
    """

    __slots__ = ("_chain", "_detours", "_executions", "_failures", "_layers", "_left_out", "_mode", "_request_id")

    def __init__(self, call: Call, chain: ChainFacts, mode: Mode) -> None:
        self._request_id: Any = call.identity
        self._chain: ChainFacts | str = chain
        self._mode = mode
        self._executions: list[Record] = call.executions
        self._left_out, self._failures, self._detours = call._left_out, call._failures, call._detours
        self._layers: dict[str, dict[str, Any]] | None = None

    @property
    def request_id(self) -> str:
        """The id of the call."""
        return self._request_id if isinstance(self._request_id, str) else "{}-{}{:x}".format(*self._request_id)

    @property
    def chain(self) -> str:
        """The fingerprint of the chain that answered."""
        return self._chain if isinstance(self._chain, str) else self._chain.fingerprint

    @property
    def layers(self) -> dict[str, dict[str, Any]]:
        """What each layer did, by id, outermost first."""
        if self._layers is None:
            self._layers = self._build()
        return self._layers

    def _build(self) -> dict[str, dict[str, Any]]:
        executed: dict[str, dict[str, Any]] = {}
        for head, self_s, _, given, _ in self._executions:
            extra = given or PLAIN
            layer = executed.setdefault(
                head.id,
                {"self_time": 0.0, "failures_skipped": 0, "changed_request": False, "changed_answer": False, "ran": 0},
            )
            layer["status"] = STATUS_NAMES[extra.status]
            layer["ran"] += 1
            layer["self_time"] += self_s * 1e3
            layer["failures_skipped"] += extra.skipped
            layer["changed_request"] |= bool(extra.changed & CHANGED_REQUEST)
            layer["changed_answer"] |= bool(extra.changed & CHANGED_ANSWER)
        for id in self._failures or ():
            if id in executed:
                executed[id]["failures_skipped"] += 1
        ids, reasons = self._ids_and_reasons()
        return {
            id: executed.get(id) or {"status": "skipped", "reason": reasons.get(id, "not reached"), "ran": 0}
            for id in dict.fromkeys((*ids, *executed, *reasons))
        }

    def _ids_and_reasons(self) -> tuple[list[str], dict[str, str]]:
        """The ids of the chain, those that a change of model brought in where it did; why some are out."""
        chain = self._chain
        assert not isinstance(chain, str)
        ids, reasons = list(chain.ids), {**chain.left_out, **chain.reasons(self._mode)}
        for outer, detour in self._detours or ():
            split = max((index + 1 for index, id in enumerate(ids) if id in outer), default=0)
            ids = [*ids[:split], *(id for id in detour.ids if id not in ids[:split]), *ids[split:]]
            reasons = {id: reason for id, reason in reasons.items() if id not in detour.ids}
            reasons |= {id: reason for id, reason in detour.left_out.items() if id not in outer}
            reasons |= detour.reasons(self._mode)
        return ids, reasons | (self._left_out or {})

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.request_id, self.chain, self.layers)

    def to_dict(self) -> dict[str, Any]:
        """The receipt as plain data."""
        layers = [{"id": id, **layer} for id, layer in self.layers.items()]
        return {"request_id": self.request_id, "chain": self.chain, "layers": layers}

    def __repr__(self) -> str:
        return f"Receipt({self.request_id!r}, chain={self.chain!r}, layers={list(self.layers)})"


def _rebuilt(request_id: str, chain: str, layers: dict[str, dict[str, Any]]) -> Receipt:
    """A receipt that was copied or pickled: what it said, without what it was built from."""
    receipt = Receipt.__new__(Receipt)
    receipt._request_id, receipt._chain, receipt._layers = request_id, chain, layers
    return receipt
