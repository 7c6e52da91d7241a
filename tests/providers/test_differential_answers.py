"""What the native driver makes of an answer against what litellm makes of it, both over HTTP.

Equal, or listed here with a reason; with another litellm than the one these lists were made with a change is reported
as xfailed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from answer_cases import ANSWERS, FAILURES, REPLIES, Scripted
from asked import MODES, answered
from chat_cases import USER, talk
from comparing import same_differences

from neuro_mw.errors import NeuroError, ProviderError
from neuro_mw.providers import resolve
from neuro_mw.testing import StubOpenAI
from neuro_mw.types import Response

FIELDS_LOST = "litellm drops what its chunks have no field for"
NATIVE_REASON = 'litellm calls what it does not know "stop"'
NO_STATUS = "litellm loses the status of an error in an answer that says 200"
TOO_LONG = ["groq", "fireworks", "mistral", "openrouter", "xai"]
OWN_WORDS = "litellm looks for the words of a few providers only"
NO_ID = "litellm loses the id of a request that was answered with 200"
EVENTS = [
    "an error event at once",
    "an error event with a status at once",
    "an error event",
    "an error event with a status",
    *(f"an error event of {name}" for name in ("vllm", "groq", "azure")),
]
UNREADABLE = [name for name in REPLIES if name.startswith("openai, ") and "bytes" not in name]  # streams, unasked for
# Attributes of an answer or an error that differ, or "outcome": an answer or an error, or errors of different types.
# One mode, or both.
ANSWERED_OTHERWISE: dict[tuple[str, str], tuple[str, str]] = {
    ("an unknown reason", "stream"): ("finish_reason provider_fields", NATIVE_REASON),
    ("eos", "stream"): ("provider_fields", NATIVE_REASON),
    ("together", "stream"): ("provider_fields", NATIVE_REASON),
    ("no finish reason", "generate"): ("finish_reason", 'litellm makes up a "stop"'),
    ("groq", "stream"): ("provider_fields", FIELDS_LOST),
    ("groq, usage in x_groq", "stream"): ("provider_fields", FIELDS_LOST),
    ("deepseek", "stream"): ("provider_fields", FIELDS_LOST),
    ("openrouter", "stream"): ("provider_fields", FIELDS_LOST),
    ("xai", "stream"): ("provider_fields", FIELDS_LOST),
    ("two choices", ""): ("provider_fields", "litellm adds empty fields of its own"),
    ("mistral", "stream"): ("provider_fields", "litellm makes up a signature of Anthropic's kind"),
    ("vllm, a broken line", "stream"): ("outcome", "litellm skips what it cannot read"),
    ("openrouter, a broken line", "stream"): ("outcome", "litellm skips what it cannot read"),
    ("an error in a good answer", ""): ("status request_id", NO_STATUS),
    ("an error event of openrouter", "stream"): ("status request_id", NO_STATUS),
    ("html", "generate"): ("request_id", NO_ID),
    ("openai, a broken line", "stream"): ("request_id", NO_ID),
    **{(name, "stream"): ("request_id", NO_ID) for name in EVENTS},
    **{(name, "generate"): ("request_id", NO_ID) for name in UNREADABLE},
    ("an error event of groq", "generate"): ("outcome", "litellm fails where Groq names no service_tier"),
    ("no choices", "generate"): ("outcome", "litellm takes it for an empty answer"),
    **{(f"too long for {name}", ""): ("outcome", OWN_WORDS) for name in TOO_LONG},
}


class Outcome(NamedTuple):
    response: Response | None = None
    error: NeuroError | None = None


ATTRIBUTES = ("text", "reasoning", "tool_calls", "finish_reason", "usage", "id", "model", "created", "provider_fields")
Outcomes = Callable[[str, str, str], Outcome]


def unlike(ours: Outcome, theirs: Outcome) -> set[str]:
    if type(ours.error) is not type(theirs.error):
        return {"outcome"}
    if ours.response is not None and theirs.response is not None:
        return {name for name in ATTRIBUTES if getattr(ours.response, name) != getattr(theirs.response, name)}
    names = ("status", "retryable", "request_id")
    found = {name for name in names if getattr(ours.error, name, 0) != getattr(theirs.error, name, 0)}
    waits = [getattr(one.error, "retry_after", None) for one in (ours, theirs)]
    return found | ({"retry_after"} if waits[0] != pytest.approx(waits[1], abs=2) else set())


@pytest.fixture
def outcome(server: StubOpenAI) -> Outcomes:
    def call(name: str, mode: str, driver: str) -> Outcome:
        model, script = ANSWERS[name]
        server._replies.clear()
        found = script.script(mode) if isinstance(script, Scripted) else script
        server.reply(**{**found, "headers": {"x-request-id": "req_1", **found.get("headers", {})}})
        try:
            return Outcome(answered(resolve(model, driver=driver), mode, talk(USER)))
        except NeuroError as error:
            return Outcome(error=error)

    return call


def test_what_is_answered_otherwise_exists() -> None:
    assert {name for name, _ in ANSWERED_OTHERWISE} <= set(ANSWERS)
    assert {mode for _, mode in ANSWERED_OTHERWISE} <= {*MODES, ""}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ANSWERS)
def test_answer(outcome: Outcomes, name: str, mode: str) -> None:
    ours, theirs = outcome(name, mode, "native"), outcome(name, mode, "litellm")
    if name in FAILURES:
        assert isinstance(ours.error, ProviderError)
        assert ours.error.request_id == "req_1"
    keys, _why = ANSWERED_OTHERWISE.get((name, mode)) or ANSWERED_OTHERWISE.get((name, "")) or ("", "")
    same_differences(unlike(ours, theirs), set(keys.split()), (ours, theirs))


# --- without litellm --------------------------------------------------------------------------------------------------

FOR_BOTH_MODES = [  # the others end badly in one of them, or are in the form of one
    name
    for name, (_, script) in REPLIES.items()
    if isinstance(script, Scripted) or not {"raw", "error_after", "cut_after", "finish_reason"} & script.keys()
]
ONE_MODE_ONLY = {"together": "its streams have a token_id", "two choices": "the second is kept as it came"}


@pytest.mark.parametrize("name", FOR_BOTH_MODES)
def test_native_answers_are_alike_in_both_modes(outcome: Outcomes, name: str) -> None:
    whole, streamed = (outcome(name, mode, "native") for mode in MODES)
    assert whole.response is not None
    assert unlike(streamed, whole) - {"id"} == ({"provider_fields"} if name in ONE_MODE_ONLY else set())
