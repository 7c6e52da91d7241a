"""The request in which a model is asked again, because its answer had calls that may not leave."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from neuro_mw import Params, Response

from .arguments import object_in
from .offers import Offers
from .rules import Verdict

_NOT_RUN = "Not run: another call of the same answer was refused. Call this tool again if it is still needed."
_NO_TOOLS = "A tool call in your answer was refused, and not run: {why}. Answer without it."
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST_NAME = 64  # OpenAI's limit; Anthropic's is longer


def asked_again(
    params: Params, response: Response, verdicts: Sequence[Verdict], offers: Offers, why: Callable[[Verdict], str]
) -> Params:
    """The same request behind which the answer stands, and behind that what became of each call.

    It is one that providers take: each call has an id of its own, a name in their letters, JSON for arguments, and one
    result. Where the request has no tools, which Anthropic wants where there are calls, what is wrong is the user's to
    say.
    """
    messages = [*(params.get("messages") or ())]
    broken = [verdict for verdict in verdicts if verdict.rule is not None]
    if not offers.as_tools or not response.tool_calls:
        if response.text.strip():
            messages.append({"role": "assistant", "content": response.text})
        messages.append({"role": "user", "content": _NO_TOOLS.format(why=why(broken[0]))})
        return {**params, "messages": messages}
    answer = response.to_message()
    results = []
    ids = set[str]()
    for place, (verdict, call) in enumerate(zip(verdicts, answer["tool_calls"], strict=False)):  # one may be astray
        call["id"] = _free(call["id"] or "call", place, ids)
        _mend(call, verdict, offers)
        said = _NOT_RUN if verdict.rule is None else f"Refused, and not run: {why(verdict)}."
        results.append({"role": "tool", "tool_call_id": call["id"], "content": said})
    return {**params, "messages": [*messages, answer, *results]}


def _free(id: str, place: int, taken: set[str]) -> str:
    """An id that no other call of the answer has."""
    if id in taken:
        id = f"{id}_{place}"
    while id in taken:  # the model has thought of that one, too
        id += "_"
    taken.add(id)
    return id


def _mend(call: dict[str, Any], verdict: Verdict, offers: Offers) -> None:
    """Make a call one that a provider takes in a request."""
    said = call[call["type"]]
    if offers.find(said["name"]) is None:
        said["name"] = _NOT_IN_NAMES.sub("_", said["name"])[:_LONGEST_NAME] or "unknown"
    if "arguments" in said and not object_in(said["arguments"]):
        said["arguments"] = "{}"
    elif not isinstance(said.get("input", ""), str):  # of a tool of free text
        said["input"] = ""
