"""extract_reasoning: text and reasoning are told apart exactly, wherever the answer is cut."""

import asyncio

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neuro_mw import (
    Blocked,
    ConfigError,
    Finish,
    ProviderDelta,
    ProviderUnavailable,
    ReasoningDelta,
    Response,
    ResponseInfo,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    collect,
    middleware,
    parts_of,
)
from neuro_mw.builtin.extract_reasoning import ExtractReasoning
from neuro_mw.testing import Fault, FaultyModel, ScriptedModel, cut
from tests.chain.conftest import MODES, call, run, wrap


class Parts:
    """A model that streams these very parts."""

    provider, model_id = "openai", "gpt-4o"

    def __init__(self, *parts):
        self.parts = [*parts, Finish("stop", Usage(3, 2))]

    async def generate(self, params):
        return await collect(self.parts)

    async def stream(self, params):
        for part in self.parts:
            yield part


def ask(mode, text, *, cuts=(3,), **options):
    response = text if isinstance(text, Response) else Response(text=text)
    return run(call(wrap(ScriptedModel(response, cuts=cuts), ExtractReasoning(**options)), mode))


async def left(model, layer):
    async with wrap(model, layer).stream("hi") as stream:
        return [part async for part in stream][:-1]


def channels(response):
    return response.reasoning, response.text


def expected(text, tag="think", separator="\n", start=False, given=""):
    """The same by plain splitting: stretches in turn outside and inside, the empty ones left out."""
    stretches, inside = {False: [], True: [given]}, start
    while True:
        stretch, found, text = text.partition(f"</{tag}>" if inside else f"<{tag}>")
        stretches[inside].append(stretch)
        if not found:
            return tuple(separator.join(filter(None, stretches[side])) for side in (True, False))
        inside = not inside


PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "<th", "<think", "</", ">", "a", "\n", "é\U0001f600", "x>"])
)


@pytest.mark.parametrize("mode", MODES)
@given(
    pieces=PIECES,
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    separator=st.sampled_from(["\n", "", "<think>", " | "]),
    start=st.booleans(),
    given_=st.sampled_from(["", "so", "<think>"]),
)
@example(pieces=["a<think></think>b"], cuts=[1], separator="\n", start=False, given_="")
def test_the_channels_are_right_for_every_cut(mode, pieces, cuts, separator, start, given_):
    text = "".join(pieces)
    response = Response(text=text, reasoning=given_)
    got = ask(mode, response, cuts=cuts, separator=separator, start_with_reasoning=start)
    assert channels(got) == expected(text, separator=separator, start=start, given=given_)


@given(
    texts=st.lists(st.sampled_from(["<", "<think>", "think>", "</th", "ink>", "</think>", "a", "", "<thinker>"])),
    others=st.lists(st.integers(0, 8)),
)
def test_other_parts_keep_their_place(texts, others):
    """What stands before a part leaves before it, and what stands behind it behind it."""
    came = [TextDelta(text) for text in texts]
    for number, at in enumerate(others):
        came.insert(min(at, len(came)), ToolCallDelta(number, f"c{number}", "f", "<think>"))
    got = run(left(Parts(*came), ExtractReasoning(separator="")))
    assert [part for part in got if isinstance(part, ToolCallDelta)] == [
        part for part in came if isinstance(part, ToolCallDelta)
    ]
    whole = "".join(texts)
    assert channels(run(collect([*got, Finish("stop")]))) == expected(whole, separator="")
    for number in range(len(others)):  # all that came before the part and is no tag has left before it
        until = next(i for i, part in enumerate(got) if isinstance(part, ToolCallDelta) and part.index == number)
        before = next(i for i, part in enumerate(came) if isinstance(part, ToolCallDelta) and part.index == number)
        said = "".join(part.text for part in came[:before] if isinstance(part, TextDelta))
        size = sum(len(part.text) for part in got[:until] if not isinstance(part, ToolCallDelta))
        decided = sum(len(one) for one in expected(said, separator=""))
        most = sum(len(one) for one in expected(_without_begun_tag(said, whole), separator=""))
        assert most <= size <= decided


