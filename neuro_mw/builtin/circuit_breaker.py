"""circuit_breaker: a provider that fails too often is left alone for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, Field

from neuro_mw import (
    AuthenticationFailed,
    BadRequest,
    CircuitOpen,
    ContentRefused,
    ContextTooLong,
    Middleware,
    MiddlewareContext,
    Outcome,
    Params,
    ProviderError,
    ProviderRateLimited,
)
from neuro_mw.param_names import holds_secret, is_secret

from ._attempts import judge_of
from ._catalog import CATALOG
from ._line import in_line

_log = logging.getLogger("neuro_mw")
clock = time.monotonic

_MOST_KEYS = 1024
_OF_THE_REQUEST = (AuthenticationFailed, BadRequest, ContentRefused, ContextTooLong)
_in_trouble = judge_of(["rate_limited", "timeout", "unavailable"])


def _counts(error: Exception, context: MiddlewareContext) -> bool:
    """Whether an error says that the provider is in trouble, and nothing of what was asked of it."""
    if isinstance(error, ProviderRateLimited) and _has_a_key(context.given):
        return False  # it is the key of this caller that is used up
    if _in_trouble(error, context):
        return True
    if not isinstance(error, ProviderError) or isinstance(error, _OF_THE_REQUEST):
        return False
    return error.status is not None and error.status >= 500


def _has_a_key(params: Params) -> bool:
    """Whether a caller brought a key, by whatever name."""
    carriers = (params.get(name) for name in ("headers", "extra_headers", "extra_body"))
    return any(value and is_secret(str(name)) for name, value in params.items()) or any(map(holds_secret, carriers))


@dataclass(slots=True, eq=False)
class _Circuit:
    """What is known of a key; closed as long as ``opened_at`` is None. Written under the lock only."""

    key: str
    failures: deque[float]  # when the last ones came, as many as open the circuit
    opened_at: float | None = None
    turn: int = 0  # how often it was opened: a probe of an earlier turn decides nothing
    probes: list[_Probe] = field(default_factory=list)  # those that hold a place


@dataclass(slots=True, eq=False)
class _Probe:
    """A call that was let through to find out."""

    circuit: _Circuit
    turn: int
    started: float


class CircuitBreaker(Middleware):
    """Refuses calls to a provider that failed too often, at once and without asking it, until it has had a rest.

    ``failure_threshold`` failures within ``window_s`` seconds, with no whole answer between them, open the circuit of a
    key: calls raise `CircuitOpen`, whose ``retry_after`` says when one is let through again. After ``open_s`` seconds
    ``half_open_max`` calls at a time are let through as probes: the first whole answer closes the circuit, the first
    failure opens it again. A probe that was cancelled, left by its reader, blocked, or refused for what was asked
    decides nothing and gives its place back; one that takes longer than ``open_s`` loses its place to another one, and
    may still decide.

    What counts: ProviderTimeout, ProviderUnavailable, ProviderRateLimited, every other ProviderError that is retryable
    or has a status of 500 and more, a stream that breaks off (also behind its first parts), and the ConnectionError or
    TimeoutError of a model of your own. What does not: BadRequest, AuthenticationFailed, ContextTooLong and
    ContentRefused, which are about one request or one key and come fast; ProviderRateLimited where the caller brought a
    key of its own; blocks, limits, and cancellations.

    One circuit for each provider and model at hand (``key="provider"``: for each provider), whatever the session or the
    options; the last 1,024 that failed are known.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> breaker = CircuitBreaker(failure_threshold=3)
    >>> model = MiddlewareFactory(preset=None, middleware=[breaker]).apply_middleware("echo/echo")
    >>> asyncio.run(model.generate("hello")).text, breaker.states()
    ('hello', {})
    """

    metadata = CATALOG["circuit_breaker"]

    class Config(BaseModel):
        """Options of circuit_breaker."""

        failure_threshold: int = Field(default=5, ge=1, le=10_000, strict=True)
        window_s: float = Field(default=60, gt=0, allow_inf_nan=False, strict=True)
        open_s: float = Field(default=30, gt=0, allow_inf_nan=False, strict=True)
        half_open_max: int = Field(default=1, ge=1, le=10_000, strict=True)
        key: Literal["provider/model", "provider"] = "provider/model"

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        self._circuits: OrderedDict[str, _Circuit] = OrderedDict()
        self._lock = threading.Lock()

    # Both modes by the same two hooks: no part of a stream passes through here, its end is told by `on_end`.

    def transform_params(self, params: Params, context: MiddlewareContext) -> Params:
        """Let the call pass or raise CircuitOpen; the params stay as they are."""
        circuit = self._circuits.get(self._key_of(context))
        if circuit is not None and circuit.opened_at is not None:
            probe = self._admit(circuit)
            if probe is not None:
                context.state(self)["probe"] = probe
        return params

    def on_end(self, outcome: Outcome, context: MiddlewareContext) -> None:
        """Take down how the call ended."""
        if isinstance(outcome.error, Exception) and _counts(outcome.error, context):
            self._failed(self._key_of(context), context.state(self).get("probe"))
        elif self._circuits:
            probe, answered = context.state(self).get("probe"), outcome.status == "completed"
            if probe is not None:
                self._succeeded(probe) if answered else self._undecided(probe)
            elif answered:
                self._answered(self._key_of(context))

    # --- deciding ------------------------------------------------------------------------------------------------

    def _key_of(self, context: MiddlewareContext) -> str:
        return context.provider if self.config.key == "provider" else f"{context.provider}/{context.model}"

    def _admit(self, circuit: _Circuit) -> _Probe | None:
        """A place as a probe; None where the circuit was closed meanwhile. Raises CircuitOpen."""
        config = self.config
        with self._lock:
            now = clock()
            if circuit.opened_at is None or self._circuits.get(circuit.key) is not circuit:
                return None
            self._circuits.move_to_end(circuit.key)
            wait_s = circuit.opened_at + config.open_s - now
            if wait_s <= 0:
                circuit.probes = [probe for probe in circuit.probes if now - probe.started < config.open_s]
                if len(circuit.probes) < config.half_open_max:
                    probe = _Probe(circuit, circuit.turn, now)
                    circuit.probes.append(probe)
                    return probe
                wait_s = circuit.probes[0].started + config.open_s - now
        self.count("refused")
        raise CircuitOpen(
            f"the circuit of {circuit.key} is open, because the provider failed too often ({config.failure_threshold} "
            f"times within {config.window_s:g} s); it is asked again in {wait_s:.1f} s at the latest",
            retry_after=wait_s,
        )

    def _failed(self, key: str, probe: _Probe | None) -> None:
        with self._lock:
            now = clock()
            circuit = self._circuit_of(key) if probe is None else probe.circuit
            if probe is None:
                opens = circuit.opened_at is None and self._too_often(circuit, now)
            else:
                opens = self._decides(probe)
            if opens:
                circuit.opened_at, circuit.turn = now, circuit.turn + 1
                circuit.probes.clear()
                circuit.failures.clear()
        if opens:
            self.count("opened")
            _log.warning("the circuit of %s is open for %g s: its provider fails", in_line(key), self.config.open_s)

    def _too_often(self, circuit: _Circuit, now: float) -> bool:
        failures, config = circuit.failures, self.config
        failures.append(now)
        return len(failures) == config.failure_threshold and bool(now - failures[0] <= config.window_s)

    def _succeeded(self, probe: _Probe) -> None:
        circuit = probe.circuit
        with self._lock:
            closes = self._decides(probe)
            if closes:
                circuit.opened_at = None
                circuit.probes.clear()
        if closes:
            self.count("closed")
            _log.info("the circuit of %s is closed: its provider answers again", in_line(circuit.key))

    def _answered(self, key: str) -> None:
        """A whole answer: the failures before it were none in a row."""
        circuit = self._circuits.get(key)
        if circuit is not None and circuit.failures:
            with self._lock:
                circuit.failures.clear()

    def _decides(self, probe: _Probe) -> bool:
        circuit = probe.circuit
        known = self._circuits.get(circuit.key) is circuit  # neither reset nor forgotten
        return known and circuit.opened_at is not None and probe.turn == circuit.turn

    def _undecided(self, probe: _Probe) -> None:
        with self._lock:
            if probe in probe.circuit.probes:
                probe.circuit.probes.remove(probe)

    def _circuit_of(self, key: str) -> _Circuit:
        circuit = self._circuits.get(key)
        if circuit is None:
            circuit = self._circuits[key] = _Circuit(key, deque(maxlen=self.config.failure_threshold))
            if len(self._circuits) > _MOST_KEYS:
                self._circuits.popitem(last=False)
        self._circuits.move_to_end(key)
        return circuit

    # --- reading -------------------------------------------------------------------------------------------------

    def states(self) -> dict[str, dict[str, Any]]:
        """What is known of each key that ever failed, as plain data.

        ``state`` is "closed", "open" or "half_open"; ``failures`` counts those within the window, ``probes`` those
        under way; ``retry_after`` is the rest of an open circuit's time in seconds, else None.
        """
        config, now = self.config, clock()
        with self._lock:
            found = {}
            for key, circuit in self._circuits.items():
                wait_s = None if circuit.opened_at is None else circuit.opened_at + config.open_s - now
                found[key] = {
                    "state": "closed" if wait_s is None else "open" if wait_s > 0 else "half_open",
                    "failures": sum(now - at <= config.window_s for at in circuit.failures),
                    "probes": len(circuit.probes),
                    "retry_after": wait_s if wait_s is not None and wait_s > 0 else None,
                }
        return found

    def reset(self) -> None:
        """Forget all: every circuit is closed. What is under way decides nothing about the time before."""
        with self._lock:
            self._circuits.clear()
