"""An answer that is judged as it comes: its text flows, and at its end it is said whether it is the value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from neuro_mw import Finish, Params, Part, TextDelta, ToolCallDelta

from .finding import Finder, values_in
from .judging import is_on_the_way, judged
from .problems import UnfitError
from .schemas import Schema


class JudgingStep:
    """One answer. With ``strip`` only the JSON leaves: what is before it is held, as it may be all there is.

    An object or an array leaves as it comes. Where the schema takes other values too, only the whole text tells, so all
    of it is held. What is behind an object that nothing was before is held, so that an answer that is not judged may
    leave as it came. Other parts wait behind a text that is held. ``settle`` gets the value, or what is wrong, and
    gives the metadata of the answer, or raises.
    """

    __slots__ = ("_behind", "_finder", "_held", "_names", "_params", "_said", "_schema", "_settle", "_strip", "_whole")

    def __init__(
        self, schema: Schema, settle: Callable[[Any], dict[str, Any]], params: Params, *, strip: bool
    ) -> None:
        self._schema, self._settle, self._params, self._strip = schema, settle, params, strip
        self._finder = Finder(schema.kinds.openings) if strip and not schema.kinds.scalar else None
        self._whole = True  # nothing of the text was dropped
        self._names: dict[int, Any] = {}  # of the calls
        self._said: list[str] = []  # what has left
        self._held: list[str] = []  # the text that has not
        self._behind: list[Part] = []

    def feed(self, part: Part) -> Part | list[Part]:
        """What leaves for a part. Raises what `settle` raises, at Finish."""
        if isinstance(part, TextDelta):
            return self._text(part, part.text)
        if isinstance(part, Finish):
            passes = part.blocked is not None or is_on_the_way(self._names.values(), self._params)
            leaving = [*self.held(), part] if passes else self._judged(part)
            self.abort()
            return leaving
        if isinstance(part, ToolCallDelta):
            self._names[part.index] = self._names.get(part.index) or part.name
        if self._held:
            self._behind.append(part)
            return []
        return part

    def finish(self) -> list[Part]:
        """Nothing: what is held leaves when Finish is fed, which says whether the answer is judged."""
        return []

    def held(self) -> list[Part]:
        """What is held now."""
        return [*map(TextDelta, self._held), *self._behind]

    def abort(self) -> None:
        """Drop what was held."""
        self._held, self._behind = [], []

    def _text(self, part: Part, text: str) -> Part | list[Part]:
        if not self._strip:
            self._said.append(text)
            return part
        finder = self._finder
        if not text:
            return []
        if finder is None or finder.ended:
            if self._whole:
                self._held.append(text)
            return []
        begins, found = not finder.begun, finder.feed(text)
        if not finder.begun:
            self._held.append(text)
            return []
        if begins:
            self._whole = len(found) + len(finder.rest) == sum(map(len, self._held)) + len(text)
        self._said.append(found)
        if found == text and not self._held:
            return part
        behind = self._behind  # what was held before was prose, or is in what was found
        self.abort()
        if finder.rest and self._whole:
            self._held.append(finder.rest)
        return [*behind, TextDelta(found)]

    def _judged(self, finish: Finish) -> list[Part]:
        """What leaves of an answer that fits. What is held stays so where `settle` raises."""
        said = "".join(self._held if self._strip and self._finder is None else self._said)
        try:
            found, text = judged(self._schema, values_in(said, self._schema.kinds), finish.reason)
        except UnfitError as error:
            found, text = error, said
        finish = replace(finish, metadata={**finish.metadata, **self._settle(found)})
        return [*([TextDelta(text)] if self._strip and self._finder is None else ()), *self._behind, finish]
