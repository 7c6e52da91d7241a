"""What is told of the calls of an answer: on the answer itself, or in the refusal that takes its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neuro_mw import Blocked

_MOST_TOLD = 20


@dataclass(slots=True)
class Tale:
    """How many calls were judged and taken out, which rules they broke (the first 20), how often it was asked again."""

    judged: int = 0
    dropped: int = 0
    violations: list[dict[str, str]] = field(default_factory=list)
    reasks: int = 0

    def add(self, tool: str, rule: str) -> None:
        """Tell of one call that broke a rule."""
        if len(self.violations) < _MOST_TOLD:
            self.violations.append({"tool": tool, "rule": rule})

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "judged": self.judged, "dropped": self.dropped, "violations": [*self.violations], "reasks": self.reasks,
        }  # fmt: skip

    def added_to(self, metadata: Mapping[str, Any], id: str) -> dict[str, Any]:
        """The metadata of an answer with this in it, behind what another guard of this class, inside, has told.

        >>> Tale(judged=1).added_to({}, "tool_guard")
        {'tool_guard': {'judged': 1, 'dropped': 0, 'violations': [], 'reasks': 0}}
        """
        if not self.judged:
            return dict(metadata)
        said, before = self.to_dict(), metadata.get(id)
        if before is not None and isinstance(before, Mapping):
            for name in ("dropped", "violations", "reasks"):
                if type(before.get(name)) is type(said[name]):
                    said[name] = before[name] + said[name]
        return {**metadata, id: said}

    def refusal(self, rule: str) -> Blocked:
        """The refusal of the whole answer, for the first rule that it breaks."""
        return Blocked(f"a tool call was refused: {rule}", category="tool", detail=self.to_dict())
