"""extract_reasoning: what a model thinks between tags in its text goes to the channel of reasoning."""

from __future__ import annotations

from pydantic import BaseModel, Field

from neuro_mw import (
    Finish,
    Middleware,
    MiddlewareContext,
    Params,
    Part,
    ReasoningDelta,
    TextDelta,
)

from ._catalog import CATALOG


class ExtractReasoning(Middleware):
    """Takes ``<think>...</think>`` out of the text and gives what stands in it as reasoning, wherever a chunk is cut.

    In a stream, only what may be the beginning of a tag is held back, and the parts that came behind it. Tags are as
    they are written here: in this case, without white space or attributes. Within reasoning an opening tag is plain
    text, and so is a closing tag outside of it. Where a tag is not closed, the rest is reasoning. Other channels are
    not looked at, and what the provider itself gave as reasoning stays.

    Nothing is trimmed. ``separator`` stands between the stretches of text on both sides of a block, and between two
    stretches of reasoning, also after that of the provider; not before the first or behind the last of them, nor for
    an empty one. It counts the blocks as "blocks", and those that were not closed as "unclosed".

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> model = MiddlewareFactory(preset=None, middleware=[ExtractReasoning()]).apply_middleware("echo/echo")
    >>> response = asyncio.run(model.generate("<think>It is even.</think>42"))
    >>> response.reasoning, response.text
    ('It is even.', '42')
    """

    metadata = CATALOG["extract_reasoning"]

    class Config(BaseModel):
        """Options of extract_reasoning."""

        tag: str = Field(default="think", pattern=r"^[^\s<>/]+$", max_length=100)
        """The name of the tag, without brackets."""
        separator: str = "\n"
        """What stands between two stretches of one channel; it may be empty."""
        start_with_reasoning: bool = Field(default=False, strict=True)
        """Whether answers begin within reasoning, as those of models whose template has opened the tag."""

    config: Config

    def transform_parts(self, params: Params, context: MiddlewareContext) -> ReasoningStep:
        """The step that holds for both modes."""
        config = self.config
        return ReasoningStep(self, context, config.tag, config.separator, inside=config.start_with_reasoning)


class ReasoningStep:
    """One answer: its text is cut at the tags."""

    __slots__ = ("_alone", "_behind", "_blocks", "_context", "_gap", "_held", "_inside", "_middleware", "_said",
                 "_separator", "_tags")  # fmt: skip

    def __init__(
        self, middleware: Middleware, context: MiddlewareContext, tag: str, separator: str, *, inside: bool
    ) -> None:
        self._middleware, self._context, self._separator, self._inside = middleware, context, separator, inside
        self._tags = (f"<{tag}>", f"</{tag}>")  # what ends a stretch outside, and inside
        self._held = ""  # the end of the text so far, where it may be the beginning of a tag
        self._behind: list[Part] = []  # what came after that
        self._said = [False, False]  # whether anything stands in the text, in the reasoning
        self._gap = True  # nothing has left since the last tag
        self._blocks = int(inside)
        self._alone: list[str] | None = [] if inside else None  # the text, as long as it came without a tag

    def feed(self, part: Part) -> Part | list[Part]:
        """What leaves for a part; other channels wait for their turn only where something is held."""
        if not isinstance(part, TextDelta):
            return self._other(part)
        text = part.text
        if self._alone is not None:
            self._alone.append(text)
        if self._held or ("<" in text and _has_tag(text, self._tags[self._inside])):
            return self._cut(text)
        if text and (self._inside or self._gap):
            if self._inside or self._said[False]:
                return self._piece(text)
            self._gap, self._said[False] = False, True
        return part

    def finish(self) -> list[Part]:
        """What was held is no tag."""
        leaving = self.held()
        self.abort()
        return leaving

    def held(self) -> list[Part]:
        """What is held now."""
        return [self._delta(self._held), *self._behind] if self._held else []

    def abort(self) -> None:
        """Drop what was held."""
        self._held, self._behind = "", []

    def _other(self, part: Part) -> Part | list[Part]:
        if isinstance(part, Finish):
            return self._end(part)
        if self._held:
            self._behind.append(part)
            return []
        if isinstance(part, ReasoningDelta) and part.text:
            self._said[True] = True
        return part

    def _end(self, finish: Finish) -> Part | list[Part]:
        if self._blocks:
            self._middleware.count("blocks", self._blocks)
        if not self._inside:
            return finish
        self._middleware.count("unclosed")
        said = "".join(self._alone) if finish.blocked is not None and self._alone else ""
        if said and said in self._context.refusals:  # and no model's thoughts
            return [TextDelta(said), finish]
        return finish

    def _cut(self, text: str) -> list[Part]:
        """A text goes to its channels; what may be the beginning of a tag is held."""
        leaving: list[Part] = []
        at, text = 0, self._held + text
        while True:
            tag = self._tags[self._inside]
            found = text.find(tag, at)
            end = found if found >= 0 else _whole_until(text, at, tag)
            if self._held and (end or found == 0):  # it is decided what that was: what came behind it may leave
                if end:
                    leaving.append(self._piece(self._held))
                    at = len(self._held)
                leaving += self._released()
            if end > at:
                leaving.append(self._piece(text[at:end]))
            if found < 0:
                self._held = text[end:]
                return leaving
            at = end + len(tag)
            self._inside, self._gap, self._alone = not self._inside, True, None
            self._blocks += self._inside

    def _piece(self, text: str) -> Part:
        """A stretch of the channel at hand leaves."""
        delta = self._delta(text)
        self._gap, self._said[self._inside] = False, True
        return delta

    def _delta(self, text: str) -> Part:
        """The same, behind the separator where there was one before."""
        if self._gap and self._said[self._inside]:
            text = self._separator + text
        return ReasoningDelta(text) if self._inside else TextDelta(text)

    def _released(self) -> list[Part]:
        behind = self._behind
        self.abort()
        if any(isinstance(part, ReasoningDelta) and part.text for part in behind):
            self._said[True] = True
        return behind


def _has_tag(text: str, tag: str) -> bool:
    """Whether a tag is in a text, or may begin at its end."""
    return tag in text or _whole_until(text, 0, tag) < len(text)


def _whole_until(text: str, at: int, tag: str) -> int:
    """Where what may be the beginning of a tag begins; the end of the text if nothing is."""
    last = text.rfind("<", max(at, len(text) - len(tag) + 1))  # a tag has it at its beginning alone
    return last if last >= 0 and tag.startswith(text[last:]) else len(text)
