"""What is in a chain and why: `explain()` as text, as data, and as a tree in a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .frozen import own_copy

_PASSWORD = re.compile(r"(://[^\s/?#@:]*):[^\s/?#]*@")


@dataclass(slots=True)
class PlanEntry:
    """One registered middleware, seen from one chain. ``reason`` says why it is applied, or why it is not."""

    id: str
    priority: int
    applied: bool
    reason: str
    hooks: dict[str, list[str]]
    origin: str
    config: dict[str, Any]


def without_passwords(config: Any) -> Any:
    """The same for people: a password in a URL is no part of it.

    >>> without_passwords({"store": "redis://app:secret@cache:6379/0"})
    {'store': 'redis://app:***@cache:6379/0'}
    """
    if isinstance(config, str):
        return _PASSWORD.sub(r"\1:***@", config) if "://" in config else config
    if isinstance(config, Mapping):
        return {name: without_passwords(value) for name, value in config.items()}
    return [without_passwords(value) for value in config] if isinstance(config, list | tuple) else config


@dataclass(slots=True)
class ChainPlan:
    """Every registered middleware, in chain order, for one provider and model.

    >>> import neuro_mw
    >>> factory = neuro_mw.MiddlewareFactory()
    >>> print(str(factory.explain(factory.create_context("openai", "gpt-4o"))).splitlines()[0])
    openai/gpt-4o
    """

    provider: str
    model: str
    entries: list[PlanEntry]

    def __iter__(self) -> Any:
        return iter(self.entries)

    def __getitem__(self, id: str) -> PlanEntry:
        for entry in self.entries:
            if entry.id == id:
                return entry
        raise KeyError(id)

    @property
    def applied(self) -> tuple[str, ...]:
        """The ids of the layers, outermost first."""
        return tuple(entry.id for entry in self.entries if entry.applied)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data."""
        entries = [{one.name: own_copy(getattr(entry, one.name)) for one in fields(entry)} for entry in self.entries]
        return {"provider": self.provider, "model": self.model, "entries": entries}

    def __str__(self) -> str:
        lines = [f"{self.provider}/{self.model}"]
        for entry in self.entries:
            mark = "+" if entry.applied else "-"
            lines.append(f"  {mark} {entry.id} (priority {entry.priority}, {entry.origin}): {entry.reason}")
            if entry.applied:
                lines += [f"      {mode}: {', '.join(hooks) or 'nothing'}" for mode, hooks in entry.hooks.items()]
        return "\n".join(lines)

    def __rich__(self) -> Any:
        from rich.text import Text
        from rich.tree import Tree

        tree = root = Tree(Text(f"{self.provider}/{self.model}", style="bold"))
        for entry in self.entries:
            if entry.applied:
                label = Text.assemble((entry.id, "bold green"), f"  {entry.priority}  ", (entry.reason, "dim"))
                tree = tree.add(label)
                for mode, hooks in entry.hooks.items():
                    tree.add(Text(f"{mode}: {', '.join(hooks) or 'nothing'}", style="cyan"))
        tree.add(Text(f"{self.provider}/{self.model}", style="magenta"))
        off = [entry for entry in self.entries if not entry.applied]
        if off:
            branch = root.add(Text("not applied", style="dim"))
            for entry in off:
                branch.add(Text.assemble((entry.id, "yellow"), "  ", (entry.reason, "dim")))
        return root
