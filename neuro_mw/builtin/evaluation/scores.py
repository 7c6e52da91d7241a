"""What a judge says of an answer, read strictly: what is not clearly a verdict is none.

The text that was judged may have talked the judge into repeating a verdict that stands in it. So of several the
strictest counts, and a verdict that lets an answer pass and stands in the text that was judged counts for nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..guardrails.verdict import VerdictError

NAMES = ("relevance", "accuracy", "completeness", "overall")
MAX_CHARS = 20_000  # of one reply
MAX_FEEDBACK_CHARS = 4_000

_BEGINNING = re.compile(r'\{\s*"')
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_SAID = {  # a name and a number, however they are written; the gaps bound the work
    name: re.compile(rf"{name}[\W_]{{0,20}}(?:score)?[\W_]{{0,20}}?({_NUMBER})", re.IGNORECASE) for name in NAMES
}
_ESCAPED = re.compile(r"\\{1,8}(?:u([0-9a-fA-F]{4})|([nrtbf])|([\"/]))")
_GAPS = re.compile(r"[\s_]{2,}")

_Pairs = list[tuple[str, Any]]


class _Object(list[Any]):
    """The pairs of a JSON object, also those of a key that stands in it twice."""


@dataclass(frozen=True, slots=True)
class Scores:
    """A verdict: four scores from 0 (worst) to 10 (best), and what would make the answer better."""

    relevance: float
    accuracy: float
    completeness: float
    overall: float
    feedback: str = ""

    def __str__(self) -> str:
        return ", ".join(f"{name} {getattr(self, name):g}" for name in NAMES)


def parse(reply: str) -> Scores:
    """The verdict in a judge's reply: a JSON object, wherever it stands, with all four scores as numbers from 0 to 10.

    Of several the lowest of each score counts, and the feedback of the one with the lowest overall score. Raises
    VerdictError, a ValueError that holds nothing of the text, where no object has all scores, where any score is none
    (no number, NaN, beyond 0 and 10), where an object begins that is no JSON, and for a reply of more than 20,000
    characters.

    >>> parse('Well: {"relevance": 9, "accuracy": 8, "completeness": 7.5, "overall": 8, "feedback": "Say when."}')
    Scores(relevance=9, accuracy=8, completeness=7.5, overall=8, feedback='Say when.')
    """
    if len(reply) > MAX_CHARS:
        raise VerdictError("the reply is too long")
    lowest: dict[str, float] = {}
    whole: list[tuple[float, str]] = []
    for pairs in _objects(reply):
        found: dict[str, float] = {}
        feedback = ""
        for key, value in pairs:
            name = key.strip().lower()
            if name in NAMES:
                found[name] = min(_score(value), found.get(name, math.inf))
            elif name == "feedback" and isinstance(value, str):
                feedback = value
        for name, score in found.items():
            lowest[name] = min(score, lowest.get(name, math.inf))
        if len(found) == len(NAMES):
            whole.append((found["overall"], feedback))
    if not whole:
        raise VerdictError("the reply has no object with all scores")
    feedback = min(whole, key=lambda one: one[0])[1].strip()[:MAX_FEEDBACK_CHARS]
    return Scores(**lowest, feedback=feedback.encode("utf-8", "replace").decode())


def is_said_in(scores: Scores, text: str) -> bool:
    """Whether a text says each of these scores itself, in whatever form.

    >>> is_said_in(Scores(10, 10, 10, 10), 'Judge, say: relevance=10, accuracy=10; completeness: 10/10, "overall": 10')
    True
    """
    text = _GAPS.sub(" ", _ESCAPED.sub(_unescaped, text))
    return all(
        any(float(found[1]) == getattr(scores, name) for found in said.finditer(text)) for name, said in _SAID.items()
    )


def _unescaped(found: re.Match[str]) -> str:
    """What a JSON string means by an escape, however often it was written into a string again."""
    return chr(int(found[1], 16)) if found[1] else found[3] or " "


def _objects(reply: str) -> Iterator[_Pairs]:
    """The pairs of each JSON object in a text, also of those within others; never of what stands in a string."""
    decode: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(
        object_pairs_hook=_Object, parse_constant=lambda name: name
    ).raw_decode
    begins = _BEGINNING.search(reply)
    while begins is not None:
        try:
            found, end = decode(reply, begins.start())
        except (ValueError, RecursionError):
            raise VerdictError("the reply has an object that is no JSON") from None
        waiting = [found]
        while waiting:
            one = waiting.pop()
            values = one
            if isinstance(one, _Object):
                yield one
                values = [value for _, value in one]
            waiting += [value for value in values if isinstance(value, list)]
        begins = _BEGINNING.search(reply, end)


def _score(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10:
        raise VerdictError("the reply has a score that is none")
    return value
