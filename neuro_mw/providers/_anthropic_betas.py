"""The header without which Anthropic's API does not know what is in a request: ``anthropic-beta``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._anthropic_messages import is_file
from ._anthropic_shapes import dict_in, dicts_in

_TOOL_BETAS = {
    "computer_20241022": "computer-use-2024-10-22",
    "computer_": "computer-use-2025-01-24",
    "code_execution_20250825": "code-execution-2025-08-25",
    "web_fetch": "web-fetch-2025-09-10",
    "memory": "context-management-2025-06-27",
    "tool_search_tool": "advanced-tool-use-2025-11-20",
    "advisor_": "advisor-tool-2026-03-01",
}


def betas_of(body: Mapping[str, Any], *, effort_is_new: bool) -> Iterator[str]:
    """The values of ``anthropic-beta`` that `body` needs. `effort_is_new`: the model takes an effort without one.

    >>> list(betas_of({"messages": [], "speed": "fast"}, effort_is_new=True))
    ['fast-mode-2026-02-01']
    """
    for tool in body.get("tools", ()):
        kind = tool.get("type") or ""
        yield from [beta for start, beta in _TOOL_BETAS.items() if kind.startswith(start)][:1]
        if tool.get("allowed_callers") or tool.get("input_examples"):
            yield "advanced-tool-use-2025-11-20"
    config = dict_in(body.get("output_config") or {}, "'output_config'")
    if "output_format" in body or "format" in config:
        yield "structured-outputs-2025-11-13"
    if "effort" in config and not effort_is_new:
        yield "effort-2025-11-24"
    management = dict_in(body.get("context_management") or {}, "'context_management'")
    for edit in dicts_in(management.get("edits") or (), "the edits of context_management"):
        compacts = edit.get("type") == "compact_20260112"
        yield "compact-2026-01-12" if compacts else "context-management-2025-06-27"
    if body.get("mcp_servers"):
        yield "mcp-client-2025-04-04"
    if body.get("speed") == "fast":
        yield "fast-mode-2026-02-01"
    if isinstance(body.get("container"), Mapping) and body["container"].get("skills"):
        yield "skills-2025-10-02"
    if any(is_file(block) for turn in body["messages"] for block in turn["content"]):
        yield "files-api-2025-04-14"
