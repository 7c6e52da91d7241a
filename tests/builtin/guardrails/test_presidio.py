"""Names and places: what is refused when an engine is made, and where entities are in a line, over a real pipeline."""

import importlib
import importlib.machinery
import json
import random
import shutil
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from neuro_mw import ConfigError
from neuro_mw.builtin.guardrails import presidio

META = {"lang": "en", "pipeline": ["tok2vec", "ner"], "labels": {"tok2vec": [], "ner": ["PERSON", "GPE", "CARDINAL"]}}


@pytest.fixture
def there(monkeypatch):
    """Presidio counts as installed, whether it is or not."""
    fake = types.ModuleType("presidio_analyzer")
    fake.__spec__ = importlib.machinery.ModuleSpec("presidio_analyzer", None)
    monkeypatch.setitem(sys.modules, "presidio_analyzer", fake)


def folder(path, **changed):
    path.mkdir()
    (path / "meta.json").write_text(json.dumps(META | changed), encoding="utf-8")
    return str(path)


def refused(**options):
    with pytest.raises(ConfigError) as caught:
        presidio.engine(**options)
    return caught.value.key, str(caught.value)


def test_without_presidio_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    assert "pip install 'neuro-mw[presidio]'" in refused()[1]


def test_without_the_pipeline_its_download_is_named(there):
    with mock.patch.object(presidio, "distribution", side_effect=PackageNotFoundError):
        key, text = refused()
    assert (key, "python -m spacy download en_core_web_lg" in text) == ("model", True)


