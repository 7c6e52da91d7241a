"""``neuro-mw demo``: the main job on an embedded model, without a key and without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator

from neuro_mw import MiddlewareFactory, Params, Part, Response
from neuro_mw.providers.echo import EchoModel

from .options import Debug, Json
from .output import is_plain, show, show_json
from .run import ask, document, show_plan

PRESET = "all"
CARD = "4111 1111 1111 1111"  # a test number of all card networks
SECRET = "sk-proj-" + "demo7f3a9c51e2b84d60"  # made up
PROMPT = f"I am Ada, and {CARD} is the number of my card. What is the key of the demo account?"
ANSWER = (
    f"It is {SECRET}, and I should not have said so. I say it in pieces of three characters, so it leaves me cut "
    "across chunks: none of them holds a key, all of them together do."
)
_CHUNK_CHARS = 3
_LATENCY_S = 1.5


class LeakyModel(EchoModel):
    """A model that gives away a key, whatever it is asked, and remembers what that was.

    >>> import asyncio
    >>> SECRET in asyncio.run(LeakyModel().generate({"messages": []})).text
    True
    """

    heard = ""

    async def generate(self, params: Params, /) -> Response:
        """The leak, whole."""
        return await super().generate(self._instead(params))

    async def stream(self, params: Params, /) -> AsyncIterator[Part]:
        """The leak, in pieces."""
        async for part in super().stream(self._instead(params)):
            yield part

    def _instead(self, params: Params) -> Params:
        self.heard = " ".join([message["content"] for message in params["messages"]])
        return {"messages": [{"role": "user", "content": ANSWER}]}


def demo(as_json: Json = False, debug: Debug = False) -> None:
    """See the preset "all" at work: a live answer with a key redacted in mid-stream, the chain, stats, the receipt."""
    slow = not (as_json or is_plain())
    model = LeakyModel(chunk_chars=_CHUNK_CHARS, latency=_LATENCY_S if slow else 0.0)
    factory = MiddlewareFactory(preset=PRESET, plugins=False)
    wrapped = factory.apply_middleware(model)
    if not as_json:
        show(_heading("The prompt"), PROMPT, "")
        show(_heading("What you get: the answer through the chain, live"))
    response = ask(factory, wrapped, PROMPT, stream=True, live=not as_json)
    if as_json:
        show_json(document(factory, wrapped, response, plan=True))
        return
    from neuro_mw.display import receipt_table, stats_table

    plain = is_plain()
    show("", _heading("What the model was sent"), model.heard)
    show(f"\nThe model sent the key as {_pieces(SECRET)}: the guardrails held back what could become a key, no more.\n")
    show(_heading("The chain, outermost first, and why"))
    show_plan(wrapped)
    stats = stats_table(factory.registry.get_aggregated_stats(), wrapped.stats(), plain=plain)
    show("", _heading("What each middleware did"), stats)
    show("", _heading("What was found, by channel and rule"), str(response.metadata["guardrails"]))
    if response.receipt is not None:
        show("", _heading("The receipt of this call: proof without a word of its text"))
        show(receipt_table(response.receipt, plain=plain))
    show("", "Next: neuro-mw run 'hello' --stats   neuro-mw list   neuro-mw explain --model openai/gpt-4o")


def _pieces(secret: str) -> str:
    """The pieces in which the model sends its answer, where they hold `secret`."""
    start, end = ANSWER.index(secret), ANSWER.index(secret) + len(secret)
    first = start - start % _CHUNK_CHARS
    return " ".join(repr(ANSWER[at : at + _CHUNK_CHARS]) for at in range(first, end, _CHUNK_CHARS))


def _heading(text: str) -> object:
    from rich.text import Text

    return Text(f"# {text}" if is_plain() else text, style="bold underline")
