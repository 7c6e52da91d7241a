"""Requests in the OpenAI chat-completions vocabulary as the JSON bodies that each provider takes.

Only what a provider would refuse or misunderstand is changed, by the table in `_chat_dialects`. Nothing else that the
caller set is dropped, added to or reworded: the provider decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from neuro_mw.types import Params

from ._chat_dialects import MAX_COMPLETION_TOKENS, Dialect, dialect_of

_CACHE_MARK = frozenset({"cache_control"})
_STRICT = frozenset({"strict"})


def body_of(provider: str, model: str, params: Params, *, stream: bool, at_openai: bool = False) -> dict[str, Any]:
    """The JSON body of one request. `params` and all in it stay as they are; the body may share parts with them.

    `provider` is a name of `neuro_mw.providers`, `params` are without keys of the transport (key, address, headers,
    timeout). A key whose value is None counts as not given. `at_openai`: the request goes to OpenAI's own address,
    not to another server under the name "openai".

    >>> body_of("mistral", "m", {"messages": [], "seed": 3}, stream=True)
    {'messages': [], 'model': 'm', 'stream': True, 'random_seed': 3}
    """
    dialect, name = dialect_of(provider, model, at_openai)
    body = {key: value for key, value in params.items() if value is not None}
    body["model"] = name
    if stream:
        body["stream"] = True
        if dialect.usage_in_streams and "stream_options" not in body:
            body["stream_options"] = {"include_usage": True}
    else:
        body.pop("stream", None)
        body.pop("stream_options", None)  # "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    if "messages" in body:
        body["messages"] = list(_messages(body["messages"], dialect))
    if "tools" in body:
        body["tools"] = _tools(body["tools"], dialect)
    if dialect.limit is not None:
        _one_limit(body, dialect.limit)
    if dialect.no_reasoning and body.get("reasoning_effort") == "none":
        del body["reasoning_effort"]
        body = {**dialect.no_reasoning, **body}
    for ours, theirs in dialect.renames.items():
        if ours in body:
            body.setdefault(theirs, body.pop(ours))
    for key, words in dialect.values.items():
        if isinstance(body.get(key), str):
            body[key] = words.get(body[key], body[key])
    return body


def _one_limit(body: dict[str, Any], name: str) -> None:
    """Call the output limit by the one name; the newer of OpenAI's names stands where both are given."""
    older = body.pop("max_tokens", None)
    limit = body.pop(MAX_COMPLETION_TOKENS, older)
    if limit is not None:
        body[name] = limit


def _messages(messages: Any, dialect: Dialect) -> Iterator[Any]:
    for message in messages:
        if not isinstance(message, dict):
            yield message
        elif len(message) == 2 and type(message.get("content")) is str and message.get("role") in ("user", "system"):
            yield message  # the usual one, as it is
        elif (changed := _message(message, dialect)) is not None:
            yield changed


def _message(message: dict[str, Any], dialect: Dialect) -> dict[str, Any] | None:
    """A message as the provider takes it; None for one that says nothing where that is refused."""
    role = message.get("role")
    # `"tool_calls": null` and the like are refused; a null content is OpenAI's own way of saying "tool calls only"
    new = {key: value for key, value in message.items() if value is not None or key == "content"}
    if role == "developer" and not dialect.developer:
        new["role"] = role = "system"
    if dialect.names is not None and role not in dialect.names:
        new.pop("name", None)
    if role == "assistant":
        for key in dialect.foreign:
            new.pop(key, None)
    mark = new.pop("cache_control", None) if dialect.cache_control != "keep" else None
    content = new.get("content")
    if isinstance(content, list):
        new["content"] = _content(content, role, dialect)
    if mark is not None and dialect.cache_control == "content":
        new["content"] = _marked(new.get("content"), mark)
    if (
        not dialect.empty_answers
        and role == "assistant"
        and not new.get("content")
        and new.keys() <= {"role", "content"}
    ):
        return None
    return new


def _content(content: list[Any], role: Any, dialect: Dialect) -> Any:
    if not dialect.text_parts and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        return "".join(part.get("text") or "" for part in content)
    return [_part(part, role, dialect) if isinstance(part, dict) else part for part in content]


def _part(part: dict[str, Any], role: Any, dialect: Dialect) -> dict[str, Any]:
    if "cache_control" in part and dialect.cache_control == "drop":
        part = _without(part, _CACHE_MARK)
    kind = part.get("type")
    if role == "user" and kind == "image_url" and isinstance(part.get("image_url"), str):
        return {**part, "image_url": {"url": part["image_url"]}}  # the form of the first vision models, now refused
    if not dialect.file_parts and kind == "file" and isinstance(part.get("file"), dict) and part["file"].get("file_id"):
        return {**_without(part, frozenset({"file"})), "file_id": part["file"]["file_id"]}
    return part


def _marked(content: Any, mark: Any) -> Any:
    if isinstance(content, list) and content and isinstance(content[-1], dict):
        return [*content[:-1], {**content[-1], "cache_control": mark}]
    return [{"type": "text", "text": content, "cache_control": mark}] if isinstance(content, str) else content


def _tools(tools: Any, dialect: Dialect) -> Any:
    refused = frozenset() if dialect.cache_control != "drop" else _CACHE_MARK
    if not dialect.strict_tools:
        refused |= _STRICT
    return [_tool(tool, refused) if isinstance(tool, dict) else tool for tool in tools] if refused else tools


def _tool(tool: dict[str, Any], refused: frozenset[str]) -> dict[str, Any]:
    function = tool.get("function")
    if isinstance(function, dict) and not refused.isdisjoint(function):
        tool = {**tool, "function": _without(function, refused)}
    return tool if refused.isdisjoint(tool) else _without(tool, refused)


def _without(data: dict[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in keys}
