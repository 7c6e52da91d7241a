"""What only memory has: bounds, and that nothing suspends."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw.state import Peek, Read, Reserve, Settle, StoreUnavailable, Take
from neuro_mw.state.memory import MemoryStore

LONG = 600.0


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def done(call: Coroutine[Any, Any, Any]) -> Any:
    """The result of a call that never suspends: no event loop is there."""
    with pytest.raises(StopIteration) as ended:
        call.send(None)
    return ended.value.value


calls = st.lists(
    st.tuples(
        st.sampled_from(["get", "set", "set", "delete", "wait", "read"]), st.sampled_from("abcdef"), st.integers(0, 9)
    ),
    max_size=60,
)


@given(calls, st.integers(1, 5), st.integers(8, 40), st.integers(5, 9))
def test_values_against_a_plain_reference(
    calls: list[tuple[str, str, int]], max_entries: int, max_bytes: int, max_value_bytes: int
) -> None:
    clock = Clock()
    store = MemoryStore(max_entries=max_entries, max_bytes=max_bytes, max_value_bytes=max_value_bytes, clock=clock)
    kept: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
    for name, key, number in calls:
        if name == "wait":
            clock.now += number // 3
        elif name == "delete":
            done(store.delete(key))
            kept.pop(key, None)
        elif name == "set":
            kept.pop(key, None)
            fits = number <= max_value_bytes and number + 1 <= max_bytes
            assert done(store.set(key, bytes(number), ttl_s=20)) is fits
            if fits:
                kept[key] = bytes(number), clock.now + 20
                while len(kept) > max_entries or sum(len(value) + 1 for value, _ in kept.values()) > max_bytes:
                    kept.popitem(last=False)
        else:
            if key in kept and kept[key][1] <= clock.now:
                del kept[key]
            expected = kept[key][0] if key in kept else None
            if key in kept:
                kept.move_to_end(key)
            assert done(store.get(key) if name == "get" else store.run(Read(key))) in (expected, [expected])
    assert f"({len(kept)} values, {sum(len(value) + 1 for value, _ in kept.values())} bytes, 0 meters)" in repr(store)


def test_nothing_suspends() -> None:
    store = MemoryStore()
    done(store.ping())
    assert len(done(store.run(Take("a", 1, 1, 1.0), Reserve("b", "x", 1, 1, 1.0, 1.0), Peek("a")))) == 3
    done(store.aclose())


def test_values_do_not_push_out_budgets() -> None:
    store = MemoryStore(max_entries=3)
    done(store.run(Settle("budget", "a", 7), Take("limit", 1, 1, LONG)))
    for i in range(5000):
        done(store.set(str(i), b"value"))
    assert done(store.run(Peek("budget")))[0].spent == 7
    assert not done(store.run(Take("limit", 1, 1, LONG)))[0].granted
    assert done(store.get("4999")) == b"value"
    assert done(store.get("0")) is None


def test_what_has_ended_is_let_go() -> None:
    clock = Clock()
    store = MemoryStore(max_meters=2000, clock=clock)
    for i in range(20_000):
        clock.now += 1.0
        assert done(store.run(Take(f"user-{i}", 1, 1, LONG)))[0].granted
    assert len(store._states) <= 2000


def test_a_full_store_refuses_and_forgets_nothing() -> None:
    clock = Clock()
    store = MemoryStore(max_meters=10, clock=clock)
    for i in range(10):
        done(store.run(Settle(f"user-{i}", "a", 5)))
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match=r"^memory://: it is full: 10 .*max_meters"):
            store.run(Take("one more", 1, 1, LONG)).send(None)
    assert done(store.run(Peek("user-0")))[0].spent == 5
    clock.now += 31 * 86_400.0
    assert done(store.run(Take("one more", 1, 1, LONG)))[0].granted


def test_a_value_from_the_future_is_none() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    done(store.set("key", b"value", ttl_s=60))
    clock.now -= 3600
    assert done(store.get("key")) is None


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_count_exactly(restless: None) -> None:
    store, start, granted = MemoryStore(), threading.Barrier(4), []

    def work(worker: int) -> None:
        start.wait()
        count = 0
        for i in range(2000):
            with pytest.raises(StopIteration) as ended:
                store.run(Reserve("budget", f"{worker}-{i}", 1, 7000, LONG, LONG)).send(None)
            count += ended.value.value[0].granted
        granted.append(count)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 7000
    assert done(store.run(Peek("budget")))[0].reserved == 7000