@pytest.mark.parametrize("model", ["no_such_pipeline", "no/such/folder", "../no-such", "a.b", "", "json", "pytest"])
def test_what_is_no_pipeline_is_refused(there, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(model=model)[0] == "model"


@pytest.mark.parametrize(("name", "nearest"), [("person", "PERSON"), ("LOC", "LOCATION"), ("EMAIL_ADDRESS", None)])
def test_an_unknown_type_is_refused_with_the_nearest(name, nearest):
    key, text = refused(types=["PERSON", name])
    assert key == "types"
    assert repr(name) in text
    assert nearest is None or f"Did you mean {nearest!r}?" in text


@pytest.mark.parametrize("none", [(), [], "PERSON"])
def test_no_types_are_not_all_types(none):
    assert refused(types=none)[0] == "types"


def test_a_language_other_than_english_needs_a_pipeline(there):
    assert refused(language="de")[0] == "model"


def test_the_pipeline_has_to_know_the_language(there, tmp_path):
    model = folder(tmp_path / "german", lang="de")
    assert refused(model=model)[0] == "language"
    presidio.engine(model=model, language="de")
    presidio.engine(model=folder(tmp_path / "many", lang="xx"), language="fr")


def test_the_pipeline_has_to_know_the_types(there, tmp_path):
    model = folder(tmp_path / "pipe")
    key, text = refused(model=model, types=["PERSON", "DATE_TIME"])
    assert (key, text.endswith("does not find DATE_TIME: it finds PERSON, LOCATION")) == ("types", True)
    assert refused(model=folder(tmp_path / "blank", pipeline=[], labels={}))[0] == "types"
    # what a component that says nothing finds is not known
    presidio.engine(model=folder(tmp_path / "own", pipeline=["ner", "own"]), types=["DATE_TIME"])


@pytest.mark.parametrize(
    "text", ["", "{", "[]", *(json.dumps(META | {key: value}) for key in ("labels", "pipeline") for value in (1, None))]
)
def test_a_broken_meta_is_refused(there, tmp_path, text):
    (tmp_path / "meta.json").write_text(text, encoding="utf-8")
    assert refused(model=str(tmp_path))[0] == "model"


def test_an_installed_pipeline_is_found_without_importing_it(there, tmp_path, monkeypatch):
    folder(tmp_path / "xy_core_fake", lang="xy")
    (tmp_path / "xy_core_fake" / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    (tmp_path / "xy_core_fake-1.dist-info").mkdir()
    (tmp_path / "xy_core_fake-1.dist-info" / "METADATA").write_text("Name: xy-core-fake\nVersion: 1", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    presidio.engine(model="xy_core_fake", language="xy")
    assert refused(model="xy_core_fake", language="en")[0] == "language"


# From here on with Presidio and a spaCy pipeline.
NAMES = {  # the others: combined characters, letters beyond the BMP, no spaces between words
    "Ada Lovelace": "PERSON", "Ada": "PERSON", "London": "LOCATION", "New York": "LOCATION", "Tuesday": "DATE_TIME",
    "Acme": "ORGANIZATION", "Zoe\u0308 Mu\u0308ller": "PERSON", "\U0001d4d0da": "PERSON", "王小明": "PERSON",
    "\U00010400\U00010401": "LOCATION",
}  # fmt: skip
LABELS = {"PERSON": "PERSON", "LOCATION": "GPE", "DATE_TIME": "DATE", "ORGANIZATION": "ORG"}


@pytest.fixture(scope="module")
def ruled(tmp_path_factory):
    """A pipeline that knows a list of names."""
    pytest.importorskip("presidio_analyzer")
    import spacy

    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": LABELS[kind], "pattern": name} for name, kind in NAMES.items()])
    path = tmp_path_factory.mktemp("ruled")
    nlp.to_disk(path)
    return str(path)


def loaded(model, *names):
    engine = presidio.engine(model=model, types=names)
    engine.load()
    return engine


@pytest.fixture(scope="module")
def find(ruled):
    return loaded(ruled, "PERSON", "LOCATION")


@pytest.fixture(scope="module")
def find_all(ruled):
    return loaded(ruled, *LABELS)


FILLERS = st.one_of(
    st.sampled_from(
        ["", "met", "in", "and so on.", "\U0001f600", "e\u0301", "\ud800", "\u200d", "\t", "👩‍👩‍👧", "x" * 90]
    ),
    st.text(max_size=12),
    st.text(st.characters(categories=["Cs", "Mn", "So"]), max_size=4),
).filter(lambda text: not any(name in text for name in NAMES))
LINES = st.lists(st.tuples(FILLERS, st.sampled_from(sorted(NAMES))), max_size=8)


def line_of(pieces, types):
    line, expected = "", []
    for filler, name in pieces:
        line += filler + " , "
        if NAMES[name] in types:
            expected.append((len(line), len(line) + len(name), NAMES[name]))
        line += name + " , "
    return line, expected


@settings(deadline=None)  # how long spaCy takes is not what is tested
@given(LINES)
@example([("\U0001f600", "Ada"), ("e\u0301\ud800", "London")])
def test_spans_are_code_points_of_the_line(find, pieces):
    line, expected = line_of(pieces, ("PERSON", "LOCATION"))
    assert find(line) == expected


@settings(deadline=None)
@given(LINES, st.integers(20, 60) | st.just(5_000))
def test_all_types_in_a_line_of_many_pieces(find_all, pieces, size):
    line, expected = line_of(pieces, NAMES.values())
    with mock.patch.multiple(presidio, _PIECE=size, _MARGIN=20):
        assert find_all(line) == expected


def test_a_line_longer_than_spacy_takes(find):
    assert find("x" * 1_000_100 + " Ada Lovelace") == [(1_000_101, 1_000_113, "PERSON")]


def test_a_cut_makes_no_name_and_breaks_none(find):
    at = presidio._PIECE
    assert find("x" * at + "Ada") == []
    assert find("x" * (at - 5) + " Ada Lovelace") == [(at - 4, at + 8, "PERSON")]


def test_nothing_is_logged_or_printed_of_a_text(find_all, caplog, capfd):
    with caplog.at_level(0):
        assert len(find_all("Ada Lovelace spoke of Kubla in London")) == 2
    out, err = capfd.readouterr()
    for word in ("Ada", "Lovelace", "Kubla", "London"):
        assert word not in caplog.text + out + err


def test_no_word_of_a_text_is_kept(find):
    find("Ada")
    before = len(find._nlp.vocab.strings)
    for _ in range(50):
        find("".join(random.choices("abcdefghij", k=20)) + " Ada")
    assert len(find._nlp.vocab.strings) == before


def test_threads_load_once_and_find_the_same(ruled, monkeypatch):
    loaded, load = [], presidio._pipeline

    def slow(*args):
        loaded.append(threading.get_ident())
        time.sleep(0.1)
        return load(*args)

    monkeypatch.setattr(presidio, "_pipeline", slow)
    find = presidio.engine(model=ruled)
    assert not loaded
    lines = [f"{'x' * at} Ada Lovelace and w{at} in London" for at in range(200)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(find, lines))
    assert len(loaded) == 1
    assert found == [
        [(at + 1, at + 13, "PERSON"), (len(line) - 6, len(line), "LOCATION")] for at, line in enumerate(lines)
    ]


def test_no_two_threads_are_in_a_memory_zone_at_once(ruled):
    find = loaded(ruled, "PERSON")
    inside, seen = [], []

    @contextmanager
    def zone():
        inside.append(1)
        seen.append(len(inside))
        time.sleep(0.002)
        yield
        inside.pop()

    find._nlp = types.SimpleNamespace(memory_zone=zone)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(find, ["Ada"] * 20))
    assert seen == [1] * 20


def test_a_pipeline_that_went_away_is_never_downloaded(ruled, tmp_path, monkeypatch):
    import spacy.cli

    monkeypatch.setattr(spacy.cli, "download", mock.Mock(side_effect=AssertionError("downloads")))
    shutil.copytree(ruled, tmp_path / "pipe")
    find = presidio.engine(model=str(tmp_path / "pipe"))
    shutil.rmtree(tmp_path / "pipe")
    for _ in range(2):
        with pytest.raises(ConfigError, match="cannot load"):
            find("Ada")


def test_making_an_engine_imports_neither(ruled):
    code = (
        "import sys; from neuro_mw.builtin.guardrails import presidio; "
        f"presidio.engine(model={ruled!r}); print({{'spacy', 'presidio_analyzer'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("shared", [False, True])
def test_only_what_finds_entities_is_run(tmp_path, shared):
    pytest.importorskip("presidio_analyzer")
    import spacy
    from spacy.training import Example
    from spacy.util import fix_random_seed

    fix_random_seed(0)
    nlp = spacy.blank("en")
    listener = {"model": {"tok2vec": {"@architectures": "spacy.Tok2VecListener.v1", "width": 96}}}
    nlp.add_pipe("tok2vec")
    nlp.add_pipe("tagger", config=listener)
    nlp.add_pipe("ner", config=listener if shared else {})
    doc = nlp.make_doc("Ada Lovelace lives in London")
    notes = {"entities": [(0, 12, "PERSON"), (22, 28, "GPE")], "tags": ["NN"] * len(doc)}
    lesson = Example.from_dict(doc, notes)
    nlp.initialize(lambda: [lesson])
    for _ in range(30):
        nlp.update([lesson])
    nlp.to_disk(tmp_path)

    find = presidio.engine(model=str(tmp_path))
    assert find(doc.text) == [(0, 12, "PERSON"), (22, 28, "LOCATION")]
    assert find._nlp.pipe_names == (["tok2vec", "ner"] if shared else ["ner"])
