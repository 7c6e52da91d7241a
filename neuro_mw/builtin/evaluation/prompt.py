"""What a judge is told and shown, and what a model is told whose answer was not good enough."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from typing import Any

from neuro_mw import ConfigError, Params, Response, nearest
from neuro_mw.request_texts import texts_of

from ..guardrails.judge import request_for
from .scores import Scores

VERDICT = """\
Answer with one JSON object and nothing else. Its keys are "relevance", "accuracy", "completeness" and "overall", each
a number from 0 (worst) to 10 (best), and "feedback", a text of at most 100 words that says what would make the answer
better, without giving the answer."""

DEFAULT = f"""\
You judge how well a language model has answered. You are shown a JSON object: "conversation" holds the messages that
it answered, "answer" is what it said. Judge the answer alone, by what was asked last, and score it:
- relevance: whether it is about what was asked; 0 to 4 where it is beside the point.
- accuracy: whether what it says is true and agrees with the conversation; nothing made up.
- completeness: whether all that was asked is answered.
- overall: how well it serves who asked. A good refusal of what should be refused serves well.

{VERDICT}"""

_AGAIN = """\
The answer above was judged before anyone read it: {scores}, of 10 each; at least {threshold:g} overall is needed.
{feedback}Answer again what was asked before this message, completely and in the same form and language as before. \
Do not mention the first answer or this judgement."""

_PLACEHOLDERS = ("criteria", "default", "threshold", "verdict")


def checked(prompt: str | None, criteria: object) -> None:
    """Raise ConfigError where a prompt is no template, or criteria have no place in one."""
    if prompt is None:
        if criteria is not None:
            said = "it is set, and there is no prompt: criteria stand in a prompt, at {criteria}"
            expected = "a prompt such as '{default} Further demands: {criteria}'"
            raise ConfigError(said, key="criteria", expected=expected)
        return
    try:
        fields = [one[1:] for one in string.Formatter().parse(prompt) if one[1] is not None]
    except ValueError as error:
        expected = "braces that are no placeholder to be doubled"
        raise ConfigError(f"it cannot be read: {error}", key="prompt", expected=expected) from None
    for name, spec, conversion in fields:
        if name not in _PLACEHOLDERS or spec or conversion:
            expected = ", ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
            said = "it has a placeholder that is not known (conversation and answer follow the prompt by themselves)"
            raise ConfigError(said, key="prompt", expected=expected, nearest=nearest(str(name), _PLACEHOLDERS))
    names = {field[0] for field in fields}
    if not names & {"verdict", "default"}:
        said = "it does not ask for a verdict that can be read"
        raise ConfigError(said, key="prompt", expected="{verdict} in it, or {default}, the built-in prompt")
    if ("criteria" in names) != (criteria is not None):
        said = "it has {criteria}, and there are none" if criteria is None else "it has no place for the criteria"
        raise ConfigError(said, key="prompt", expected="{criteria} in the prompt and the option criteria, or neither")


def filled(prompt: str | None, criteria: str | list[str] | None, threshold: float) -> str:
    """What the judge is told, of a prompt that was `checked`.

    >>> filled("{criteria} {verdict}", ["Be kind.", "Be brief."], 7).splitlines()[:2]
    ['- Be kind.', '- Be brief. Answer with one JSON object and nothing else. Its keys are "relevance", "accuracy", \
"completeness" and "overall", each']
    """
    if prompt is None:
        return DEFAULT
    demands = "\n".join(f"- {one}" for one in criteria) if isinstance(criteria, list) else criteria
    return plain(prompt.format(criteria=demands, default=DEFAULT, threshold=f"{threshold:g}", verdict=VERDICT))


def question(told: str, conversation: list[dict[str, str]], answer: str) -> Params:
    """The request to the judge: the texts as JSON strings, all of it between lines that nobody can guess."""
    shown = json.dumps({"conversation": conversation, "answer": answer}, ensure_ascii=False, indent=1)
    return request_for(told, shown)


def conversation_of(params: Mapping[str, Any], most_chars: int) -> list[dict[str, str]]:
    """The messages of a request by role and text, the last ones where that is more than so many characters.

    >>> conversation_of({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, 100)
    [{'role': 'user', 'text': 'hi'}]
    """
    messages = params.get("messages")
    said: list[Any] = [*messages] if isinstance(messages, list | tuple) else []
    if params.get("system"):  # Anthropic's way to say it
        said.insert(0, {"role": "system", "content": params["system"]})
    found: list[dict[str, str]] = []
    left = most_chars
    for message in reversed(said):
        if left <= 0:
            break
        if isinstance(message, Mapping):
            rest = {key: value for key, value in message.items() if key != "role"}
            text = shortened("\n".join(texts_of({"messages": [rest]}).texts), left)
            left -= len(text) + 1
            found.append({"role": plain(str(message.get("role"))[:20]), "text": text})
    return found[::-1]


def shortened(text: str, most_chars: int) -> str:
    r"""A text as it can be sent; of one that is longer than so many characters its beginning and its end.

    >>> shortened("abcdefgh", 4)
    'ab\n[4 characters are left out here]\ngh'
    """
    if len(text) > most_chars:
        half = most_chars // 2
        left_out = len(text) - 2 * half
        text = f"{text[:half]}\n[{left_out} characters are left out here]\n{text[len(text) - half :]}"
    return plain(text)


def plain(text: str) -> str:
    """A text in which no half of a surrogate pair is left."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def again(params: Params, answer: Response, scores: Scores, threshold: float) -> Params:
    """The request for another attempt: the same, the answer behind it, and what was said of that as a user's turn."""
    messages = params.get("messages")
    feedback = f"What the judge says of it:\n{scores.feedback}\n" if scores.feedback else ""
    said = _AGAIN.format(scores=scores, threshold=threshold, feedback=feedback)
    answered = [answer.to_message()] if answer.text.strip() else []  # some providers take no empty message
    turn = {"role": "user", "content": said}
    return {**params, "messages": [*(messages if isinstance(messages, list | tuple) else ()), *answered, turn]}
