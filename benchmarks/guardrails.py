"""What guardrails cost, by number of terms, by detector, for whole texts and for streams; and what they find."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from itertools import repeat
from pathlib import Path
from statistics import mean
from time import thread_time_ns as clock
from typing import Any, NamedTuple

from neuro_mw import MiddlewareContext, MiddlewareFactory, TextDelta
from neuro_mw.builtin.guardrails import Rule, RuleSet, Terms, injection, pii, secrets
from neuro_mw.builtin.guardrails.guard import Guardrails

from . import guardrails_texts as texts
from .guardrails_accuracy import rows as accuracy
from .measure import QUICK, Pace, Row, Slice, calling, measure, row

COUNTS = (10, 1_000, 10_000, 100_000)
SIZE, CHUNK = 4096, 4
MEGABYTE = 1_000_000

# Patterns that take backtracking engines exponential or cubic time, each with texts that it nearly matches (OWASP and
# CWE-1333 have most of them). Of several texts, the dearest is reported.
REDOS: dict[str, tuple[str, ...]] = {
    r"(a+)+$": ("a", "a" * 40 + "!", "a" * 300 + "!"),
    r"(a|aa)+$": ("a", "a" * 40 + "!", "a" * 300 + "!"),
    r"(a|a?)+$": ("a", "a" * 40 + "!", "a" * 300 + "!"),
    r"([a-zA-Z]+)*$": ("aB", "aB" * 20 + "!", "aB" * 150 + "!"),
    r"^(([a-z])+.)+[A-Z]([a-z])+$": ("a", "a" * 40 + "A"),
    r"(\d+)*x": ("1", "1" * 40 + " ", "1" * 300 + " "),
    r"\s+$": (" ", " " * 40 + "x", " " * 300 + "x"),
    r"(x+x+)+y": ("x", "x" * 40 + " ", "x" * 300 + " "),
    r"(.*a){20}": ("a", "a" * 19 + "\n", "a!", "b"),
}


class Case(NamedTuple):
    """One row to be: what runs, and the case that its ratio is taken to."""

    what: str
    run: Slice
    base: str = ""
    against: str = ""
    budget: Mapping[str, float] = {}


async def _table(cases: list[Case], pace: Pace, per: int = 1, unit: str = "us") -> list[Row]:
    found = await measure({one.what: one.run for one in cases}, pace, per=per)
    return [row(one.what, found[one.what], found.get(one.base), one.against, unit=unit, **one.budget) for one in cases]


def rows(pace: Pace, data: Path | None = None) -> list[Row]:
    """The figures; `data` is the folder of labelled sets."""
    return [*asyncio.run(_speed(pace)), *accuracy(data, quick=pace == QUICK)]


async def _speed(pace: Pace) -> list[Row]:
    sets = {name: RuleSet(rules) for name, rules in _rules().items()}
    guardrails = Guardrails(MiddlewareFactory(plugins=False).presets["all"].middleware["guardrails"]["config"])
    return [
        *await _table(_whole(sets), pace),
        *await _table(_chunks(sets, guardrails), pace, SIZE // CHUNK),
        *_held(sets["pii and 1,000 terms"], guardrails),
        *await _redos(pace),
    ]


def _rules() -> dict[str, list[Rule | Terms]]:
    """What is measured, by name."""
    found: dict[str, list[Rule | Terms]] = {
        "pii": [*pii.rules()], "secrets": [*secrets.rules()], "injection": [*injection.rules()],
    }  # fmt: skip
    for count in COUNTS:
        found[_terms(count)] = [Terms("bad_words", texts.terms(count))]
        found[f"pii and {_terms(count)}"] = [*found["pii"], *found[_terms(count)]]
    return found


def _terms(count: int) -> str:
    return f"{count:,} terms"


# --- whole texts -------------------------------------------------------------------------------------------------


def _whole(sets: dict[str, RuleSet]) -> list[Case]:
    prose = texts.prose(SIZE)
    cases = [_by_count(n, " over 4 KB", calling(sets[_terms(n)].scan, prose), 100) for n in COUNTS]
    further = {
        "prose full of numbers": texts.numbered(SIZE),
        "prose with accents": texts.accented(SIZE),
        "code": texts.source(SIZE),
    }
    limits = {"1,000 terms": {"max_value": 100}, "pii": {"max_value": 100}, "secrets": {"max_value": 300}}
    for name in ("1,000 terms", "pii", "secrets", "injection"):
        limit, base = limits.get(name, {}), f"{name} over 4 KB"
        if name != "1,000 terms":
            cases.append(Case(base, calling(sets[name].scan, prose), budget=limit))
        for what, text in further.items():
            cases.append(Case(f"{base} of {what}", calling(sets[name].scan, text), base, "prose", limit))
    for name, text, limit in (
        ("pii", texts.dense_pii(SIZE), {"max_value": 1500}),
        ("secrets", texts.dense_secrets(SIZE), {}),
    ):
        what = f"{name} over 4 KB, dense: {len(sets[name].scan(text))} found"
        cases.append(Case(what, calling(sets[name].scan, text), f"{name} over 4 KB", "prose", limit))
    return cases


def _by_count(count: int, where: str, run: Slice, limit_us: float) -> Case:
    """A thousand terms are bounded; any other number of them may hardly cost more."""
    if count == 1_000:
        return Case(f"1,000 terms{where}", run, budget={"max_value": limit_us})
    return Case(f"{_terms(count)}{where}", run, f"1,000 terms{where}", "1,000 terms", {"max_ratio": 1.5})


# --- streams -----------------------------------------------------------------------------------------------------


def _chunks(sets: dict[str, RuleSet], guardrails: Guardrails) -> list[Case]:
    prose = texts.prose(SIZE)
    cases = [_by_count(n, ", each chunk", _feeding(sets[_terms(n)], prose), 5) for n in COUNTS]
    pii_base, both = "pii, each chunk", "pii and 1,000 terms, each chunk"
    return [
        *cases,
        Case("1,000 terms, each chunk with accents", _feeding(sets["1,000 terms"], texts.accented(SIZE)),
             "1,000 terms, each chunk", "prose", {"max_value": 5}),
        Case(pii_base, _feeding(sets["pii"], prose), budget={"max_value": 15}),
        Case("pii, each chunk full of numbers", _feeding(sets["pii"], texts.numbered(SIZE)), pii_base, "prose",
             {"max_value": 15}),
        Case("pii, each chunk, dense", _feeding(sets["pii"], texts.dense_pii(SIZE)), pii_base, "prose"),
        Case(both, _feeding(sets["pii and 1,000 terms"], prose)),
        Case("pii and 100,000 terms, each chunk", _feeding(sets["pii and 100,000 terms"], prose), both, "1,000 terms",
             {"max_ratio": 1.5}),
        Case("secrets, each chunk", _feeding(sets["secrets"], prose)),
        Case("injection, each chunk", _feeding(sets["injection"], prose)),
        Case("the whole step, settings of `all`, each chunk", _stepping(guardrails, prose), pii_base, "pii"),
    ]  # fmt: skip


def _cut(text: str) -> list[str]:
    return [text[at : at + CHUNK] for at in range(0, len(text), CHUNK)]


def _feeding(rules: RuleSet, text: str) -> Slice:
    """A stream of a text, from its beginning to its end."""
    chunks = _cut(text)

    async def run(times: int) -> int:
        started = clock()
        for _ in repeat(None, times):
            stream = rules.stream()
            for chunk in chunks:
                stream.feed(chunk)
            stream.finish()
        return clock() - started

    return run


def _stepping(guardrails: Guardrails, text: str) -> Slice:
    """The same through the middleware, part by part."""
    parts = [TextDelta(chunk) for chunk in _cut(text)]

    async def run(times: int) -> int:
        started = clock()
        for _ in repeat(None, times):
            step = _step(guardrails)
            for part in parts:
                step.feed(part)
            step.finish()
        return clock() - started

    return run


def _step(guardrails: Guardrails) -> Any:
    return guardrails.transform_parts({}, MiddlewareContext("bench", "model", mode="stream"))


def _held(rules: RuleSet, guardrails: Guardrails) -> list[Row]:
    """How many characters wait on average behind each chunk. This is no time."""
    size, table = 10 * SIZE, []
    for what, text in (("prose", texts.prose(size)), ("numbers", texts.numbered(size)), ("code", texts.source(size))):
        average = mean(_waiting(rules, text))
        table.append(Row(f"held with pii and 1,000 terms, {what}", average, average, unit="chars", max_value=5))
    average = mean(_waiting_in_step(guardrails, texts.prose(size)))
    return [*table, Row("held with the settings of `all`, prose", average, average, unit="chars")]


def _waiting(rules: RuleSet, text: str) -> Iterator[int]:
    stream = rules.stream()
    for chunk in _cut(text):
        stream.feed(chunk)
        yield len(stream.held)


def _waiting_in_step(guardrails: Guardrails, text: str) -> Iterator[int]:
    """For a text that nothing is replaced in: what came less what left."""
    step, waiting = _step(guardrails), 0
    for chunk in _cut(text):
        waiting += len(chunk) - sum(len(part.text) for part in step.feed(TextDelta(chunk)))
        yield waiting


# --- patterns that others cannot afford --------------------------------------------------------------------------


async def _redos(pace: Pace) -> list[Row]:
    sets = {pattern: RuleSet([Rule("regex_patterns.0", pattern)]) for pattern in REDOS}
    cases = {(pattern, unit): _filled(unit) for pattern, units in REDOS.items() for unit in units}
    slices = {f"{one} {unit}": calling(sets[one].scan, text) for (one, unit), text in cases.items()}
    found = await measure(slices, pace, per=1000)  # the thousandth of a megabyte in microseconds: one in milliseconds
    table = []
    for pattern, units in REDOS.items():
        unit = max(units, key=lambda unit: found[f"{pattern} {unit}"].median)
        matches = len(sets[pattern].scan(cases[pattern, unit]))
        what = f"1 MB against {pattern}: {matches:,} found"
        table.append(row(what, found[f"{pattern} {unit}"], max_value=10, unit="ms"))
    count = 10_000
    every = Case(r"(\d+)*x where every character is a match, each", calling(sets[r"(\d+)*x"].scan, "x" * count))
    return [*table, *await _table([every], pace, count)]


def _filled(unit: str) -> str:
    return (unit * (MEGABYTE // len(unit) + 1))[:MEGABYTE]