def _without_begun_tag(said, whole):
    """The text without the tag that it ends in the middle of, if it does."""
    inside, at = False, 0
    while True:
        tag = "</think>" if inside else "<think>"
        found = whole.find(tag, at)
        if found < 0 or found >= len(said):
            return said
        if found + len(tag) > len(said):
            return said[:found]
        inside, at = not inside, found + len(tag)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<think>r</think>text", ("r", "text")),
        ("<think>\nr\n</think>\n\ntext", ("\nr\n", "\n\ntext")),
        ("a<think>r</think>b<think>s</think>c", ("r\ns", "a\nb\nc")),
        ("<think>r</think><think>s</think>b", ("r\ns", "b")),
        ("a<think></think>b", ("", "a\nb")),
        ("a<think>r</think>", ("r", "a")),
        ("a<think>never closed", ("never closed", "a")),
        ("<think>a <think> b</think> c</think>", ("a <think> b", " c</think>")),
        ("a</think>b", ("", "a</think>b")),
        ("<THINK>r</THINK>", ("", "<THINK>r</THINK>")),
        ("<think >r</think >", ("", "<think >r</think >")),
        ("< think>r", ("", "< think>r")),
        ('<think class="x">r', ("", '<think class="x">r')),
        ("<thinking>r", ("", "<thinking>r")),
        ("a <", ("", "a <")),
        ("<think>a </think", ("a </think", "")),
        ("<<think>r<</think>>", ("r<", "<\n>")),
        ("", ("", "")),
        ("\ud800<think>\udfff</think>x", ("\udfff", "\ud800\nx")),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_what_is_a_tag(mode, text, wanted, size):
    assert channels(ask(mode, text, cuts=[size])) == wanted


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("r</think>text", ("r", "text")),
        ("r", ("r", "")),
        ("</think>text", ("", "text")),
        ("<think>r</think>text", ("<think>r", "text")),
        ("r</think>a<think>s</think>b", ("r\ns", "a\nb")),
    ],
)
def test_answers_that_begin_within_reasoning(mode, size, text, wanted):
    assert channels(ask(mode, text, cuts=[size], start_with_reasoning=True)) == wanted


@pytest.mark.parametrize("mode", MODES)
def test_another_tag_is_taken_as_it_is_written(mode):
    for tag in ("reasoning", "a.b+", "Gedanke-1", "思考"):
        response = ask(mode, f"<{tag}>r</{tag}>t<think>", cuts=[2], tag=tag)
        assert channels(response) == ("r", "t<think>")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("start", [False, True])
def test_nothing_else_of_an_answer_is_touched(mode, start):
    whole = Response(
        text="<think>r</think>t" if not start else "r</think>t", reasoning="<think>given</think>",
        tool_calls=[ToolCall("c1", "look", '{"a": "<think>"}'), ToolCall("", "", "")], finish_reason="tool_calls",
        usage=Usage(3, 2), id="r1", model="m", created=1.5, provider_fields={"x": "<think>"}, metadata={"inner": 1},
    )  # fmt: skip
    response = ask(mode, whole, cuts=[1], start_with_reasoning=start)
    assert channels(response) == ("<think>given</think>\nr", "t")
    response.text, response.reasoning = whole.text, whole.reasoning
    assert response == whole


def test_parts_of_unknown_types_wait_behind_what_is_held():
    class Odd:
        type = "odd"

    odd, fields = Odd(), ProviderDelta({"a": 1})
    model = Parts(ResponseInfo("i"), TextDelta("x<th"), odd, fields, ReasoningDelta("p"), TextDelta("ink>y"))
    got = run(left(model, ExtractReasoning()))
    assert got == [
        ResponseInfo("i"), TextDelta("x"), odd, fields, ReasoningDelta("p"), ReasoningDelta("\ny"),
    ]  # fmt: skip
    model = Parts(TextDelta("x<th"), odd, TextDelta("an"))
    assert run(left(model, ExtractReasoning())) == [TextDelta("x"), TextDelta("<th"), odd, TextDelta("an")]
    model = Parts(TextDelta("x<th"), odd)
    assert run(left(model, ExtractReasoning())) == [TextDelta("x"), TextDelta("<th"), odd]


