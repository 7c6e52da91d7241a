"""The scripts as functions: what a limit grants in any window, and what a clock that steps can do."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw.state.records import decoded, encoded
from neuro_mw.state.scripts import Peek, Read, Release, Reserve, Return, Script, Settle, Take
from neuro_mw.state.steps import STEPS, Budget, Corrupt, Meter

amounts = st.one_of(st.integers(0, 30), st.floats(0, 30))
pauses = st.one_of(st.just(0.0), st.floats(0, 30), st.floats(0, 0.01))
steps_of_a_clock = st.one_of(pauses, st.floats(-10_000, 10_000))


class Kept:
    """One key, at a time that the test says."""

    def __init__(self) -> None:
        self.state: Any = None
        self.now = 1_700_000_000.0

    def run(self, script: Script) -> Any:
        self.state, result = STEPS[script.name](self.state, self.now, *script.arguments)
        return result


@given(st.lists(st.tuples(pauses, amounts), max_size=40), st.integers(1, 20), st.floats(0.5, 100))
def test_no_window_grants_more_than_its_limit(calls: list[tuple[float, float]], limit: int, period_s: float) -> None:
    kept, granted = Kept(), []
    for pause, amount in calls:
        kept.now += pause
        if kept.run(Take("k", amount, limit, period_s)).granted:
            granted.append((kept.now, amount))
    for i, (first, _) in enumerate(granted):
        for j in range(i, len(granted)):
            window = granted[j][0] - first
            assert sum(amount for _, amount in granted[i : j + 1]) <= limit * (1 + window / period_s) + 1e-3


@given(st.lists(st.tuples(pauses, amounts), max_size=40), st.integers(1, 20), st.floats(0.5, 100))
def test_it_is_gcra(calls: list[tuple[float, float]], limit: int, period_s: float) -> None:
    """Against the form with a theoretical arrival time (ITU-T I.371, annex A)."""
    kept = Kept()
    arrival = kept.now
    for pause, amount in calls:
        kept.now += pause
        after = max(arrival, kept.now) + amount * period_s / limit
        early = after - kept.now - period_s
        granted = kept.run(Take("k", amount, limit, period_s)).granted
        if abs(early) > 1e-4:  # at the border, rounding decides
            assert granted == (early < 0)
        if granted:
            arrival = after


@given(st.lists(st.tuples(pauses, amounts), max_size=20), amounts, st.integers(1, 20), st.floats(0.5, 100))
def test_retry_after_is_true(calls: list[tuple[float, float]], amount: float, limit: int, period_s: float) -> None:
    kept = Kept()
    for pause, some in calls:
        kept.now += pause
        kept.run(Take("k", some, limit, period_s))
    refused = kept.run(Take("k", amount, limit, period_s))
    if amount > limit + 1e-3:
        assert (refused.granted, refused.retry_after_s) == (False, None)
    elif not refused.granted and refused.retry_after_s is not None:
        began = kept.now
        kept.now = began + refused.retry_after_s * 0.99 - 1e-4
        assert kept.now <= began or not kept.run(Take("k", amount, limit, period_s)).granted
        kept.now = began + refused.retry_after_s
        assert kept.run(Take("k", amount, limit, period_s)).granted


@given(st.lists(st.tuples(steps_of_a_clock, amounts), max_size=30), st.integers(1, 20), st.floats(0.5, 100))
def test_a_clock_that_steps_never_locks_a_limit(calls: list[tuple[float, float]], limit: int, period_s: float) -> None:
    kept = Kept()
    for step, amount in calls:
        kept.now += step
        before = kept.run(Take("k", 0, limit, period_s)).used
        assert before <= limit + 1e-3
        taken = kept.run(Take("k", amount, limit, period_s))
        assert taken.retry_after_s is None or taken.retry_after_s <= period_s * (1 + 1e-6)
    kept.now += period_s
    assert kept.run(Take("k", limit, limit, period_s)).granted


@given(st.lists(st.tuples(st.floats(-10_000, 0), amounts), max_size=30), st.integers(1, 20))
def test_a_clock_that_goes_back_gives_nothing_away(calls: list[tuple[float, float]], limit: int) -> None:
    kept, granted = Kept(), 0.0
    for step, amount in calls:
        kept.now += step
        taken = kept.run(Take("k", amount, limit, 60.0))
        granted += amount if taken.granted else 0
    assert granted <= limit + 1e-3


@given(st.lists(st.tuples(steps_of_a_clock, st.integers(1, 10), st.floats(1, 100)), max_size=30))
def test_a_clock_that_steps_never_locks_a_budget(calls: list[tuple[float, int, float]]) -> None:
    kept, longest = Kept(), 0.0
    for i, (step, amount, lease_s) in enumerate(calls):
        kept.now += step
        reserved = kept.run(Reserve("k", str(i), amount, 20, lease_s, 1e6))
        longest = max(longest, lease_s)
        assert reserved.reserved <= 20
        assert reserved.reserved == sum(lease.amount for lease in kept.state.leases.values())
        assert all(lease.ends <= kept.now + lease.length_s for lease in kept.state.leases.values())
    kept.now += longest * (1 + 1e-9) + 1e-6
    assert kept.run(Reserve("k", "last", 20, 20, 1.0, 1e6)).granted


@given(st.lists(st.tuples(pauses, amounts), max_size=5), st.floats(-100, 100))
def test_what_was_returned_can_be_taken_again(calls: list[tuple[float, float]], amount: float) -> None:
    kept = Kept()
    for pause, some in calls:
        kept.now += pause
        kept.run(Take("k", some, 30, 60.0))
    used = kept.run(Take("k", 0, 30, 60.0)).used
    after = kept.run(Return("k", amount, 30, 60.0))
    assert after.granted
    assert after.used == pytest.approx(max(0.0, used - amount))


def test_peek_changes_nothing() -> None:
    kept = Kept()
    kept.run(Reserve("k", "a", 5, 10, 1.0, 100.0))
    kept.now += 50
    before = encoded(kept.state)
    assert kept.run(Peek("k")) == (True, 0, 0)
    assert encoded(kept.state) == before
    kept.now += 50
    assert kept.run(Peek("k")) is None


nan, inf = math.nan, math.inf


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        *((Take, bad) for bad in [(-1, 1, 1), (nan, 1, 1), (inf, 1, 1), (1, 0, 1), (1, nan, 1), (1, 1, 0)]),
        (Take, (1, 1, inf)),
        *((Return, bad) for bad in [(nan, 1, 1), (-inf, 1, 1), (1, 0, 1), (1, 1, -1), (1, 2**53, 1)]),
        *((Reserve, ("a", *bad)) for bad in [(-1, 1, 1, 1), (1.5, 2, 1, 1), (1, 2**53, 1, 1), (1, 1, 0, 1)]),
        (Reserve, ("a", 1, 1, 1, nan)),
        *((Settle, ("a", bad)) for bad in [-1, 0.5, 2**53]),
    ],
)  # fmt: skip
def test_what_cannot_be_counted_is_refused(make: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="needs"):
        make("key", *arguments)


def test_scripts_are_plain_values() -> None:
    assert Read("k") == Script("read", "k", ())
    assert hash(Release("k", "a")) == hash(Release("k", "a"))
    assert "secret" not in repr(Take("k", 1, 2, 3))


# --- as text ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2**53 - 1), st.floats(0.001, 1e6)), max_size=8))
def test_a_budget_comes_back_from_its_text(calls: list[tuple[int, int, float]]) -> None:
    kept = Kept()
    for i, (lease, amount, lease_s) in enumerate(calls):
        reserve = Reserve("k", str(lease), amount, 2**53 - 1, lease_s, 1e6)
        kept.run(Settle("k", str(lease), amount) if i % 3 == 2 else reserve)
    if kept.state is not None:
        back = decoded(encoded(kept.state))
        assert isinstance(back, Budget)
        assert (back.spent, back.reserved, back.leases) == (kept.state.spent, kept.state.reserved, kept.state.leases)
        assert back.first_end >= kept.state.first_end


@given(st.tuples(st.floats(0, 2**53), st.floats(0, 1e10), st.floats(0.001, 1e9), st.floats(0.001, 1e9)))
def test_a_meter_comes_back_from_its_text(numbers: tuple[float, float, float, float]) -> None:
    assert decoded(encoded(Meter(*numbers))) == Meter(*numbers)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["meter", "budget", ""]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
)


@given(st.one_of(st.text(), st.binary(), st.integers(), st.none(), junk.map(json.dumps)))
def test_what_is_not_ours_is_corrupt_or_usable(text: Any) -> None:
    try:
        state = decoded(text)
    except Corrupt:
        return
    for script in (Take("k", 1, 2, 3), Reserve("k", "a", 1, 2, 3, 4), Peek("k")):
        try:
            STEPS[script.name](decoded(text), 1_700_000_000.0, *script.arguments)
        except Corrupt:
            assert (type(state) is Meter) != (script.name == "take")


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "[" * 100_000, '["meter", 1, 1, 0, 1]', '["meter", NaN, 1, 1, 1]', '["meter", true, 1, 1, 1]',
     '["meter", 1, 1, 1]', '["budget", 1, 1, 0.5, {}]', '["budget", 1, 1, -1, {}]', '["budget", 1, 0, 1, {}]',
     '["budget", 1, 1, 1, {"a": [1, 1]}]', '["budget", 1, 1, 1, {"a": 1}]', '["budget", 1, 1, 1, {"a": [1, 1, 0]}]',
     f'["meter", {"9" * 400}, 1, 1, 1]', f'["budget", 1, 1, {2**53}, {{}}]', b"\xff", 7, None],
)  # fmt: skip
def test_corrupt(text: Any) -> None:
    with pytest.raises(Corrupt):
        decoded(text)
