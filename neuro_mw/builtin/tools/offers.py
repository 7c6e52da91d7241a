"""The tools that a request offers, in each form in which a driver takes them, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from neuro_mw import Params
from neuro_mw.plain import as_plain

_DICTS = (dict, Mapping)  # in this order: for a dict, which it is nearly always, that is far cheaper


class Tool(NamedTuple):
    """One tool: the JSON schema of its arguments, None for none; ``is_text`` where they are text, and no JSON."""

    schema: Any = None
    is_text: bool = False


class Offers:
    """What a request offers: tools by name, and of these the ones that may be called, None for all.

    ``extra_body`` is laid over the request behind all layers, so its tools are those that count. Tools without a name,
    which the provider runs itself, are called by no one here.

    >>> request = {"tools": [{"type": "function", "function": {"name": "look"}}], "tool_choice": "none"}
    >>> offers = Offers(request)
    >>> offers.find("look"), offers.find("leap"), offers.chosen
    (Tool(schema=None, is_text=False), None, frozenset())
    """

    __slots__ = ("_found", "as_tools", "chosen")

    def __init__(self, params: Params) -> None:
        body = params.get("extra_body")
        given = {**params, **body} if body is not None and isinstance(body, Mapping) else params
        self._found: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
        if (functions := given.get("functions")) is not None:
            self._add_all(functions)
        self.as_tools = self._add_all(given.get("tools"))  # whether calls and results of tools may stand in the request
        choice = given.get("tool_choice")
        if choice is None:
            choice = given.get("function_call")
        self.chosen = None if choice is None else _chosen(choice)

    def find(self, name: str) -> Tool | None:
        """The tool of that name; None where none is offered."""
        found = self._found.get(name)
        if found is None:
            return None
        tool, holder = found
        kind = tool.get("type")
        if holder is tool.get("custom"):
            return Tool(is_text=True)
        if "input_schema" in holder:
            return Tool(holder["input_schema"])
        # one of Anthropic's own tools has settings where a function has its parameters
        return Tool(holder.get("parameters") if kind in (None, "function", "custom") else None)

    @property
    def names(self) -> list[str]:
        """The names of all tools."""
        return list(self._found)

    def _add_all(self, tools: Any) -> bool:
        if not isinstance(tools, list | tuple):
            return False
        for tool in tools:
            if (
                type(tool) is dict
                and type(function := tool.get("function")) is dict
                and type(function.get("name")) is str
            ):
                self._found[function["name"]] = tool, function  # as most are
            else:
                self._add(tool if isinstance(tool, dict | type) else as_plain(tool))
        return bool(tools)

    def _add(self, tool: Any) -> None:
        if not isinstance(tool, _DICTS):
            return
        for holder in (tool.get("function"), tool.get("custom"), tool):
            if holder is not None and isinstance(holder, _DICTS) and isinstance(name := holder.get("name"), str):
                self._found[name] = tool, holder
                return


def _chosen(choice: Any) -> frozenset[str] | None:
    """The names that a ``tool_choice`` leaves; None where it leaves all."""
    if choice == "none":
        return frozenset()
    choice = _plain(choice)
    if not isinstance(choice, Mapping):
        return None
    if choice.get("type") == "none":
        return frozenset()
    allowed = _plain(choice.get("allowed_tools", choice))
    if isinstance(allowed, Mapping) and isinstance(allowed.get("tools"), list | tuple):
        return frozenset(name for one in allowed["tools"] if (name := _name_in(one)) is not None)
    name = _name_in(choice)
    return None if name is None else frozenset([name])


def _plain(value: Any) -> Any:
    """An object as a dict: one of an SDK, or one that only has attributes."""
    if isinstance(value, str | dict | list | tuple | type) or value is None:
        return value
    made = as_plain(value)
    return vars(made) if made is value and hasattr(made, "__dict__") else made


def _name_in(choice: Any) -> str | None:
    choice = _plain(choice)
    holders = (choice.get("function"), choice.get("custom"), choice) if isinstance(choice, Mapping) else ()
    names = (holder.get("name") for one in holders if isinstance(holder := _plain(one), Mapping))
    return next((name for name in names if isinstance(name, str)), None)