def test_only_the_beginning_of_a_tag_is_held():
    async def read():
        pieces = ["a", "<b", " <t", "h", "e", "<think", ">r", "</x", "y</thi", "nk>", "z"]
        layer, got = ExtractReasoning(), []
        step = layer.transform_parts({}, None)
        for piece in pieces:
            out = step.feed(TextDelta(piece))
            out = out if isinstance(out, list) else [out]
            got.append("".join(part.text for part in out))
        return got

    assert run(read()) == ["a", "<b", " ", "", "<the", "", "r", "</x", "y", "", "\nz"]


def test_text_without_tags_passes_as_it_is():
    part = TextDelta("a > b")
    step = ExtractReasoning().transform_parts({}, None)
    assert step.feed(part) is part
    assert step.feed(part) is part


def refusing(*said, **more):
    async def refuse(do_generate, params, context):
        raise Blocked(*said, **more)

    return middleware("guard", priority=10, kind="guard", wrap_generate=refuse)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", ["no, not this", "<", "a <b"])
@pytest.mark.parametrize("start", [False, True])
def test_the_text_of_a_refusal_stays_text(mode, text, start):
    guard = refusing(text)
    response = run(call(wrap(ScriptedModel(), guard, ExtractReasoning(start_with_reasoning=start)), mode))
    assert (response.text, response.blocked.middleware) == (text, "guard")


class InTwo:
    """A step that cuts each text in two."""

    def feed(self, part):
        return [TextDelta(part.text[:3]), TextDelta(part.text[3:])] if isinstance(part, TextDelta) else part


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", ["no, not this", "a <b", "abc"])
def test_the_text_of_a_refusal_stays_text_also_in_pieces(mode, text):
    cutting = middleware("cutting", priority=20, transform_parts=lambda params, context: InTwo())
    model = wrap(ScriptedModel(), refusing(text), cutting, ExtractReasoning(start_with_reasoning=True))
    assert run(call(model, mode)).text == text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("start", [False, True])
def test_a_refusal_in_other_words_than_its_reason_is_text_as_well(mode, start):
    guard = refusing("no", message="not this")
    response = run(call(wrap(ScriptedModel(), guard, ExtractReasoning(start_with_reasoning=start)), mode))
    assert channels(response)[1] == "not this"


@pytest.mark.parametrize("cuts", [[1], [17], [100]])
def test_thoughts_before_a_refusal_in_mid_stream_are_no_text(cuts):
    class Second:
        def __init__(self):
            self.seen = ""

        def feed(self, part):
            self.seen += getattr(part, "text", "")
            if "bad" in self.seen:
                raise Blocked("no", message="no more")
            return part

    guard = middleware("guard", priority=10, kind="guard", transform_parts=lambda params, context: Second())
    model = wrap(ScriptedModel("Private thoughts, bad</think>", cuts=cuts), guard,
                 ExtractReasoning(start_with_reasoning=True))  # fmt: skip
    response = run(call(model, "stream"))
    assert response.blocked.reason == "no"
    assert response.text == ("no more" if cuts == [100] else "")  # there, nothing had left before the refusal
    assert response.reasoning == {1: "Private thoughts, ba", 17: "Private thoughts,", 100: "no more"}[cuts[0]]


def test_reasoning_before_a_refusal_in_mid_stream_is_not_repeated():
    async def late(do_stream, params, context):
        async for part in do_stream(params):
            if isinstance(part, Finish):
                raise Blocked("no")
            yield part

    guard = middleware("guard", priority=10, kind="guard", wrap_stream=late)
    model = wrap(ScriptedModel("ab", cuts=[1]), guard, ExtractReasoning(start_with_reasoning=True))
    response = run(call(model, "stream"))
    assert (channels(response), response.blocked.reason) == (("ab", ""), "no")


@pytest.mark.parametrize("start", [False, True])
def test_a_stream_that_breaks_off_lets_nothing_go_that_was_held(start):
    down = ProviderUnavailable("down", provider="openai", model="gpt-4o")
    model = FaultyModel("ab<thi" if not start else "ab</thi", faults=[Fault(2, down)], cuts=[4])
    with pytest.raises(ProviderUnavailable) as error:
        run(call(wrap(model, ExtractReasoning(start_with_reasoning=start)), "stream"))
    assert error.value.partial.text + error.value.partial.reasoning == "ab"
    assert model.opened == model.closed


