"""Messages and tools of the chat-completions vocabulary as those of Anthropic's Messages API.

The API knows two roles that alternate, and a list of blocks in each turn. Blocks and tools that are Anthropic's own
pass untouched.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ._anthropic_answers import LONGEST_NAME, Blocks, Untranslatable, blocks_of, sendable

# the answer to "why is this here" that a model can use
NOTE = "[What follows is a system message that was sent at this point of the conversation.]"
EMPTY = "(empty message)"  # the API takes no turn without text
_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,", re.IGNORECASE)
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_DOCUMENTS = frozenset({"application/pdf", "text/plain"})
_TOOL = frozenset({"type", "function", "name", "parameters"})
# fmt: off
_CONSTRAINTS = frozenset({
    "minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains", "prefixItems", "minimum",
    "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minProperties",
    "maxProperties", "patternProperties", "propertyNames", "dependentRequired", "dependentSchemas",
    "unevaluatedProperties", "if", "then", "else", "not",
})
# fmt: on
_NO_WORD = frozenset({"input_audio", "audio_url", "video_url", "input_video"})


def conversation_of(
    messages: Sequence[Mapping[str, Any]], *, system_inside: bool, names: Mapping[str, str]
) -> tuple[Blocks, Blocks]:
    """The system prompt's blocks, and the turns.

    The system messages at the start are the system prompt. Later ones stay where they are, since moving them up would
    void the provider's cache of all that came before: as system turns where the model takes them (`system_inside`),
    else as the user's, with a note. `names` maps the caller's names of tools to those that are sent.

    >>> conversation_of([{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
    ...                 system_inside=False, names={})
    ([{'type': 'text', 'text': 'be brief'}], [{'role': 'user', 'content': [{'type': 'text', 'text': 'hi'}]}])
    """
    lead: Blocks = []
    turns = _Turns(system_inside)
    for number, message in enumerate(messages):
        role = message.get("role")
        try:
            if role in ("system", "developer"):
                blocks = list(_parts(message))
                (turns.held if turns.found else lead).extend(blocks)
            elif role == "user":
                turns.add_user(list(_parts(message)) or [_text(EMPTY)])
            elif role in ("tool", "function"):
                turns.add("user", [_tool_result(message)])
            elif role == "assistant":
                turns.add_held()
                blocks = blocks_of(message, list(_parts(message)), names)
                turns.add("assistant", [block for block in blocks if not _is_blank(block)])
            else:
                raise Untranslatable("the role is none of system, developer, user, assistant, tool")
        except Untranslatable as error:
            raise Untranslatable(f"messages[{number}]: {error}") from None
    turns.add_held()
    if not turns.found:
        raise Untranslatable("messages: at least one has to be another than a system message")
    last = turns.found[-1]
    if last["role"] == "assistant" and last["content"][-1].get("type") == "text":
        end = last["content"][-1]
        last["content"][-1] = {**end, "text": end["text"].rstrip()}  # else the API refuses what the model is to go on
    return lead, turns.found


def plain(message: Any) -> Mapping[str, Any]:
    """A message as a dict, also where it is an object of an SDK."""
    found: Mapping[str, Any] = message if isinstance(message, Mapping) else message.model_dump(exclude_none=True)
    return found


class _Turns:
    """Turns that alternate: what follows in the same role joins the turn."""

    def __init__(self, system_inside: bool) -> None:
        self._system_inside = system_inside
        self.found: Blocks = []
        self.held: Blocks = []  # of system messages, which may stand behind a user's turn only

    def add(self, role: str, blocks: Blocks) -> None:
        if not blocks:
            return
        if self.found and self.found[-1]["role"] == role:
            self.found[-1]["content"].extend(blocks)
        else:
            self.found.append({"role": role, "content": blocks})

    def add_user(self, blocks: Blocks) -> None:
        if not self._system_inside:
            self.add_held()
        self.add("user", blocks)

    def add_held(self) -> None:
        held, self.held = self.held, []
        if held and self._system_inside and self.found[-1]["role"] == "user":
            self.add("system", held)
        elif held:
            self.add("user", [_text(NOTE), *held])


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _is_blank(block: Mapping[str, Any]) -> bool:
    """Whether it is a text without a letter, which the API refuses."""
    return block.get("type") == "text" and not str(block.get("text") or "").strip()


def _parts(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The blocks of a message's content, without blank texts; its own cache_control is that of the last."""
    content = message.get("content")
    given = [_text(content)] if isinstance(content, str) else content or ()
    blocks = [block for part in given if not _is_blank(block := _part(part))]
    if blocks and message.get("cache_control") is not None:
        blocks[-1].setdefault("cache_control", message["cache_control"])
    yield from blocks


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "image_url":
        given = part.get("image_url")
        image = given if isinstance(given, Mapping) else {"url": given}
        block = _media(image.get("url"), image.get("format"))
    elif kind == "file":
        block = _file(part.get("file") or {})
    elif kind == "refusal":
        block = _text(part.get("refusal") or "")
    elif kind in _NO_WORD:
        raise Untranslatable(f"content of type {kind!r} has no form in this API; leave it out")
    else:
        return {name: value for name, value in part.items() if value is not None}
    if part.get("cache_control") is not None:
        block["cache_control"] = part["cache_control"]
    return block


def _media(url: Any, media_type: str | None, kind: str = "image") -> dict[str, Any]:
    if not isinstance(url, str):
        raise Untranslatable(f"a part of type {kind} has no URL")
    if url.startswith(("https://", "http://")):
        return {"type": kind, "source": {"type": "url", "url": url}}
    found = _DATA_URL.match(url)
    if not found:
        raise Untranslatable(f"the {kind} is neither an https URL nor of the form data:<media type>;base64,<data>")
    media_type = media_type or found[1]
    if kind == "image" and media_type in _DOCUMENTS:
        kind = "document"
    return {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": url[found.end() :]}}


def _file(file: Mapping[str, Any]) -> dict[str, Any]:
    id, media_type = file.get("file_id"), file.get("format")
    if file.get("file_data"):
        block = _media(file["file_data"], media_type, "document")
    elif not id:
        raise Untranslatable("a part of type file has neither file_data nor file_id")
    elif str(id).startswith(("https://", "http://")):
        block = _media(id, None, "document")
    elif media_type in _IMAGES or media_type in _DOCUMENTS:
        kind = "image" if media_type in _IMAGES else "document"
        block = {"type": kind, "source": {"type": "file", "file_id": id}}
    else:
        return {"type": "container_upload", "file_id": id}
    if file.get("filename") and block["type"] == "document":
        block["title"] = file["filename"]
    return block


def _tool_result(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    id = message.get("tool_call_id") or f"call_{message.get('name')}"
    result: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": sendable(id),
        "content": content if isinstance(content, str) else list(_parts({"content": content})),
    }
    for name in ("is_error", "cache_control"):
        if message.get(name) is not None:
            result[name] = message[name]
    return result


def is_file(block: Mapping[str, Any]) -> bool:
    """Whether a block names a file that was uploaded before."""
    source, inner = block.get("source"), block.get("content")
    if block.get("type") == "container_upload" or (isinstance(source, Mapping) and source.get("type") == "file"):
        return True
    return block.get("type") == "tool_result" and isinstance(inner, list) and any(map(is_file, inner))


# --- tools -------------------------------------------------------------------------------------------------------


def tools_of(tools: Iterable[Mapping[str, Any]], names: Mapping[str, str], *, structured: bool) -> Blocks:
    """The tools; `structured` says whether the model can be held to a schema, as functions with ``strict`` ask for."""
    return [_tool(tool, names, structured) for tool in tools]


def choice_of(given: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """A ``tool_choice``, OpenAI's or the API's own.

    >>> choice_of("required", {})
    {'type': 'any'}
    """
    choice: dict[str, Any] = {**given} if isinstance(given, Mapping) else {"type": given}
    if isinstance(choice.get("function"), Mapping):
        choice = {"type": "tool", "name": choice["function"].get("name")}
    choice["type"] = "any" if choice["type"] == "required" else choice["type"]
    if choice["type"] not in ("auto", "none", "any", "tool"):
        raise Untranslatable("the API has no such 'tool_choice'; it has auto, none, required, and one function")
    if "name" in choice:
        choice["name"] = names.get(choice["name"], choice["name"])
    return choice


def sent_names(tools: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What functions are called in the request, where the API does not take the caller's name.

    >>> sent_names([{"type": "function", "function": {"name": "a.b"}}])
    {'a.b': 'a_b'}
    """
    called = [tool["function"].get("name") or "" for tool in tools if isinstance(tool.get("function"), Mapping)]
    taken = {name for name in called if name == sendable(name)}
    names: dict[str, str] = {}
    for name in dict.fromkeys(called):
        if name not in taken:
            names[name] = next(one for one in _candidates(sendable(name)) if one not in taken)
            taken.add(names[name])
    return names


def web_search(options: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's ``web_search_options`` as the API's tool."""
    tool: dict[str, Any] = {"type": "web_search_20250305", "name": "web_search"}
    if place := (options.get("user_location") or {}).get("approximate"):
        tool["user_location"] = {**place, "type": "approximate"}
    if size := options.get("search_context_size"):
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
        yield f"{name[: LONGEST_NAME - 1 - len(str(number))]}_{number}"


def _tool(tool: Mapping[str, Any], names: Mapping[str, str], structured: bool) -> dict[str, Any]:
    function, kind = tool.get("function"), tool.get("type") or "function"
    if kind == "custom" and "custom" in tool:
        raise Untranslatable("tools: the API has no tools of free text; make it a function")
    if not isinstance(function, Mapping):
        return dict(tool)
    name, parameters = function.get("name") or "", function.get("parameters") or {}
    rest = {key: value for key, value in {**function, **tool}.items() if key not in _TOOL and value is not None}
    if kind not in ("function", "custom"):  # a tool of Anthropic's in the dress of a function
        return {"type": kind, "name": name, **parameters, **rest}
    schema = {"properties": {}, **parameters, "type": "object"}
    if rest.pop("strict", False) and structured:
        schema, rest["strict"] = supported(schema), True
    return {"type": "custom", "name": names.get(name, name), "input_schema": schema, **rest}
