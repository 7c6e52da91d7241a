"""Tools of the chat-completions vocabulary, the choice among them, and JSON schemas as the Messages API takes them.

Tools that are Anthropic's own pass untouched.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ._anthropic_shapes import Blocks, Untranslatable, dict_in, dicts_in, text_in

_LONGEST_NAME = 128
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_TOOL = frozenset({"type", "function", "name", "parameters"})
# fmt: off
_CONSTRAINTS = frozenset({
    "minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains", "prefixItems", "minimum",
    "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minProperties",
    "maxProperties", "patternProperties", "propertyNames", "dependentRequired", "dependentSchemas",
    "unevaluatedProperties", "if", "then", "else", "not",
})
# fmt: on


def tools_of(tools: Any, names: Mapping[str, str], *, structured: bool) -> Blocks:
    """The tools; `structured` says whether the model can be held to a schema, as functions with ``strict`` ask for."""
    return [_tool(tool, f"tools[{number}]", names, structured) for number, tool in enumerate(dicts_in(tools, "tools"))]


def choice_of(given: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """A ``tool_choice``, OpenAI's or the API's own.

    >>> choice_of("required", {})
    {'type': 'any'}
    """
    choice: dict[str, Any] = {"type": given}
    if not isinstance(given, str):
        choice = {**dict_in(given, "'tool_choice'", "a string or a dict")}
    if isinstance(choice.get("function"), Mapping):
        choice = {"type": "tool", "name": choice["function"].get("name")}
    choice["type"] = "any" if choice.get("type") == "required" else choice.get("type")
    if choice["type"] not in ("auto", "none", "any", "tool"):
        raise Untranslatable("the API has no such 'tool_choice'; it has auto, none, required, and one function")
    if "name" in choice:
        name = text_in(choice["name"], "the name in 'tool_choice'")
        choice["name"] = names.get(name, name)
    return choice


def sent_names(tools: Any) -> dict[str, str]:
    """What functions are called in the request, where the API does not take the caller's name.

    >>> sent_names([{"type": "function", "function": {"name": "a.b"}}])
    {'a.b': 'a_b'}
    """
    called = [
        text_in(tool["function"].get("name"), f"the name of tools[{number}]")
        for number, tool in enumerate(dicts_in(tools, "tools"))
        if isinstance(tool.get("function"), Mapping)
    ]
    taken = {name for name in called if name == sendable(name)}
    names: dict[str, str] = {}
    for name in dict.fromkeys(called):
        if name not in taken:
            names[name] = next(one for one in _candidates(sendable(name)) if one not in taken)
            taken.add(names[name])
    return names


def sendable(name: str) -> str:
    """A name or an id in the letters that the API takes."""
    return _NOT_IN_NAMES.sub("_", name)[:_LONGEST_NAME]


def web_search(options: Any) -> dict[str, Any]:
    """OpenAI's ``web_search_options`` as the API's tool."""
    options = dict_in(options, "'web_search_options'", "a dict, {} for none")
    tool: dict[str, Any] = {"type": "web_search_20250305", "name": "web_search"}
    place = dict_in(options.get("user_location") or {}, "'user_location'").get("approximate")
    if place:
        tool["user_location"] = {**dict_in(place, "'approximate'"), "type": "approximate"}
    if size := text_in(options.get("search_context_size"), "'search_context_size'"):
        tool["max_uses"] = {"low": 1, "medium": 5, "high": 10}.get(size, 5)
    return tool


def supported(schema: Any) -> Any:
    """A JSON schema in the subset that the API compiles; the constraints it has no word for go into the description."""
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, Any] = {}
    notes = []
    for name, value in schema.items():
        if name in _CONSTRAINTS:
            notes += [f"{name}: {json.dumps(value)}"] if value is not False else []
        elif name in ("properties", "$defs", "definitions") and isinstance(value, Mapping):
            found[name] = {key: supported(one) for key, one in value.items()}
        elif name in ("anyOf", "oneOf", "allOf"):
            name = "anyOf" if name == "oneOf" else name
            found[name] = [*found.get(name, ()), *map(supported, value)]
        else:
            found[name] = supported(value) if name == "items" else value
    if notes:
        found["description"] = f"{schema.get('description', '')} ({'; '.join(notes)})".strip()
    if found.get("type") == "object":
        found["additionalProperties"] = False
    return found


def _candidates(name: str) -> Iterator[str]:
    yield name
    for number in itertools.count(2):
        yield f"{name[: _LONGEST_NAME - 1 - len(str(number))]}_{number}"


def _tool(tool: Mapping[str, Any], where: str, names: Mapping[str, str], structured: bool) -> dict[str, Any]:
    function, kind = tool.get("function"), text_in(tool.get("type"), f"the type of {where}") or "function"
    if kind == "custom" and "custom" in tool:
        raise Untranslatable(f"{where}: the API has no tools of free text; make it a function")
    if function is None:
        return dict(tool)
    function = dict_in(function, f"the function of {where}")
    name, parameters = function.get("name") or "", dict_in(function.get("parameters") or {}, f"parameters of {where}")
    rest = {key: value for key, value in {**function, **tool}.items() if key not in _TOOL and value is not None}
    if kind not in ("function", "custom"):  # a tool of Anthropic's in the dress of a function
        return {"type": kind, "name": name, **parameters, **rest}
    schema = {"properties": {}, **parameters, "type": "object"}
    if rest.pop("strict", False) and structured:
        schema, rest["strict"] = supported(schema), True
    return {"type": "custom", "name": names.get(name, name), "input_schema": schema, **rest}
