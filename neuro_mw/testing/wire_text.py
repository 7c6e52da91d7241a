"""The text in requests and answers, which both dialects write alike."""

from __future__ import annotations

import re
from typing import Any


def words(text: str) -> list[str]:
    """The text cut before each word; joined, the pieces are the text."""
    return re.findall(r"\s*\S+|\s+", text)


def text_of(content: Any) -> str:
    """The text of a message's content, which is a string or a list of content parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content or () if isinstance(part, dict))


def asked_words(body: dict[str, Any]) -> int:
    """How many words the messages of a request have."""
    return sum(len(text_of(message.get("content")).split()) for message in body.get("messages") or ())


def last_user_text(body: Any) -> str:
    """The text of the last user message of a request."""
    messages = body.get("messages") or [] if isinstance(body, dict) else []
    return next((text_of(m.get("content")) for m in reversed(messages) if m.get("role") == "user"), "")
