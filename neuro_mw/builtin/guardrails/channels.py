"""Where text stands in a call: the channels, and which of them go in and which come out."""

from __future__ import annotations

from typing import Literal, get_args

Channel = Literal["input", "system", "history", "tool_results", "output", "reasoning", "tool_arguments"]
CHANNELS: tuple[Channel, ...] = get_args(Channel)
DIRECTIONS: dict[str, str] = {name: "input" if at < 4 else "output" for at, name in enumerate(CHANNELS)}
