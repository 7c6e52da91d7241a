"""What of a request is text: all that a provider may read, what stands in for images, and what cannot be counted.

    >>> found = texts_of({"messages": [{"role": "user", "content": "hi"}]})
    >>> found.texts, found.more, found.exact
    (['user', 'hi'], 6, True)

A word that is not known here, as a key of the request, of a message or of a part, may well be read by some provider:
what it holds is text then, and the count an estimate. Nothing raises: what has no text, whatever it is, counts nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .param_names import SETTINGS

__all__ = ["RequestTexts", "size_of", "texts_of"]

# OpenAI cookbook, "How to count tokens with tiktoken": each message, a name in it, and what primes the reply
PER_MESSAGE, PER_NAME, PER_REPLY = 3, 1, 3
PER_TOOL_CALL, PER_TOOL = 8, 12  # ours: the cookbook's largest figures for what stands around a function
LOW_IMAGE, IMAGE = 85, 1536  # OpenAI's "low"; else the most of gpt-4.1, more than that of gpt-4o (1,445)

_READ_APART = frozenset({"messages", "tools", "functions", "extra_body"})
_OF_A_MESSAGE = frozenset({"role", "name", "refusal", "content", "tool_calls", "tool_call_id", "cache_control"})
_OF_A_CALL = frozenset({"id", "type", "index", "cache_control", "function", "custom"})
_OF_AN_IMAGE = frozenset({"type", "image_url", "source", "image", "detail", "file_id", "cache_control"})
_IMAGES = ("image_url", "image", "input_image")
_MEDIA = ("input_audio", "audio", "file", "input_file", "document", "video", "video_url", "input_video")
_WORDS = frozenset({"text", "content", "input", "arguments", "thinking", "reasoning_content", "output"})
_DATA = frozenset({"data", "file_data"})
_BASE64 = re.compile(r"[A-Za-z0-9+/_\r\n-]*+={0,2}\s*")  # possessive: no second thoughts, however long
_BASE64_CHARS = 200  # shorter than a signature or any file; a longer word with both cases and digits is hardly one


class RequestTexts:
    """The texts of a request, the tokens of all else (`more`), and whether these are known (`exact`)."""

    def __init__(self, image_factor: float = 1.0) -> None:
        self.texts: list[str] = []
        self.more, self.uncounted = 0, 0
        self.exact = True
        self._image_factor = image_factor

    @property
    def note(self) -> str:
        """What is missing, to be added to the method of a count."""
        return f", without {self.uncounted} audio, file or base64 parts" if self.uncounted else ""

    def read(self, params: Mapping[str, Any]) -> None:
        """Take in a whole request."""
        messages = self._items(params.get("messages"))
        for message in messages:
            self._read_message(message)
        self.more += PER_REPLY if messages else 0
        for kind in ("tools", "functions"):
            for tool in self._items(params.get(kind)):
                self._estimate(PER_TOOL)
                self._read_other(tool)  # as JSON; OpenAI renders them as TypeScript, which is shorter
        self._read_rest(params, SETTINGS | _READ_APART)
        body = params.get("extra_body")
        if isinstance(body, Mapping):  # keys of the request under another roof
            self._read_rest(body, SETTINGS)

    # --- messages and parts ------------------------------------------------------------------------------------------

    def _read_message(self, message: Any) -> None:
        if not isinstance(message, Mapping):
            self.exact = False
            self._read_other(message)
            return
        self.more += PER_MESSAGE + (PER_NAME if message.get("name") else 0)
        for name in ("role", "name", "refusal"):
            self._read_text(message.get(name) or "")
        self._read_content(message.get("content"))
        for call in self._items(message.get("tool_calls")):
            self._read_call(call)
        if message.get("role") == "tool":
            self.exact = False
        if message.get("audio"):
            self.uncounted += 1  # an answer that was heard, by its id
        self._read_rest(message, _OF_A_MESSAGE)

    def _read_call(self, call: Any) -> None:
        self._estimate(PER_TOOL_CALL)
        if not isinstance(call, Mapping):
            self._read_other(call)
            return
        for kind in ("function", "custom"):
            said = call.get(kind)
            for name, value in said.items() if isinstance(said, Mapping) else ((kind, said),):
                self._read_other(value, name)
        self._read_rest(call, _OF_A_CALL)

    def _read_content(self, content: Any) -> None:
        for part in self._items(content):
            if isinstance(part, Mapping):
                self._read_part(part)
            else:
                self._read_text(part)

    def _read_part(self, part: Mapping[str, Any]) -> None:
        kind = str(part.get("type"))
        if kind in ("text", "refusal"):
            self._read_text(part.get(kind))
            self._read_rest(part, {"type", kind, "cache_control"})
        elif kind in _IMAGES:
            self._read_image(part)
            self._read_rest(part, _OF_AN_IMAGE)
        elif kind.endswith("tool_result"):
            self.exact = False
            self._read_content(part.get("content"))
            self._read_rest(part, {"type", "content", "cache_control"})
        else:
            self._estimate(PER_TOOL_CALL if kind.endswith("tool_use") else 0)
            before = self.uncounted
            self._read_rest(part, {"type", "cache_control"})
            source = part.get("source")
            written = isinstance(source, Mapping) and source.get("type") in ("text", "content")
            if kind in _MEDIA and not written and self.uncounted == before:
                self.uncounted += 1  # by its id or address

    def _read_image(self, part: Mapping[str, Any]) -> None:
        image = part.get("image_url")
        low = (image if isinstance(image, Mapping) else part).get("detail") == "low"
        self._estimate(math.ceil((LOW_IMAGE if low else IMAGE) * self._image_factor))

    def _read_text(self, text: Any) -> None:
        if not isinstance(text, str):
            self.exact = False
        elif text:
            self.texts.append(text)

    # --- what is not known by name -----------------------------------------------------------------------------------

    def _read_rest(self, holder: Mapping[str, Any], known: frozenset[str] | set[str]) -> None:
        for name, value in holder.items():
            if name not in known:
                self._read_other(value, name)

    def _read_other(self, value: Any, name: Any = "content") -> None:
        if value is None or isinstance(value, bool | int | float):
            return  # a switch or a figure
        if isinstance(value, str | Mapping | Sequence) and not value:
            return
        self.exact = False
        plain = self._without_media(value, name)
        if plain:
            self.texts.append(plain if isinstance(plain, str) else _json(plain))

    def _without_media(self, value: Any, name: Any) -> Any:
        """A copy that has nothing but JSON's types, without images (which are counted) and base64 (which is noted)."""
        if isinstance(value, str):
            media = _is_media(value, name)
            self.uncounted += media
            return "" if media else value
        if isinstance(value, Mapping):
            kind = value.get("type")
            if kind in _IMAGES:
                self._read_image(value)
                return {}
            return {str(key): self._without_media(one, "text" if kind == "text" else key) for key, one in value.items()}
        if isinstance(value, bytes | bytearray | memoryview):
            self.uncounted += 1
            return None
        if isinstance(value, Sequence):
            return [self._without_media(one, name) for one in value]
        return value if isinstance(value, bool | int | float) else None

    def _estimate(self, tokens: int) -> None:
        self.more += tokens
        self.exact = False

    def _items(self, value: Any) -> Sequence[Any]:
        """A list as it is, one thing as a list of it; of what is neither, nothing, and the count is not exact."""
        if value is None or (isinstance(value, str | Mapping) and not value):
            return ()
        if isinstance(value, str | Mapping):
            return (value,)
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            return value
        self.exact = False
        return ()


def texts_of(params: Mapping[str, Any], image_factor: float = 1.0) -> RequestTexts:
    """Everything in a request that counts; `image_factor` is what a model's images cost more than those of others.

    >>> found = texts_of({"messages": [], "system": "be brief", "temperature": 0.5})
    >>> found.texts, found.exact
    (['be brief'], False)
    """
    found = RequestTexts(image_factor)
    found.read(params)
    return found


def size_of(request: Any) -> int:
    """About how many characters there are to count, without building anything.

    >>> size_of({"messages": [{"content": "hello"}]})
    20
    """
    return sum(map(len, _strings(request)))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in (*value.keys(), *value.values()) if isinstance(value, Mapping) else value:
            yield from _strings(one)


def _is_media(text: str, name: Any) -> bool:
    if name in _WORDS:
        return False
    if text[:5].lower() == "data:" and ";base64," in text[:200]:
        return True
    if name in _DATA:
        return _BASE64.fullmatch(text) is not None
    if len(text) < _BASE64_CHARS or "\n" in text or _BASE64.fullmatch(text) is None:
        return False
    return all(re.search(kind, text) for kind in ("[A-Z]", "[a-z]", "[0-9]"))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
