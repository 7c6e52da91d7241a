"""What detectors look for: patterns with a name, lists of terms, and what engines find."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

MAX_CHARS = 256


class _Named:
    """What has an id, ``detector.what``, and a type that is shown."""

    __slots__ = ()
    id: str
    type: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", self.type or self.id.rpartition(".")[2].upper())

    @property
    def detector(self) -> str:
        """The detector that it belongs to."""
        return self.id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Rule(_Named):
    r"""What one detector looks for, under one name.

    ``id`` is the detector and what it finds, ``pattern`` is in RE2's syntax and takes the longest match at the leftmost
    place, of at most ``max_chars`` characters. ``check`` gets the text of such a match and says how many of its first
    characters are one. 0: it is none, and the search goes on behind its first character. -n: it is none, and none
    begins within its first n characters. ``keywords`` are lower-case literals of which every match of the pattern holds
    at least one, whatever its case. ``type`` stands for ``{type}`` in a replacement; it is the last part of the id
    where it is not set.

    >>> Rule("pii.ssn", r"\b\d{3}-\d{2}-\d{4}\b").type
    'SSN'
    """

    id: str
    pattern: str
    type: str = ""
    check: Callable[[str], int] | None = None
    keywords: tuple[str, ...] = ()
    max_chars: int = MAX_CHARS


@dataclass(frozen=True, slots=True)
class Terms(_Named):
    """Words and phrases, compared without case; with ``match="word"`` not where they are parts of longer words."""

    id: str
    terms: tuple[str, ...]
    match: Literal["word", "substring"] = "word"
    type: str = ""


@dataclass(frozen=True, slots=True)
class Spans(_Named):
    """What an engine finds that is no pattern, such as one for named entities.

    ``find`` gets one line of a text, as detectors read it and without its end, and gives start, end and entity type of
    what it finds, in characters; the same line must always give the same. ``type`` says which of its types this rule
    takes, compared without case; others are left to other rules with the same ``find``, which runs once for them all.

    >>> Spans("pii.person", lambda line: [(0, 3, "PERSON")]).type
    'PERSON'
    """

    id: str
    find: Callable[[str], Iterable[tuple[int, int, str]]]
    type: str = ""


AnyRule = Rule | Terms | Spans


@dataclass(frozen=True, slots=True)
class Match:
    """Where a rule matched: ``text[start:end]``."""

    start: int
    end: int
    rule: AnyRule
