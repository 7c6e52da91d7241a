"""What ran in a call, as events and child spans: each middleware with its own time, each question to a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neuro_mw import Attempt, MiddlewareContext

from . import conventions as name
from .attributes import Attributes, sendable, who

Ran = tuple[str, Attributes, float, float]
"""A passage through a layer further in: its id, its attributes, how long it took with all that is inside (seconds), and
when it ended (by `time.perf_counter`)."""


def executions(context: MiddlewareContext, since: int) -> list[Ran]:
    """The passages that have ended in this call, in that order, without the first `since`."""
    found: list[Ran] = []
    for ran in context.executions[since:]:
        attributes: Attributes = {name.MIDDLEWARE_ID: sendable(ran.id), name.MIDDLEWARE_SELF_TIME: ran.self_s}
        if ran.status != "completed":
            attributes[name.MIDDLEWARE_STATUS] = ran.status
        if ran.failures_skipped:
            attributes[name.MIDDLEWARE_SKIPPED] = ran.failures_skipped
        if ran.error is not None and ran.status == "failed":
            attributes[name.ERROR_TYPE] = ran.error
        found.append((attributes[name.MIDDLEWARE_ID], attributes, ran.total_s, ran.ended))
    return found


def attempt_attributes(attempt: Attempt, asked: tuple[str, str]) -> Attributes:
    """One question to a model as attributes of an event or a span; who was asked, where it is not who was `asked`."""
    same = asked == (attempt.provider, attempt.model)
    found = {} if same else who(attempt.provider, attempt.model)
    if attempt.duration is not None:
        found[name.ATTEMPT_DURATION] = attempt.duration
    if attempt.time_to_first_part is not None:
        found[name.ATTEMPT_TIME_TO_FIRST_CHUNK] = attempt.time_to_first_part
    if isinstance(attempt.error, Exception):  # to be cancelled, or left by a reader, is none
        found[name.ERROR_TYPE] = type(attempt.error).__name__
    return found


def ends_of(attempts: Sequence[Attempt], ran: Sequence[Ran], now: float) -> list[float] | None:
    """When each attempt ended, which an `Attempt` does not say: as the innermost layer that ran once for each did.

    None where there is no such layer, and more than one attempt.
    """
    ended: dict[str, list[float]] = {}
    for id, _, _, at in ran:
        ended.setdefault(id, []).append(at)
    for ends in ended.values():
        if len(ends) == len(attempts):
            return ends
    return [now] if len(attempts) == 1 else None


def add_events(span: Any, context: MiddlewareContext, ran: Sequence[Ran], attempts: Sequence[Attempt],
               asked: Sequence[Attempt], now: float, now_ns: int) -> None:  # fmt: skip
    """An event for each middleware, at the time when it ended, for each attempt, and for each question of its own that
    a middleware asked a model.
    """
    for _, attributes, _, ended in ran:
        span.add_event(name.MIDDLEWARE_EVENT, attributes, now_ns - int((now - ended) * 1e9))
    here = context.provider, context.model
    for attempt in attempts:
        span.add_event(name.ATTEMPT_EVENT, attempt_attributes(attempt, here), now_ns)
    for attempt in asked:
        span.add_event(name.ASK_EVENT, attempt_attributes(attempt, here), now_ns)


def add_spans(
    tracer: Any,
    parent: Any,
    ran: Sequence[Ran],
    attempts: Sequence[Attempt],
    *,
    began: float,
    away_s: float,
    now: float,
    now_ns: int,
) -> None:
    """A child span for each middleware and each attempt, none of which began before the call did.

    ``away_s`` is the time in which the consumer held a stream: it counts in none of them, and passed for all that still
    ran.
    """

    def add(title: str, attributes: Attributes, ended: float, lasted_s: float) -> None:
        start = max(began, ended - lasted_s - away_s)
        start_ns, end_ns = (now_ns - int((now - at) * 1e9) for at in (start, ended))
        tracer.start_span(title, parent, attributes=attributes, start_time=start_ns).end(end_ns)

    for id, attributes, total_s, ended in ran:
        add(f"middleware {id}", attributes, ended, total_s)
    for attempt, ended in zip(attempts, ends_of(attempts, ran, now) or (), strict=False):
        title = f"attempt {sendable(attempt.model)}"
        add(title, attempt_attributes(attempt, ("", "")), ended, attempt.duration or 0.0)
