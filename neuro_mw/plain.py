"""Objects in a request as the plain data that a provider gets, so that whoever looks at a request sees all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

__all__ = ["as_plain", "plain_message"]


def as_plain(value: Any) -> Any:
    """An object of an SDK (a pydantic model, a dataclass, another mapping) as a dict, without what is null in it.

    What is no such object stays what it is.

    >>> from types import MappingProxyType
    >>> as_plain(MappingProxyType({"role": "user"})), as_plain("x")
    ({'role': 'user'}, 'x')
    """
    if isinstance(value, dict | str):
        return value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_none=True)
    if is_dataclass(value) and not isinstance(value, type):
        return {name: one for name, one in asdict(value).items() if one is not None}
    return dict(value) if isinstance(value, Mapping) else value


def plain_message(message: Any) -> Any:
    """A message of a request, and the parts of its content, as dicts; a copy of its own where it is one.

    >>> plain_message({"role": "user", "content": "hi"})
    {'role': 'user', 'content': 'hi'}
    """
    message = dict(message) if isinstance(message, dict) else as_plain(message)
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list | tuple) and not all(type(part) is dict for part in content):
        message["content"] = [as_plain(part) for part in content]
    return message
