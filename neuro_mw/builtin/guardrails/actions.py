"""What becomes of a match: another text in its place, a refusal, or no more than a note."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import Literal

from .rules import Match

Action = Literal["redact", "mask", "hash", "block", "warn"]
ACTIONS: tuple[Action, ...] = ("redact", "mask", "hash", "block", "warn")
_KEY = os.urandom(32)  # hashes are the same within a process, and tell nothing outside of it


class Replacement:
    """Makes the text that stands for a match, by the action of its rule.

    "redact" puts the replacement text there, "mask" a ``*`` for each character that is no white space, "hash" the type
    and eight hex digits that are the same for the same text.

    >>> from neuro_mw.builtin.guardrails import Rule
    >>> match = Match(0, 3, Rule("pii.ssn", "x"))
    >>> Replacement("[{type}]", {})(match, "a b"), Replacement("", {"pii.ssn": "mask"})(match, "a b")
    ('[SSN]', '* *')
    """

    def __init__(self, text: str, actions: Mapping[str, Action], key: bytes | None = None) -> None:
        self._text, self._actions, self._key = text, actions, key or _KEY

    def __call__(self, match: Match, text: str) -> str:
        """The text for a match."""
        action = self._actions.get(match.rule.id, "redact")
        if action == "mask":
            return "".join([char if char.isspace() else "*" for char in text])
        if action == "hash":
            digest = hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
            return f"<{match.rule.type}:{digest[:8]}>"
        return self._text.replace("{type}", match.rule.type)
