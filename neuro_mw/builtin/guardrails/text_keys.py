"""Which strings in a request or beside an answer are text: all but those that name, refer, or are sealed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NO_TEXT = frozenset({
    "b64_json", "cache_control", "call_id", "container", "content_order", "detail", "digest", "encrypted_content",
    "encrypted_index", "file_data", "file_id", "finish_reason", "format", "id", "image_url", "index", "item_id",
    "media_type", "mime_type", "model", "name", "native_finish_reason", "object", "role", "service_tier", "signature",
    "status", "stop_reason", "system_fingerprint", "thought_signature", "tool_call_id", "tool_use_id", "type", "url",
})  # fmt: skip
# Beside these, "data" is a file's, or sealed.
_OF_FILES = frozenset({"media_type", "mime_type", "mimeType", "format", "filename", "expires_at", "transcript"})
_SEALED = ("base64", "redacted_thinking")
# Under these an address may be the file itself (RFC 2397). Under any other name it is text, whatever it begins with.
_MEDIA = frozenset({
    "audio", "audio_url", "file", "file_url", "image", "image_uri", "mask", "source", "src", "thumbnail", "uri",
    "video", "video_url",
})  # fmt: skip
_FILE = re.compile(r"data:[\w.+-]{1,99}/[\w.+-]{1,99}(?:;[\w.+-]{1,99}=[\w.+-]{1,99}){0,4};base64,[\w+/=-]*", re.ASCII)
_OWN = frozenset({"args", "arguments", "input", "output", "response"})


def is_text(name: str, value: Any, holder: Mapping[str, Any]) -> bool:
    """Whether what stands under a name in a dict is to be looked at: text, or something that may hold some.

    >>> is_text("url", "https://x.example", {}), is_text("url", {"description": "a"}, {}), is_text("words", "a", {})
    (False, True, True)
    >>> [is_text(name, "data:image/png;base64,iVBORw0KGgo=", {}) for name in ("image", "content")]
    [False, True]
    """
    if not isinstance(value, str):
        return True
    if name == "data":
        return holder.get("type") == "text" or not (holder.get("type") in _SEALED or holder.keys() & _OF_FILES)
    return name not in _NO_TEXT and not (name in _MEDIA and _FILE.fullmatch(value))


def is_own(name: str, value: Any) -> bool:
    """Whether what stands there is the user's or the model's own: then all in it may be text, under any name.

    >>> is_own("input", {"id": "a"}), is_own("source", {"id": "a"})
    (True, False)
    """
    return name in _OWN and isinstance(value, dict | list | tuple)


def free_name(name: Any, taken: Mapping[Any, Any]) -> Any:
    """A name that is not taken yet: two that are redacted alike must not become one.

    >>> free_name("[REDACTED]", {"[REDACTED]": 1})
    '[REDACTED] (2)'
    """
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free


def digits(number: float) -> str | None:
    """A number as a text that rules can read; None where it has more digits than Python writes.

    >>> digits(4.5), digits(10**5000)
    ('4.5', None)
    """
    try:
        return str(number)
    except ValueError:
        return None
