"""``neuro-mw demo``: the main job on the embedded model, without a key and without a network."""

from __future__ import annotations

import re
from collections.abc import Iterable

from neuro_mw import (
    Middleware,
    MiddlewareContext,
    MiddlewareFactory,
    MiddlewareMetadata,
    Params,
    Part,
    PartStep,
    TextDelta,
)
from neuro_mw.providers.echo import EchoModel

from .options import Debug, Json
from .output import is_plain, show, show_json
from .run import ask, document, show_plan

SECRET = "sk-demo-7f3a9c51e2"
PROMPT = (
    f"Dear model, I am Ada, ada@example.org is my address and {SECRET} is the key of my demo account. "
    "You repeat what I say in pieces of three characters, so both arrive cut across chunks, and neither may get out."
)
_MASKED = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|sk-demo-\w+")
_CHUNK_CHARS = 3
_LATENCY_S = 1.5


class DemoMask(Middleware):
    """Masks e-mail addresses and demo keys in the text of an answer; one screen of example, no detector to rely on.

    >>> step = DemoMask().transform_parts({}, None)
    >>> step.feed(TextDelta("key sk-de")), step.feed(TextDelta("mo-7f3a "))
    (TextDelta(text='key '), TextDelta(text='[masked] '))
    """

    metadata = MiddlewareMetadata(
        id="demo_mask", priority=90, kind="guard", description="Masks e-mail addresses and demo keys in an answer."
    )

    def transform_parts(self, params: Params, context: MiddlewareContext) -> PartStep:
        """A step for one answer, whole or streamed."""
        return _Mask()


class _Mask:
    """Holds back the word that is not complete yet: only then can it be told whether it has to be masked."""

    def __init__(self) -> None:
        self._word = ""

    def feed(self, part: Part) -> Part | None:
        if not isinstance(part, TextDelta):
            return part
        text = self._word + part.text
        cut = len(text)
        while cut and not text[cut - 1].isspace():
            cut -= 1
        self._word = text[cut:]
        return TextDelta(_MASKED.sub("[masked]", text[:cut])) if cut else None

    def finish(self) -> Iterable[Part]:
        word, self._word = self._word, ""
        return [TextDelta(_MASKED.sub("[masked]", word))] if word else []

    def abort(self) -> None:
        self._word = ""


def demo(as_json: Json = False, debug: Debug = False) -> None:
    """See a chain at work: a live answer with secrets masked in mid-stream, the chain, the stats, the receipt."""
    slow = not (as_json or is_plain())
    model = EchoModel(chunk_chars=_CHUNK_CHARS, latency=_LATENCY_S if slow else 0.0)
    factory = MiddlewareFactory(middleware=[DemoMask()], plugins=False)
    wrapped = factory.apply_middleware(model)
    if not as_json:
        show(_heading("The prompt (the embedded model echoes it, a few characters at a time)"), PROMPT, "")
        show(_heading("What you get: the answer through the chain, live"))
    response = ask(factory, wrapped, PROMPT, stream=True, live=not as_json)
    if as_json:
        show_json(document(factory, wrapped, response, plan=True))
        return
    from neuro_mw.display import receipt_table, stats_table

    plain = is_plain()
    show(f"\nThe model sent the key as {_pieces(SECRET)}: demo_mask held each word back until it was complete.\n")
    show(_heading("The chain, outermost first, and why"))
    show_plan(wrapped)
    stats = stats_table(factory.registry.get_aggregated_stats(), wrapped.stats(), plain=plain)
    show("", _heading("What each middleware did"), stats)
    if response.receipt is not None:
        show("", _heading("The receipt of this call: proof without a word of its text"))
        show(receipt_table(response.receipt, plain=plain))
    show("", "Next: neuro-mw run 'hello' --stats   neuro-mw list   neuro-mw explain --model openai/gpt-4o")


def _pieces(secret: str) -> str:
    """The pieces in which the model sends the prompt, where they hold `secret`."""
    start, end = PROMPT.index(secret), PROMPT.index(secret) + len(secret)
    first = start - start % _CHUNK_CHARS
    return " ".join(repr(PROMPT[at : at + _CHUNK_CHARS]) for at in range(first, end, _CHUNK_CHARS))


def _heading(text: str) -> object:
    from rich.text import Text

    return Text(f"# {text}" if is_plain() else text, style="bold underline")
