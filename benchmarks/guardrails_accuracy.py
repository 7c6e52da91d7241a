"""What guardrails find: on labelled sets where they are there, and on benign code, logs and JSON.

A span that is labelled is found where a match of its type overlaps it; a match that overlaps no span of its type is
false. Matches are the leftmost, the longest there, and do not overlap. Sums over all types are micro sums.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from math import inf, nan
from pathlib import Path
from typing import Any

from neuro_mw.builtin.guardrails import RuleSet, injection, pii, secrets

from . import guardrails_texts as texts
from .measure import Row

TYPES = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "credit_card",
    "IBAN_CODE": "iban",
    "US_SSN": "ssn",
    "IP_ADDRESS": "ip",
    "MAC_ADDRESS": "mac",
}
"""Entity types of presidio-research that need no model, and what they are here."""

SPANS = {"synth_dataset_v2": 0.92, "generated_large": 0.98, "generated_small": None}
"""Files of presidio-research, with the least F1 that is asked for."""

MAX_TRIPPED = 2.0  # per cent of benign prompts


@dataclass(slots=True)
class Score(Row):
    """How well a type is found: the median is F1."""

    precision: float = nan
    recall: float = nan
    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    min_value: float | None = None

    @property
    def budget(self) -> str:
        return "" if self.min_value is None else f">= {self.min_value:g}"

    @property
    def verdict(self) -> str:
        if self.min_value is None:
            return ""
        return "met" if self.median >= self.min_value else "MISSED"


@dataclass(slots=True)
class Absent(Row):
    """What could not be measured, and why."""

    why: str = ""

    @property
    def verdict(self) -> str:
        return self.why

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "median": None, "least": None, "budget": "", "verdict": self.why}


def rows(data: Path | None, *, quick: bool) -> list[Row]:
    """The tables; `data` is the folder of the labelled sets."""
    detectors = {
        "pii": RuleSet(pii.rules()), "secrets": RuleSet(secrets.rules()), "injection": RuleSet(injection.rules()),
    }  # fmt: skip
    labelled = [_absent("labelled sets", "not measured without --data")] if data is None else _labelled(data, detectors)
    return [*labelled, *_benign(detectors, quick=quick)]


def _absent(what: str, why: str) -> Row:
    return Absent(what, nan, nan, unit="", why=why)


def _labelled(data: Path, detectors: dict[str, RuleSet]) -> list[Row]:
    table: list[Row] = []
    for name, least in SPANS.items():
        file = data / "presidio_synth" / f"{name}.json"
        if not file.is_file():
            table.append(_absent(name, f"not there: {file}"))
            continue
        samples = json.loads(file.read_text("utf-8"))
        table += _scores(name, samples, detectors["pii"], least)
        table += _tripped(name, [one["full_text"] for one in samples], detectors, ("secrets", "injection"))
    for name, path, read in (
        ("notinject", "notinject/NotInject_one.json", _notinject),
        ("xstest safe", "xstest/xstest_prompts.csv", _xstest("safe")),
        ("xstest unsafe", "xstest/xstest_prompts.csv", _xstest("unsafe")),
    ):
        if (file := data / path).is_file():
            table += _tripped(name, read(file), detectors, ("pii", "secrets", "injection"))
        else:
            table.append(_absent(name, f"not there: {file}"))
    return table


def _notinject(file: Path) -> list[str]:
    return [one["prompt"] for one in json.loads(file.read_text("utf-8"))]


def _xstest(label: str) -> Callable[[Path], list[str]]:
    def read(file: Path) -> list[str]:
        with file.open(encoding="utf-8", newline="") as lines:
            return [one["prompt"] for one in csv.DictReader(lines) if one["label"] == label]

    return read


# --- spans -------------------------------------------------------------------------------------------------------


def _scores(name: str, samples: Iterable[dict[str, Any]], rules: RuleSet, least: float | None) -> list[Row]:
    found, false, missed = Counter[str](), Counter[str](), Counter[str]()
    for sample in samples:
        truth = [
            (TYPES[span["entity_type"]], span["start_position"], span["end_position"])
            for span in sample["spans"]
            if span["entity_type"] in TYPES
        ]
        matches = [(_type(one.rule.id), one.start, one.end) for one in rules.scan(sample["full_text"])]
        for span in truth:
            (found if any(_overlap(span, match) for match in matches) else missed)[span[0]] += 1
        false.update(match[0] for match in matches if not any(_overlap(match, span) for span in truth))
    table = [_score(f"{name}, {kind}", found[kind], false[kind], missed[kind]) for kind in pii.TYPES]
    return [*table, _score(f"{name}, all types", found.total(), false.total(), missed.total(), least)]


def _type(rule: str) -> str:
    """The type of a rule: of ``pii.ip.v6``, ip."""
    return rule.split(".")[1]


def _overlap(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    return one[0] == other[0] and one[1] < other[2] and other[1] < one[2]


def _score(what: str, found: int, false: int, missed: int, least: float | None = None) -> Row:
    if not found + false + missed:
        return _absent(what, "no such spans, and none found")
    precision, recall = _share(found, found + false), _share(found, found + missed)
    f1 = 2 * found / (2 * found + false + missed)
    told = f"{what}: P {precision:.3f} R {recall:.3f}, {false} false"
    return Score(
        told, f1, f1, unit="F1", precision=precision, recall=recall,
        true_positives=found, false_positives=false, false_negatives=missed, min_value=least,
    )  # fmt: skip


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


# --- benign texts ------------------------------------------------------------------------------------------------


def _tripped(name: str, prompts: list[str], detectors: dict[str, RuleSet], which: Iterable[str]) -> list[Row]:
    """How many texts of a set without any such thing a detector finds something in."""
    table = []
    for detector in which:
        count = sum(bool(detectors[detector].scan(prompt)) for prompt in prompts)
        percent = 100 * _share(count, len(prompts))
        limit = MAX_TRIPPED if detector == "injection" else None
        what = f"{name}, {detector}: false in {count:,} of {len(prompts):,} texts"
        table.append(Row(what, percent, percent, unit="%", max_value=limit))
    return table


def _benign(detectors: dict[str, RuleSet], *, quick: bool) -> list[Row]:
    """Whatever is found counts as false, be it the address of an author in a comment."""
    size, table = 200_000 if quick else 1_000_000, []
    samples = {"code": texts.code(size if quick else inf), "logs": texts.logs(size), "JSON": texts.records(size)}
    for name, parts in samples.items():
        kept = list(parts)
        total = sum(map(len, kept))
        for detector, rules in detectors.items():
            counts = Counter(_type(match.rule.id) for text in kept for match in rules.scan(text))
            found = [("", counts.total()), *counts.most_common()] if len(counts) > 1 else [("", counts.total())]
            for kind, count in found:
                rate = count / total * 100_000
                what = f"{name} ({total // 1000:,} KB), {' '.join((detector, kind)).rstrip()}: {count:,} found"
                table.append(Row(what, rate, rate, unit="/100KB"))
    return table
