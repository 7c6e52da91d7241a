"""What middlewares count themselves."""

import math
import threading

from neuro_mw import Middleware, MiddlewareFactory, MiddlewareMetadata
from neuro_mw.tally import Tally

from .chain.conftest import run


class Counting(Middleware):
    metadata = MiddlewareMetadata(id="counting")

    def transform_params(self, params, context):
        self.count("words", len(params["messages"][0]["content"].split()))
        self.count("calls")
        return params


def test_counts_are_in_the_stats_until_they_are_cleared():
    counting = Counting()
    factory = MiddlewareFactory(preset=None, middleware=[counting], plugins=False)
    model = factory.apply_middleware("echo/echo")
    run(model.generate("one two"))
    run(model.generate("three"))
    assert factory.registry.get_aggregated_stats()["counting"].counts == {"words": 3, "calls": 2}
    factory.registry.clear_stats()
    run(model.generate("one"))
    assert factory.registry.get_aggregated_stats()["counting"].counts == {"words": 1, "calls": 1}


def test_what_is_read_can_be_sent():
    """Whatever a middleware counts: names that UTF-8 can encode, whole numbers from 0 that fit into 63 bits."""
    tally = Tally()
    odd = [("a\ud800", 1), ("a?", 2), (5, 1), (None, 1), ("half", 0.5), ("more", 1.5), ("below", -1), ("nan", math.nan),
           ("inf", math.inf), ("huge", 1 << 70), ("yes", True), ("j", 1j)]  # fmt: skip
    for what, number in odd:
        tally.add(what, number)
    counts = tally.counts()
    assert counts == {"a?": 3, "5": 1, "None": 1, "half": 0, "more": 2, "below": 0, "nan": 0, "inf": 0,
                      "huge": (1 << 63) - 1, "yes": 1, "j": 0}  # fmt: skip
    assert {type(number) for number in counts.values()} == {int}


def test_what_goes_up_and_down_is_exact():
    tally = Tally()
    for number in (3, -5, 4):
        tally.add("x", number)
    assert tally.counts() == {"x": 2}


def test_exact_under_threads():
    tally = Tally()

    def count():
        for _ in range(2000):
            tally.add("x")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert tally.counts() == {"x": 16_000}


def test_of_many_names_the_further_ones_are_counted_together():
    tally = Tally()
    for number in range(300):
        tally.add(str(number))
    tally.add("0")
    counts = tally.counts()
    assert len(counts) == 257
    assert counts["0"] == 2
    assert counts["other"] == 44