def test_leaving_early_closes_the_stream():
    async def read():
        model = ScriptedModel("a<think>b</think>c" * 9, cuts=[1])
        async with wrap(model, ExtractReasoning()).stream("hi") as stream:
            assert await anext(stream) == TextDelta("a")
        return model.opened, model.closed, model.pulled

    assert run(read()) == (1, 1, 1)


def test_calls_at_once_share_nothing():
    layer = ExtractReasoning()
    texts = [f"a{n}<think>r{n}</think>b{n}" for n in range(20)]

    async def all_of_them():
        models = [wrap(ScriptedModel(text, cuts=[n % 4 + 1], delay_s=0), layer) for n, text in enumerate(texts)]
        return await asyncio.gather(*(call(model, MODES[n % 2]) for n, model in enumerate(models)))

    assert [channels(one) for one in run(all_of_them())] == [(f"r{n}", f"a{n}\nb{n}") for n in range(20)]


@pytest.mark.parametrize("mode", MODES)
def test_blocks_are_counted(mode):
    layer = ExtractReasoning()
    for text in ("a<think>b</think>c<think>d", "plain", "<think></think>"):
        run(call(wrap(ScriptedModel(text, cuts=[2]), layer), mode))
    assert layer.tally.counts() == {"blocks": 3, "unclosed": 1}
    layer = ExtractReasoning(start_with_reasoning=True)
    for text in ("a</think>b", "c"):
        run(call(wrap(ScriptedModel(text, cuts=[2]), layer), mode))
    assert layer.tally.counts() == {"blocks": 2, "unclosed": 1}


@pytest.mark.parametrize("text", ["<" * 200_000, "<think" * 40_000, "<think></think>" * 20_000, "a" * 1_000_000])
@pytest.mark.parametrize("size", [1, 4096])
def test_no_text_takes_long(text, size):
    """With quadratic time this would take minutes."""
    step = ExtractReasoning(separator="").transform_parts({}, None)
    leaving = []
    for part in cut(parts_of(Response(text=text)), [size if len(text) <= 300_000 else 4096]):
        out = step.finish() if isinstance(part, Finish) else step.feed(part)
        leaving += out if isinstance(out, list) else [out]
    assert sum(len(part.text) for part in leaving) == (0 if "</" in text else len(text) - 7 * text.count("<think>"))


@pytest.mark.parametrize("mode", MODES)
def test_with_skip_nothing_that_is_held_is_lost(mode):
    class Fails(ExtractReasoning):
        def transform_parts(self, params, context):
            step = super().transform_parts(params, context)
            feed = step.feed

            class Failing:
                held, finish, abort = step.held, step.finish, step.abort

                def feed(self, part):
                    if isinstance(part, ToolCallDelta):
                        raise RuntimeError("broken")
                    return feed(part)

            return Failing()

    model = Parts(TextDelta("a<think>b</think>c<th"), ToolCallDelta(0, "c1", "f", "{}"), TextDelta("ink>d"))
    wrapped = wrap(model, Fails(), middleware_config={"extract_reasoning": {"on_error": "skip"}})
    response = run(call(wrapped, mode))
    assert response.reasoning + response.tool_calls[0].id in ("bc1", "b\ndc1")
    assert response.text == ("a\nc<think>d" if mode == "stream" else "a\nc")  # generate has the whole text before


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"tag": ""}, "tag"), ({"tag": "a b"}, "tag"), ({"tag": "<think>"}, "tag"), ({"tag": "/think"}, "tag"),
        ({"tag": 1}, "tag"), ({"tag": "t" * 101}, "tag"), ({"separator": None}, "separator"),
        ({"start_with_reasoning": "yes"}, "start_with_reasoning"), ({"tags": "think"}, "tags"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options, key):
    with pytest.raises(ConfigError) as error:
        ExtractReasoning(options)
    assert error.value.key == f"middleware.extract_reasoning.config.{key}"
