"""Requests of the chat-completions vocabulary as bodies of Anthropic's Messages API.

What the API has no word for is refused here, before anything is sent; keys that neither vocabulary knows pass
untouched. Where models differ, their version decides, which is in their name.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from neuro_mw.errors import BadRequest
from neuro_mw.types import Params

from ._anthropic_answers import Untranslatable
from ._anthropic_betas import betas_of
from ._anthropic_messages import choice_of, conversation_of, plain, sent_names, supported, tools_of, web_search
from ._thinking import lacks_thinking, without_thinking

_JSON_TOOL = "json_tool_call"
_DUMMY = {"name": "dummy_tool", "type": "custom", "input_schema": {"type": "object", "properties": {}}}
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}
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
_NAME = re.compile(r"claude-[a-z]+-(\d)(?:[-._](\d{1,2}))?(?!\d)|claude-(\d)(?:[-.](\d))?-[a-z]")
_PERSONAL = re.compile(r"[\w.%+-]+@[\w.-]+\.[a-zA-Z]{2,}|\+?[\d\s()-]{7,}")
_log = logging.getLogger("neuro_mw")


def body_of(params: Params, model: str, *, stream: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """The body of a POST to /v1/messages, and the headers that it needs beside key and version.

    Raises BadRequest, before anything is sent, for what the API has no word for. Changes nothing in `params`.

    >>> body_of({"messages": [{"role": "user", "content": "hi"}]}, "claude-sonnet-4-5", stream=False)[0]["max_tokens"]
    64000
    """
    try:
        return _Builder(params, model).request(stream)
    except Untranslatable as error:
        raise BadRequest(f"anthropic/{model}: {error}", provider="anthropic", model=model) from None


def renamed_of(params: Params, model: str) -> dict[str, str | None]:
    """What the translation of the answer has to undo: the names that tools were sent by -> the caller's.

    None stands for the tool that the model is made to call where it cannot be held to a schema: its input is the text.

    >>> renamed_of({"tools": [{"type": "function", "function": {"name": "a.b"}}]}, "claude-sonnet-4-5")
    {'a_b': 'a.b'}
    """
    renamed: dict[str, str | None] = {sent: name for name, sent in sent_names(params.get("tools") or ()).items()}
    if _schema_of(params) is not None and not _facts(model).structured:
        renamed[_JSON_TOOL] = None
    return renamed


class _Facts(NamedTuple):
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
def _facts(model: str) -> _Facts:
    name = model.lower()
    found = _NAME.search(name)
    digits = [int(one) for one in found.groups() if one] if found else []
    version = (*digits, 0)[:2] if digits else (4, 7) if "mythos-preview" in name else None
    at = version or (0, 0)
    adaptive = at >= (4, 6)
    latest = re.search(r"(fable|mythos)-5[-.]1|(opus|sonnet)-5[-.]5", name)
    return _Facts(
        max_tokens=128_000 if adaptive else 64_000 if at >= (4, 5) else 4096,
        thinks=version is None or at >= (3, 7),
        adaptive=adaptive,
        budgets=at <= (4, 6),
        always_thinks=bool(latest or re.search("fable|mythos", name)),
        efforts=frozenset(_BUDGETS) - ({"xhigh"} if at == (4, 6) else set()),
        structured=at >= (4, 5),
        sampling=at < (4, 7),
        system_inside=at >= (4, 8),
        forced_tools=not latest,
        fast=version is None or ("opus" in name and adaptive),
    )


class _Builder:
    """One request on its way from the one vocabulary to the other."""

    def __init__(self, params: Params, model: str) -> None:
        self._given = {name: value for name, value in params.items() if value is not None}
        self._model, self._facts = model, _facts(model)
        self._most = self._given.get("max_completion_tokens", self._given.get("max_tokens"))
        self._messages = [plain(one) for one in self._given.get("messages", ())]
        self._names = sent_names(self._given.get("tools", ()))
        self._body: dict[str, Any] = {"model": model}

    def request(self, stream: bool) -> tuple[dict[str, Any], dict[str, str]]:
        given, body = self._given, self._body
        self._refuse()
        body.update({name: value for name, value in given.items() if name not in _HANDLED})
        if stream:
            body["stream"] = True
        if stop := given.get("stop"):
            body["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
        self._think()
        self._set_max_tokens()
        self._set_tools()
        self._set_format()
        self._set_user()
        self._converse()
        betas = list(dict.fromkeys([*given.get("betas", ()), *betas_of(body, effort_is_new=self._facts.adaptive)]))
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
        effort = effort.get("effort") if isinstance(effort, Mapping) else effort
        if effort not in (None, "none"):
            if effort not in self._facts.efforts:
                known = ", ".join(sorted({*self._facts.efforts, "none"}))
                raise Untranslatable(f"this model does not take that 'reasoning_effort'; it takes {known}")
            usual: dict[str, Any] = {"type": "enabled", "budget_tokens": _BUDGETS[effort]}
            if self._facts.adaptive:
                self._set_effort("low" if effort == "minimal" else effort)
                usual = {"type": "adaptive", "display": "summarized"}  # else its text is left out
            thinking = thinking or usual
        if thinking and (taken := self._as_the_model_takes_it(thinking)):
            self._body["thinking"] = taken

    def _as_the_model_takes_it(self, thinking: Any) -> dict[str, Any] | None:
        kind = thinking.get("type")
        if kind == "adaptive" and not self._facts.adaptive:
            return self._within_max_tokens({"type": "enabled", "budget_tokens": _BUDGETS["medium"]})
        if kind == "enabled" and not self._facts.budgets:
            budget = thinking.get("budget_tokens") or 0
            self._set_effort(next((one for one in ("xhigh", "high", "medium") if budget >= _BUDGETS[one]), "low"))
            return {"type": "adaptive", **{name: thinking[name] for name in ("display",) if name in thinking}}
        if kind == "disabled" and self._facts.always_thinks:
            _warn("the model always thinks: 'thinking' of type disabled was left out", self._model)
            return None
        return dict(thinking)

    def _within_max_tokens(self, thinking: dict[str, Any]) -> dict[str, Any] | None:
        most = self._most
        if most is None or most > thinking["budget_tokens"]:
            return thinking
        if most > _BUDGETS["minimal"]:
            return {**thinking, "budget_tokens": int(most) - 1}
        _warn("'thinking' was left out, max_tokens has no room for it", self._model)
        return None

    def _set_effort(self, effort: str) -> None:
        self._body["output_config"] = {"effort": effort, **self._body.get("output_config", {})}

    def _set_max_tokens(self) -> None:
        budget = (self._body.get("thinking") or {}).get("budget_tokens")
        usual = budget + _ANSWER_TOKENS if budget else self._facts.max_tokens
        self._body["max_tokens"] = max(1, round(usual if self._most is None else self._most))

    def _set_tools(self) -> None:
        given, tools = self._given, []
        if "tools" in given:
            tools = tools_of(given["tools"], self._names, structured=self._facts.structured)
            if not self._facts.structured and any((one.get("function") or {}).get("strict") for one in given["tools"]):
                _warn("'strict' was left out of the tools", self._model)
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
                _warn("'response_format' was left out, it has no schema", self._model)
        elif self._facts.structured:
            self._body["output_format"] = {"type": "json_schema", "schema": supported(schema)}
        else:
            tool = {"name": _JSON_TOOL, "input_schema": {"type": "object", **schema}}
            self._body["tools"] = [tool, *self._body.get("tools", ())]
            if not self._body.get("thinking"):  # which goes with no forced call
                self._body["tool_choice"] = {"type": "tool", "name": _JSON_TOOL}

    def _set_user(self) -> None:
        if "prompt_cache_retention" in self._given:
            _warn("'prompt_cache_retention' was left out, say it in cache_control", self._model)
        metadata = self._given.get("metadata") or {}
        user = metadata.get("user_id", self._given.get("user"))
        if metadata.keys() - {"user_id"}:
            _warn("of 'metadata' the API takes user_id only, the rest was left out", self._model)
        if user is not None and _PERSONAL.fullmatch(str(user)):
            _warn("'user' was left out, the API refuses mail addresses and numbers", self._model)
        elif user is not None:
            self._body["metadata"] = {"user_id": user}

    def _converse(self) -> None:
        body = self._body
        system, turns = conversation_of(self._messages, system_inside=self._facts.system_inside, names=self._names)
        given = self._given.get("system") or []
        if system := [*([{"type": "text", "text": given}] if isinstance(given, str) else given), *system]:
            body["system"] = system
        body["messages"] = turns
        if (body.get("thinking") or {}).get("type") == "enabled" and lacks_thinking(turns):
            _warn("'thinking' was left out, the last tool call came without its own", self._model)
            del body["thinking"]
            body["messages"] = without_thinking(turns)


@functools.lru_cache(256)
def _warn(what: str, model: str) -> None:
    """Say what was left out: once for each model, not with each call."""
    _log.warning("anthropic/%s: %s", model, what)


def _schema_of(params: Params) -> Any:
    given = params.get("response_format") or {}
    if not isinstance(given, Mapping):
        raise Untranslatable("'response_format' is no dict; give the JSON schema of that type")
    return given.get("response_schema") or (given.get("json_schema") or {}).get("schema")
