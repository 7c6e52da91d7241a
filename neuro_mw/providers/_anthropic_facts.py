"""What a Claude model takes, told by the version in its name."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

# tokens for thinking at each effort
BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}
_NAME = re.compile(r"claude-[a-z]+-(\d)(?:[-._](\d{1,2}))?(?!\d)|claude-(\d)(?:[-.](\d))?-[a-z]")


class Facts(NamedTuple):
    """What a model takes. A name that tells no version (an alias of a gateway) gets the oldest forms."""

    max_tokens: int
    thinks: bool
    adaptive: bool  # thinks as much as it sees fit, steered by an effort in the place of a budget
    budgets: bool  # takes a budget for thinking
    always_thinks: bool
    efforts: frozenset[str]
    structured: bool  # answers by a JSON schema
    sampling: bool
    system_inside: bool  # takes system turns within the conversation
    forced_tools: bool
    fast: bool


@functools.lru_cache(256)
def facts_of(model: str) -> Facts:
    """What the model takes.

    >>> facts_of("claude-sonnet-4-5").max_tokens
    64000
    """
    name = model.lower()
    found = _NAME.search(name)
    digits = [int(one) for one in found.groups() if one] if found else []
    version = (*digits, 0)[:2] if digits else (4, 7) if "mythos-preview" in name else None
    at = version or (0, 0)
    adaptive = at >= (4, 6)
    latest = re.search(r"(fable|mythos)-5[-.]1|(opus|sonnet)-5[-.]5", name)
    return Facts(
        max_tokens=128_000 if adaptive else 64_000 if at >= (4, 5) else 4096,
        thinks=version is None or at >= (3, 7),
        adaptive=adaptive,
        budgets=at <= (4, 6),
        always_thinks=bool(latest or re.search("fable|mythos", name)),
        efforts=frozenset(BUDGETS) - ({"xhigh"} if at == (4, 6) else set()),
        structured=at >= (4, 5),
        sampling=at < (4, 7),
        system_inside=at >= (4, 8),
        forced_tools=not latest,
        fast=version is None or ("opus" in name and adaptive),
    )
