"""How much a request holds and how much it lets the answer be, told from its bytes, without counting tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from neuro_mw.param_names import OUTPUT
from neuro_mw.request_texts import texts_of
from neuro_mw.tokens import GPT_4O_MINI_IMAGE

# What has no tokens of its own in the plainest requests. Others are looked at more closely.
_SETTINGS = frozenset({
    "messages", "model", "temperature", "top_p", "seed", "stop", "n", "stream", "user", "metadata", *OUTPUT,
})  # fmt: skip
_ROLES = ("user", "assistant", "system", "tool", "developer")
_BYTES_PER_TOKEN = 4  # of English prose, and about so of other scripts
_AROUND_A_MESSAGE = 16  # tokens, more than its role and what stands around it


class Size(NamedTuple):
    """What a request holds: bytes of text, messages, tokens of what is no text, parts that cannot be counted."""

    bytes: int
    messages: int
    more: int = 0
    uncounted: int = 0

    @property
    def at_most(self) -> int:
        """More tokens than it can be, uncounted parts apart: no encoding makes two of one byte."""
        return self.bytes + _AROUND_A_MESSAGE * (self.messages + 1) + self.more

    @property
    def about(self) -> int:
        """About how many tokens it is."""
        return self.bytes // _BYTES_PER_TOKEN + 4 * self.messages + self.more + 3


def size_of(params: Mapping[str, Any], model: str) -> Size:
    """The size of a request, at a cost that hardly grows with it.

    >>> size_of({"messages": [{"role": "user", "content": "hello"}]}, "gpt-4o").at_most
    37
    """
    messages = params.get("messages")
    if type(messages) is list and params.keys() <= _SETTINGS:
        size = 0
        for message in messages:
            plain = type(message) is dict and len(message) == 2 and message.get("role") in _ROLES
            content = message.get("content") if plain else None
            if type(content) is not str:
                break
            size += len(content) if content.isascii() else len(content.encode("utf-8", "surrogatepass"))
        else:
            return _size(size, len(messages))
    factor = GPT_4O_MINI_IMAGE if model.rpartition("/")[2].lower().startswith("gpt-4o-mini") else 1.0
    found = texts_of(params, factor)
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in found.texts)
    return Size(size, len(messages) if isinstance(messages, list | tuple) else 1, found.more, found.uncounted)


def _size(bytes: int, messages: int) -> Size:
    size: Size = tuple.__new__(Size, (bytes, messages, 0, 0))  # in half the time
    return size


def output_limit(params: Mapping[str, Any]) -> int | None:
    """How long the request allows its answer to be, in tokens; None where it does not say.

    >>> output_limit({"max_tokens": 100}), output_limit({})
    (100, None)
    """
    said = params.get("max_tokens")
    if type(said) is int and 0 < said < 2**53 and "max_completion_tokens" not in params and "extra_body" not in params:
        return said
    said = None
    for name in OUTPUT:
        value = params.get(name)
        if value is not None and _is_limit(value) and (said is None or value > said):
            said = value
    body = params.get("extra_body")  # it goes before what the params say
    inner = output_limit(body) if isinstance(body, Mapping) else None
    if inner is not None:
        return inner if said is None else max(inner, int(said))
    return None if said is None else int(said)


def _is_limit(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**53
