"""Parts for others to read, which their first reader's changes do not reach."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from neuro_mw import Finish, Part, ReasoningDelta, TextDelta, ToolCallDelta, Usage

_COPIES: dict[type, Callable[[Any], Part]] = {  # a fifth of the price of `copy`
    ReasoningDelta: lambda part: ReasoningDelta(part.text),
    ToolCallDelta: lambda part: ToolCallDelta(part.index, part.id, part.name, part.arguments),
}


def kept_of(part: Part) -> Any:
    """A part for others to read, which its reader's changes do not reach; of a text only the text."""
    if type(part) is TextDelta:
        return part.text
    if type(part) is Finish and not part.metadata and part.blocked is None:
        return Finish(part.reason, part.usage + Usage())
    copied = _COPIES.get(type(part))
    return deepcopy(part) if copied is None else copied(part)


def given(kept: Any) -> Part:
    return TextDelta(kept) if type(kept) is str else kept_of(kept)


class Uncopied:
    """A part that cannot be copied: for the call that asked, and nobody else."""

    def __init__(self, part: Part) -> None:
        self.part = part
