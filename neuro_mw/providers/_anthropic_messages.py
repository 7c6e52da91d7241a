"""Messages of the chat-completions vocabulary as turns of Anthropic's Messages API.

The API knows two roles that alternate, and a list of blocks in each turn. Blocks that are Anthropic's own pass
untouched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ._anthropic_history import blocks_of
from ._anthropic_shapes import Blocks, Untranslatable, dict_in, dicts_in, text_in
from ._anthropic_tools import sendable

# the answer to "why is this here" that a model can use
NOTE = "[What follows is a system message that was sent at this point of the conversation.]"
EMPTY = "(empty message)"  # the API takes no turn without text
_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,", re.IGNORECASE)
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_DOCUMENTS = frozenset({"application/pdf", "text/plain"})
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
    content = () if content is None else content
    given = [_text(content)] if isinstance(content, str) else dicts_in(content, "content")
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
        block = _file(dict_in(part.get("file") or {}, "'file'"))
    elif kind == "text" and not isinstance(part.get("text"), str):
        block = _text(text_in(part.get("text"), "the text of a part"))
    elif kind == "refusal":
        block = _text(text_in(part.get("refusal"), "'refusal'"))
    elif kind in _NO_WORD:
        raise Untranslatable(f"content of type {kind!r} has no form in this API; leave it out")
    else:
        return {name: value for name, value in part.items() if value is not None}
    if part.get("cache_control") is not None:
        block["cache_control"] = part["cache_control"]
    return block


def _media(url: Any, media_type: Any, kind: str = "image") -> dict[str, Any]:
    if not isinstance(url, str):
        raise Untranslatable(f"a part of type {kind} has no URL")
    media_type = text_in(media_type, "'format'")
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
    id, media_type = file.get("file_id"), text_in(file.get("format"), "'format'")
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
    id = text_in(message.get("tool_call_id"), "'tool_call_id'") or f"call_{message.get('name')}"
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
