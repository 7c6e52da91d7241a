"""What the tests of tool_guard share: tools, answers that call them, a model whose parts are given."""

from neuro_mw import Response, TextDelta, ToolCall, ToolCallDelta, Usage, collect

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 10}},
    "required": ["city"],
    "additionalProperties": False,
}


def function(name, parameters=WEATHER):
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [function("weather"), function("file_read", {"type": "object"}), function("file_delete", {"type": "object"})]
PARIS = '{"city": "Paris"}'


def calling(*calls, text="", reason="tool_calls", **more):
    """An answer with these calls, each a name, (name, arguments) or (name, arguments, id)."""
    made = []
    for number, call in enumerate(calls):
        name, arguments, id = (
            (*((call,) if isinstance(call, str) else call), PARIS, f"c{number}")[:3]
            if (isinstance(call, str) or len(call) == 3)
            else (*call, f"c{number}")
        )
        made.append(ToolCall(id, name, arguments))
    return Response(text=text, tool_calls=made, finish_reason=reason, usage=Usage(5, 3), **more)


class Parts:
    """A model that streams these very parts; in generate, what they collect to."""

    provider, model_id = "openai", "gpt-4o"

    def __init__(self, parts):
        self.parts, self.closed = parts, 0

    async def generate(self, params):
        return await collect(list(self.parts))

    async def stream(self, params):
        try:
            for part in self.parts:
                yield part
        finally:
            self.closed += 1


async def read(wrapped, mode, **params):
    """The parts of one call; in generate, those of the answer."""
    from neuro_mw import parts_of

    if mode == "generate":
        return list(parts_of(await wrapped.generate("hi", **params)))
    async with wrapped.stream("hi", **params) as stream:
        return [part async for part in stream]


def kinds(parts):
    return ["text" if isinstance(one, TextDelta) else "call" if isinstance(one, ToolCallDelta) else one.type
            for one in parts]  # fmt: skip
