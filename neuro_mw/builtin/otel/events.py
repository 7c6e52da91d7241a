"""What ran in a call, as events and child spans: each middleware with its own time, each question to a model."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from neuro_mw import Attempt, MiddlewareContext

from . import conventions as name
from .attributes import Attributes, sendable, who

_first = itemgetter(0)

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


def lasted(attempt: Attempt, now: float) -> tuple[float, float]:
    """When an attempt began and ended; `now` is the end of one that is still under way, or whose end nobody told."""
    ended = now if attempt.ended is None else attempt.ended
    return (ended if attempt.started is None else attempt.started), ended


def add_events(span: Any, context: MiddlewareContext, ran: Sequence[Ran], attempts: Sequence[Attempt],
               asked: Sequence[Attempt], *, now: float, now_ns: int) -> None:  # fmt: skip
    """An event for each middleware, for each attempt, and for each question of its own that a middleware asked a model,
    at the time when it ended, and in that order.
    """
    here = context.provider, context.model
    events = [(ended, name.MIDDLEWARE_EVENT, attributes) for _, attributes, _, ended in ran]
    for event, made in ((name.ATTEMPT_EVENT, attempts), (name.ASK_EVENT, asked)):
        events += [(lasted(one, now)[1], event, attempt_attributes(one, here)) for one in made]
    for ended, event, attributes in sorted(events, key=_first):
        span.add_event(event, attributes, now_ns - int((now - ended) * 1e9))


def add_spans(
    tracer: Any,
    parent: Any,
    ran: Sequence[Ran],
    attempts: Sequence[Attempt],
    *,
    began: float,
    held_since: float | None,
    held_s: float,
    now: float,
    now_ns: int,
) -> None:
    """A child span for each middleware and each attempt, none of which began before the call did.

    ``held_s`` is the time in which the consumer held the stream, the first time since ``held_since``: it counts in no
    time of a middleware, and passed for all that still ran then.
    """

    def add(title: str, attributes: Attributes, start: float, ended: float) -> None:
        start_ns, end_ns = (now_ns - int((now - at) * 1e9) for at in (max(began, start), ended))
        tracer.start_span(title, parent, attributes=attributes, start_time=start_ns).end(end_ns)

    for id, attributes, total_s, ended in ran:
        held = held_since is not None and ended > held_since
        add(f"middleware {id}", attributes, ended - total_s - (held_s if held else 0.0), ended)
    for attempt in attempts:
        title = f"attempt {sendable(attempt.model)}"
        add(title, attempt_attributes(attempt, ("", "")), *lasted(attempt, now))
