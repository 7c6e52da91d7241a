"""What pydantic says of a value, without a word of the value."""

from __future__ import annotations

import re
from typing import Any

REFUSED = "a validator refuses it"
_OF_CODE = ("value_error", "assertion_error")  # what these say is made by a validator, perhaps of the value
_FIELD = re.compile(r"\{(\w+)\}")
_OF_SCHEMA = frozenset((  # what stands in a message from the schema, and how many there are of something
    "expected", "expected_plural", "expected_schemes", "expected_version", "discriminator", "class", "class_name",
    "field_type", "gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "actual_length",
    "max_digits", "decimal_places", "whole_digits",
))  # fmt: skip
_OF_JSON = {  # where pydantic has other words for JSON than for Python
    "time_delta_type": "Input should be a valid duration",
    "time_delta_parsing": "Input should be a valid duration, {error}",
    "named_tuple_type": "Input should be an array or an object",
    "arguments_type": "Arguments must be an array or an object",
    "none_required": "Input should be null",
    **dict.fromkeys(
        ("iterable_type", "list_type", "deque_type", "tuple_type", "set_type", "frozen_set_type"),
        "Input should be a valid array",
    ),
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dataclass_type", "dict_type", "frozen_dict_type", "ordered_dict_type",
         "counter_type"),
        "Input should be an object",
    ),
}  # fmt: skip


def of_schema(kind: str, said: str, context: dict[str, Any] | None) -> str:
    """What of the message of one error holds nothing of the value: of pydantic's own errors what is before that.

    Of others nothing: a validator may say anything, and under the name of one of pydantic's.

    >>> of_schema("int_type", "Input should be a valid integer", None), of_schema("no_user", "no user Bob", None)
    ('Input should be a valid integer', 'a validator refuses it')
    """
    from pydantic_core import PydanticKnownError

    if kind in _OF_CODE:
        return REFUSED
    try:
        template = PydanticKnownError(kind, context).message_template  # type: ignore[arg-type]  # any text may come
    except (KeyError, TypeError, ValueError):
        return REFUSED
    for words in (template, _OF_JSON.get(kind, template)):
        pieces = _FIELD.split(words)  # text and names of fields, in turn
        if re.fullmatch(".*".join(map(re.escape, pieces[::2])), said, re.DOTALL):
            break
    else:
        return REFUSED
    if kind == "union_tag_invalid" and context:
        return f"{context['discriminator']} should be one of {context['expected_tags']}"
    first = next((at for at in range(1, len(pieces), 2) if pieces[at] not in _OF_SCHEMA), None)
    if first is None:
        return said
    return pieces[0].rstrip(" ,:'") if first == 1 else REFUSED
