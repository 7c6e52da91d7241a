"""Requests of the chat-completions vocabulary as bodies of Anthropic's Messages API.

What the API has no word for is refused here, before anything is sent; keys that neither vocabulary knows pass
untouched. Where models differ, their version decides, which is in their name.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping
from typing import Any

from neuro_mw.errors import BadRequest
from neuro_mw.types import Params

from ._anthropic_betas import betas_of
from ._anthropic_facts import BUDGETS, facts_of
from ._anthropic_messages import conversation_of
from ._anthropic_shapes import NOT_OF_THE_SHAPE, Untranslatable, count_in, dict_in, dicts_in, text_in, texts_in
from ._anthropic_tools import choice_of, sent_names, supported, tools_of, web_search
from ._thinking import lacks_thinking, without_thinking

_JSON_TOOL = "json_tool_call"
_DUMMY = {"name": "dummy_tool", "type": "custom", "input_schema": {"type": "object", "properties": {}}}
_ANSWER_TOKENS = 4096  # what is left for the answer where a budget for thinking is all that was said

# fmt: off
_HANDLED = frozenset({
    "model", "messages", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "stop", "tools",
    "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "thinking", "user", "metadata",
    "web_search_options", "system", "betas", "prompt_cache_retention",
})
_NO_WORD = {
    "functions": "say it as tools",
    "function_call": "say it as tool_choice",
    "safety_identifier": "say it as user",
    "prompt_cache_key": "mark with cache_control what is to be cached",
    "n": "make several calls",
    **dict.fromkeys((
        "audio", "frequency_penalty", "include_server_side_tool_invocations", "logit_bias", "logprobs", "modalities",
        "prediction", "presence_penalty", "seed", "store", "top_logprobs", "verbosity",
    ), "leave it out"),
}
# fmt: on
_PERSONAL = re.compile(r"[\w.%+-]+@[\w.-]+\.[a-zA-Z]{2,}|\+?[\d\s()-]{7,}")
_log = logging.getLogger("neuro_mw")


def body_of(
    params: Params, model: str, *, stream: bool, provider: str = "anthropic"
) -> tuple[dict[str, Any], dict[str, str]]:
    """The body of a POST to /v1/messages, and the headers that it needs beside key and version.

    Raises BadRequest, before anything is sent, for what the API has no word for and what has not the shape that chat
    completions give it; `provider` is the name in it and in warnings. Changes nothing in `params`.

    >>> body_of({"messages": [{"role": "user", "content": "hi"}]}, "claude-sonnet-4-5", stream=False)[0]["max_tokens"]
    64000
    """
    try:
        if not isinstance(model, str):
            raise Untranslatable(f"'model' is of type {type(model).__name__}; give a string")
        return _Builder(params, model, provider).request(stream)
    except Untranslatable as error:
        what = str(error)
    except NOT_OF_THE_SHAPE:
        what = "the params are not of the shape that chat completions have; look at messages, tools and their parts"
    named = model if isinstance(model, str) else "?"
    raise BadRequest(f"{provider}/{named}: {what}", provider=provider, model=named)


def renamed_of(params: Params, model: str) -> dict[str, str | None]:
    """What the translation of the answer has to undo: the names that tools were sent by -> the caller's.

    None stands for the tool that the model is made to call where it cannot be held to a schema: its input is the text.

    >>> renamed_of({"tools": [{"type": "function", "function": {"name": "a.b"}}]}, "claude-sonnet-4-5")
    {'a_b': 'a.b'}
    """
    renamed: dict[str, str | None] = {sent: name for name, sent in sent_names(params.get("tools") or ()).items()}
    if _schema_of(params) is not None and not facts_of(model).structured:
        renamed[_JSON_TOOL] = None
    return renamed


class _Builder:
    """One request on its way from the one vocabulary to the other."""

    def __init__(self, params: Params, model: str, provider: str) -> None:
        self._given = {name: value for name, value in params.items() if value is not None}
        self._named, self._facts = f"{provider}/{model}", facts_of(model)
        limits = [name for name in ("max_completion_tokens", "max_tokens") if name in self._given]
        self._most = count_in(self._given[limits[0]], f"'{limits[0]}'") if limits else None
        self._messages = dicts_in(self._given.get("messages", ()), "messages")
        self._names = sent_names(self._given.get("tools", ()))
        self._body: dict[str, Any] = {"model": model}

    def request(self, stream: bool) -> tuple[dict[str, Any], dict[str, str]]:
        given, body = self._given, self._body
        self._refuse()
        body.update({name: value for name, value in given.items() if name not in _HANDLED})
        if stream:
            body["stream"] = True
        if stop := given.get("stop"):
            body["stop_sequences"] = texts_in(stop, "'stop'")
        self._think()
        self._set_max_tokens()
        self._set_tools()
        self._set_format()
        self._set_user()
        self._converse()
        asked = texts_in(given.get("betas", ()), "'betas'")
        betas = dict.fromkeys([*asked, *betas_of(body, effort_is_new=self._facts.adaptive)])
        return body, {"anthropic-beta": ",".join(betas)} if betas else {}

    def _refuse(self) -> None:
        for name in self._given:
            if name in _NO_WORD and not (name == "n" and self._given["n"] == 1):
                raise Untranslatable(f"the API has no parameter {name!r}; {_NO_WORD[name]}")
        takes = dict.fromkeys(("temperature", "top_p", "top_k"), self._facts.sampling)
        takes |= {"thinking": self._facts.thinks, "reasoning_effort": self._facts.thinks, "speed": self._facts.fast}
        for name, taken in takes.items():
            if name in self._given and not taken and (name, self._given[name]) != ("temperature", 1):
                raise Untranslatable(f"this model takes no {name!r}; leave it out")

    def _think(self) -> None:
        effort, thinking = self._given.get("reasoning_effort"), self._given.get("thinking")
        effort = text_in(effort.get("effort") if isinstance(effort, Mapping) else effort, "'reasoning_effort'")
        if effort not in ("", "none"):
            if effort not in self._facts.efforts:
                known = ", ".join(sorted({*self._facts.efforts, "none"}))
                raise Untranslatable(f"this model does not take that 'reasoning_effort'; it takes {known}")
            usual: dict[str, Any] = {"type": "enabled", "budget_tokens": BUDGETS[effort]}
            if self._facts.adaptive:
                self._set_effort("low" if effort == "minimal" else effort)
                usual = {"type": "adaptive", "display": "summarized"}  # else its text is left out
            thinking = thinking or self._within_max_tokens(usual)
        if thinking and (taken := self._as_the_model_takes_it(thinking)):
            self._body["thinking"] = taken

    def _as_the_model_takes_it(self, given: Any) -> dict[str, Any] | None:
        thinking = dict_in(given, "'thinking'", "a dict with a type: enabled, adaptive or disabled")
        kind = thinking.get("type")
        if kind == "adaptive" and not self._facts.adaptive:
            return self._within_max_tokens({"type": "enabled", "budget_tokens": BUDGETS["medium"]})
        if kind == "enabled" and not self._facts.budgets:
            budget = count_in(thinking.get("budget_tokens") or 0, "'budget_tokens'")
            self._set_effort(next((one for one in ("xhigh", "high", "medium") if budget >= BUDGETS[one]), "low"))
            return {"type": "adaptive", **{name: thinking[name] for name in ("display",) if name in thinking}}
        if kind == "disabled" and self._facts.always_thinks:
            self._warn("the model always thinks: 'thinking' of type disabled was left out")
            return None
        return dict(thinking)

    def _within_max_tokens(self, thinking: dict[str, Any]) -> dict[str, Any] | None:
        most = self._most
        if most is None or most > thinking.get("budget_tokens", 0):
            return thinking
        if most > BUDGETS["minimal"]:
            return {**thinking, "budget_tokens": most - 1}
        self._warn("'thinking' was left out, max_tokens has no room for it")
        return None

    def _set_effort(self, effort: str) -> None:
        self._body["output_config"] = {
            "effort": effort,
            **dict_in(self._body.get("output_config", {}), "'output_config'"),
        }

    def _set_max_tokens(self) -> None:
        budget = (self._body.get("thinking") or {}).get("budget_tokens")
        usual = count_in(budget, "'budget_tokens'") + _ANSWER_TOKENS if budget else self._facts.max_tokens
        self._body["max_tokens"] = max(1, usual if self._most is None else self._most)

    def _set_tools(self) -> None:
        given, tools = self._given, []
        if "tools" in given:
            tools = tools_of(given["tools"], self._names, structured=self._facts.structured)
            if not self._facts.structured and any(map(_is_strict, dicts_in(given["tools"], "tools"))):
                self._warn("'strict' was left out of the tools")
        elif any(message.get("tool_calls") for message in self._messages):
            tools = [_DUMMY]  # the API refuses calls in the messages of a request without tools
        if "web_search_options" in given:
            tools = [*tools, web_search(given["web_search_options"])]
        if tools or "tools" in given:
            self._body["tools"] = tools
        choice = choice_of(given["tool_choice"], self._names) if "tool_choice" in given else None
        if choice and choice["type"] in ("any", "tool") and not self._facts.forced_tools:
            raise Untranslatable("this model cannot be made to call a tool; say 'tool_choice' auto, and ask for it")
        if "parallel_tool_calls" in given and choice != {"type": "none"}:
            choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": not given["parallel_tool_calls"]}
        if choice:
            self._body["tool_choice"] = choice

    def _set_format(self) -> None:
        schema = _schema_of(self._given)
        if schema is None:
            if self._given.get("response_format", {}).get("type", "text") != "text":
                self._warn("'response_format' was left out, it has no schema")
        elif self._facts.structured:
            self._body["output_format"] = {"type": "json_schema", "schema": supported(schema)}
        else:
            tool = {"name": _JSON_TOOL, "input_schema": {"type": "object", **schema}}
            self._body["tools"] = [tool, *self._body.get("tools", ())]
            if not self._body.get("thinking"):  # which goes with no forced call
                self._body["tool_choice"] = {"type": "tool", "name": _JSON_TOOL}

    def _set_user(self) -> None:
        if "prompt_cache_retention" in self._given:
            self._warn("'prompt_cache_retention' was left out, say it in cache_control")
        metadata = dict_in(self._given.get("metadata") or {}, "'metadata'")
        user = metadata.get("user_id", self._given.get("user"))
        if metadata.keys() - {"user_id"}:
            self._warn("of 'metadata' the API takes user_id only, the rest was left out")
        if user is not None and _PERSONAL.fullmatch(str(user)):
            self._warn("'user' was left out, the API refuses mail addresses and numbers")
        elif user is not None:
            self._body["metadata"] = {"user_id": user}

    def _converse(self) -> None:
        body = self._body
        system, turns = conversation_of(self._messages, system_inside=self._facts.system_inside, names=self._names)
        given = self._given.get("system") or []
        first = [{"type": "text", "text": given}] if isinstance(given, str) else dicts_in(given, "system")
        if system := [*map(dict, first), *system]:
            body["system"] = system
        body["messages"] = turns
        if (body.get("thinking") or {}).get("type") == "enabled" and lacks_thinking(turns):
            self._warn("'thinking' was left out, the last tool call came without its own")
            del body["thinking"]
            body["messages"] = without_thinking(turns)

    def _warn(self, what: str) -> None:
        _warn(what, self._named)


@functools.lru_cache(256)
def _warn(what: str, named: str) -> None:
    """Say what was left out: once for each model, not with each call."""
    _log.warning("%s: %s", named, what)


def _is_strict(tool: Mapping[str, Any]) -> bool:
    function = tool.get("function")
    return isinstance(function, Mapping) and bool(function.get("strict"))


def _schema_of(params: Params) -> Mapping[str, Any] | None:
    given = dict_in(params.get("response_format") or {}, "'response_format'", "a dict with the JSON schema")
    schema = given.get("response_schema")
    schema = schema or dict_in(given.get("json_schema") or {}, "'json_schema'").get("schema")
    return None if schema is None else dict_in(schema, "the schema of 'response_format'")
