"""An answer that is judged as it comes: its text flows, and at its end it is said whether it is the value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from neuro_mw import Finish, Part, TextDelta, ToolCallDelta

from .finding import Finder, values_in
from .judging import judged
from .problems import UnfitError
from .schemas import Schema


class JudgingStep:
    """One answer. With ``strip`` only the JSON leaves: what is before it is held, as it may be all there is.

    An object or an array leaves as it comes. Where the schema takes other values too, only the whole text tells, so all
    of it is held. Other parts wait behind a text that is held. ``settle`` gets the value, or what is wrong, and gives
    the metadata of the answer, or raises.
    """

    __slots__ = ("_behind", "_calls", "_finder", "_held", "_said", "_schema", "_settle", "_strip")

    def __init__(self, schema: Schema, settle: Callable[[Any], dict[str, Any]], *, strip: bool) -> None:
        self._schema, self._settle, self._strip = schema, settle, strip
        self._finder = Finder(schema.kinds.openings) if strip and not schema.kinds.scalar else None
        self._calls = False
        self._said: list[str] = []  # what has left
        self._held: list[str] = []  # the text that has not
        self._behind: list[Part] = []

    def feed(self, part: Part) -> Part | list[Part]:
        """What leaves for a part. Raises what `settle` raises, at Finish."""
        if isinstance(part, TextDelta):
            return self._text(part, part.text)
        if isinstance(part, Finish):
            return part if part.blocked is not None or self._calls else self._judged(part)
        if isinstance(part, ToolCallDelta):
            self._calls = True
        if self._held:
            self._behind.append(part)
            return []
        return part

    def finish(self) -> list[Part]:
        """What was held; where it is the value, that alone."""
        if self._held and self._finder is None:
            try:
                texts = values_in("".join(self._held), self._schema.kinds)
                self._held = [judged(self._schema, texts, "stop")[1]]
            except UnfitError:  # that is said at Finish
                pass
        leaving = self.held()
        self._said += self._held
        self.abort()
        return leaving

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
        found = "" if self._finder is None else self._finder.feed(text)
        if self._finder is None or not self._finder.begun:
            if text:
                self._held.append(text)
            return []
        if not found:
            return []
        self._said.append(found)
        if found == text and not self._held:
            return part
        behind = self._behind  # what was held before was prose
        self.abort()
        return [*behind, TextDelta(found)]

    def _judged(self, finish: Finish) -> Finish:
        texts = values_in("".join(self._said), self._schema.kinds)
        try:
            found: Any = judged(self._schema, texts, finish.reason)[0]
        except UnfitError as error:
            found = error
        return replace(finish, metadata={**finish.metadata, **self._settle(found)})
