"""Doubles for tests, each loaded when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .anthropic_wire import AnthropicReply
    from .faulty import Fault, FaultyModel, random_faults
    from .openai_wire import Reply
    from .scripted import ScriptedModel, cut
    from .stub_anthropic import StubAnthropic
    from .stub_openai import StubOpenAI

_WHERE = {
    "AnthropicReply": ".anthropic_wire",
    "Fault": ".faulty",
    "FaultyModel": ".faulty",
    "Reply": ".openai_wire",
    "ScriptedModel": ".scripted",
    "cut": ".scripted",
    "random_faults": ".faulty",
    "StubAnthropic": ".stub_anthropic",
    "StubOpenAI": ".stub_openai",
}

__all__ = [
    "AnthropicReply", "Fault", "FaultyModel", "Reply", "ScriptedModel", "StubAnthropic", "StubOpenAI", "cut",
    "random_faults",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
