"""A text as detectors read it: the same, character by character, whatever else is in the text."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw.builtin.guardrails import RuleSet, Terms
from neuro_mw.builtin.guardrails.confusables import CONFUSABLE
from neuro_mw.builtin.guardrails.view import _UNUSUAL, IGNORABLE, Reading, View

# one for several, several for one, none, wide, narrow; what folds as no other letter does; halves of a surrogate pair
ODD = (
    "\ufb01\u00bd\u2026\ufdfa\u200b\ufe0f\u00ad\uff21\uff0c\u00a0\u0130"
    "\u1e9e\u017f\u00b5\u0149\u03a3\u03c2\u13a0\uab70\u0430\u3164\ud800\udc00"
)
texts = st.text(alphabet=ODD + "aB 1\u00e9\u0416\u4e2d\U0001f600", max_size=90) | st.text(max_size=90)
readings = st.builds(Reading, st.booleans(), st.booleans())
EVERY = [chr(code) for code in range(sys.maxunicode + 1)]


def normal(char):
    return "" if char in IGNORABLE else unicodedata.normalize("NFKC", char)


def folded(char, confusables=False):
    char = CONFUSABLE.get(char, char) if confusables else char
    if "\ud800" <= char <= "\udfff":
        return "\ufffd"
    return next((form for form in (char.casefold(), char.lower()) if len(form) == 1), char)


@given(texts, readings)
def test_every_character_is_read_by_itself(text, reading):
    view = View(text, reading)
    pieces = [normal(char) for char in text] if reading.normalize else list(text)
    raw = [at for at, piece in enumerate(pieces) for _ in piece]
    norm = "".join(pieces)
    assert (view.norm, len(view), view.data) == (norm, len(norm), norm.encode("utf-8", "surrogatepass"))
    assert view.folded == "".join(folded(char, reading.confusables) for char in norm)
    assert [view.raw(at) for at in range(len(norm) + 1)] == [*raw, len(text)]
    assert [view.end(at) for at in range(len(norm) + 1)] == [0, *(at + 1 for at in raw)]
    assert [view.after(at) for at in range(len(text) + 1)] == [
        next((place for place, one in enumerate(raw) if one >= at), len(norm)) for at in range(len(text) + 1)
    ]
    for at in range(len(norm) + 1):
        assert view.byte(at) == len(norm[:at].encode("utf-8", "surrogatepass"))
        assert view.char(view.byte(at)) == at


def test_what_is_taken_for_usual_does_not_change_and_folds_as_lower_case():
    usual = _UNUSUAL.sub("", "".join(EVERY))
    assert len(usual) > 30_000
    assert [char for char in usual if normal(char) != char] == []
    assert [char for char in usual if char.lower().replace("\u03c2", "\u03c3") != folded(char)] == []


def test_nothing_stands_for_what_is_changed_itself():
    changed = {char for char in EVERY if normal(char) != char}
    assert not changed.intersection("".join(map(normal, changed)))


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_few_and_many_that_change(count):
    wide = "".join(chr(0xFF21 + at) for at in range(count))
    assert View(wide + "\u00e9", Reading()).norm == unicodedata.normalize("NFKC", wide) + "\u00e9"


def test_halves_of_surrogate_pairs_are_read_over():
    plan = RuleSet([Terms("t", ("bad",))])
    assert plan.redact("\ud83d bad \udc00") == "\ud83d [REDACTED] \udc00"
