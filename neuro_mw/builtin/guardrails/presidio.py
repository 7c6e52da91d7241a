"""Names and places in text, which have no form that a rule could find: Presidio over a spaCy pipeline, both optional.

What is not installed or does not fit is said when an engine is made, without importing either. Nothing is downloaded:
Presidio would fetch a pipeline that is missing, so the pipeline is loaded here and handed to it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from neuro_mw import ConfigError

TYPES = ("PERSON", "LOCATION", "ORGANIZATION", "NRP", "DATE_TIME")
"""Types that Presidio takes from a pipeline; NRP is a nationality, a religious or a political group."""

# Labels of spaCy's pipelines by what Presidio calls them: its own table (conf/spacy.yaml).
_TYPE_OF = {
    "PER": "PERSON", "PERSON": "PERSON",
    "FAC": "LOCATION", "GPE": "LOCATION", "LOC": "LOCATION", "LOCATION": "LOCATION",
    "ORG": "ORGANIZATION", "ORGANIZATION": "ORGANIZATION",
    "NORP": "NRP", "NRP": "NRP",
    "DATE": "DATE_TIME", "TIME": "DATE_TIME", "DATE_TIME": "DATE_TIME",
}  # fmt: skip

# What spaCy's own pipelines compute beside entities; without it they take less than half the time.
_ASIDE = ("tagger", "morphologizer", "parser", "senter", "attribute_ruler", "lemmatizer", "trainable_lemmatizer")

# spaCy refuses a million characters, and takes about 10 MB for 1,000. A name of up to _MARGIN characters stays whole.
_PIECE, _MARGIN = 5_000, 200

_SURROGATE = re.compile("[\ud800-\udfff]")


class Engine:
    """Finds entities in a line of text; made by `engine`. May be called from several threads, which take turns."""

    def __init__(self, language: str, types: Sequence[str], model: str, aside: Sequence[str]) -> None:
        self._language, self._types, self._model, self._aside = language, list(types), model, aside
        self._lock = Lock()
        self._nlp: Any = None
        self._analyzer: Any = None

    def load(self) -> None:
        """Load the pipeline, once; a call does it if nobody did. Takes seconds.

        Raises:
            ConfigError: the pipeline cannot be loaded: its files are broken, or it needs what is not installed.

        """
        with self._lock:
            if self._analyzer is None:
                try:
                    self._nlp = _pipeline(self._model, self._aside)
                except (ImportError, OSError, ValueError) as error:
                    raise ConfigError(f"spaCy cannot load {self._model!r}: {error}", key="model") from error
                self._analyzer = _analyzer(self._nlp, self._language, self._types)

    def __call__(self, line: str) -> list[tuple[int, int, str]]:
        """The entities of a line as (start, end, type), in code points; in order, none overlaps another."""
        if self._analyzer is None:
            self.load()
        line = _SURROGATE.sub("\ufffd", line)  # the error of an encoder would hold the whole text
        found: list[tuple[int, int, str]] = []
        last = 0
        for at in range(0, len(line), _PIECE):
            first = max(at - _MARGIN, 0)
            for start, end, kind in self._entities(line[first : at + _PIECE + _MARGIN]):
                if max(at, last) <= first + start < at + _PIECE:  # what begins elsewhere is another piece's
                    last = first + end
                    found.append((first + start, last, kind))
        return found

    def _entities(self, text: str) -> list[tuple[int, int, str]]:
        # Outside a memory zone spaCy keeps every word it ever saw; two zones at once are not allowed.
        with self._lock, self._nlp.memory_zone():
            results = self._analyzer.analyze(text, language=self._language, entities=self._types)
            return sorted((one.start, one.end, one.entity_type) for one in results)


def engine(*, language: str = "en", types: Sequence[str] = ("PERSON", "LOCATION"), model: str | None = None) -> Engine:
    """An engine that finds entities of these types with Presidio's analyzer.

    Nothing is imported yet: `load` does that, or the first call. There is no score threshold, because spaCy gives no
    scores.

    Args:
        language: what the text is written in, such as "en"; a pipeline for several ("xx") goes with any.
        types: names out of `TYPES`.
        model: an installed spaCy pipeline or the folder of one; default en_core_web_lg, and none for other languages.

    Raises:
        ConfigError: Presidio or the pipeline is not installed, a type is unknown, or the pipeline does not know the
            language or a type; `key` names the argument.

    """
    for name in types:
        if name not in TYPES:
            nearest = difflib.get_close_matches(str(name).upper(), TYPES, 1, 0)[0]
            raise ConfigError(f"no such entity type: {name!r}", key="types", expected=", ".join(TYPES), nearest=nearest)
    if not types:  # Presidio takes no types for all
        raise ConfigError("no entity type is named", key="types", expected=f"some of {', '.join(TYPES)}")
    if find_spec("presidio_analyzer") is None:
        raise ConfigError("presidio-analyzer is not installed: pip install 'neuro-mw[presidio]'")
    if model is None:
        if language != "en":
            raise ConfigError(f"language {language!r} has no default: name a pipeline of spacy.io/models", key="model")
        model = "en_core_web_lg"
    components = _check(model, language, types)
    # An own pipeline may have rules that look at what the others set.
    aside = _ASIDE if components <= {*_ASIDE, "tok2vec", "ner"} else ()
    return Engine(language, types, model, aside)


def _check(model: str, language: str, types: Sequence[str]) -> set[str]:
    """The components of a pipeline that serves, by what its meta.json says."""
    try:
        meta = json.loads((_folder(model) / "meta.json").read_bytes())
        known, labels, components = meta["lang"], dict(meta["labels"]), set(meta["pipeline"])
        offered = {_TYPE_OF.get(label) for names in labels.values() for label in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{model!r} has no meta.json of a spaCy 3 pipeline", key="model") from error
    if known not in (language, "xx"):
        raise ConfigError(f"{model!r} is for language {known!r}, not {language!r}", key="language")
    for name in types:
        if name not in offered and components <= set(labels):  # a component may not say what it finds
            there = ", ".join(one for one in TYPES if one in offered) or "none of Presidio's types"
            raise ConfigError(f"{model!r} does not find {name}: it finds {there}", key="types")
    return components


def _folder(model: str) -> Path:
    """Where a pipeline's files are, without importing it: a package goes before a path, as in spaCy."""
    try:
        distribution(model)
        spec = find_spec(model) if model.isidentifier() else None
    except (PackageNotFoundError, ValueError):
        spec = None
    if spec and spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0])
    if Path(model).is_dir():
        return Path(model)
    raise ConfigError(
        f"the spaCy pipeline {model!r} is not installed (python -m spacy download {model}), and no folder", key="model"
    )


def _pipeline(model: str, aside: Sequence[str]) -> Any:
    import spacy  # type: ignore[import-not-found,unused-ignore]

    nlp: Any = spacy.load(model, exclude=aside)
    # The vectors that components share, where none of those that are left takes them.
    if aside and "tok2vec" in nlp.pipe_names and not nlp.get_pipe("tok2vec").listening_components:
        nlp.remove_pipe("tok2vec")
    return nlp


def _analyzer(nlp: Any, language: str, types: Sequence[str]) -> Any:
    """Presidio's analyzer with one recognizer, the one that takes entities from the pipeline."""
    from presidio_analyzer import (  # type: ignore[import-not-found,unused-ignore]
        AnalyzerEngine,
        RecognizerRegistry,
    )
    from presidio_analyzer.nlp_engine import (  # type: ignore[import-not-found,unused-ignore]
        NerModelConfiguration,
        SpacyNlpEngine,
    )
    from presidio_analyzer.predefined_recognizers import (  # type: ignore[import-not-found,unused-ignore]
        SpacyRecognizer,
    )

    wanted = {label: name for label, name in _TYPE_OF.items() if name in types}
    ignored = {label for labels in nlp.pipe_labels.values() for label in labels} | set(_TYPE_OF)
    configuration = NerModelConfiguration(
        model_to_presidio_entity_mapping=wanted, labels_to_ignore=sorted(ignored - set(wanted))
    )
    source: Any = SpacyNlpEngine(ner_model_configuration=configuration)
    source.nlp = {language: nlp}  # it counts as loaded: nothing is looked for or downloaded
    recognizer = SpacyRecognizer(supported_language=language, supported_entities=list(types))
    registry = RecognizerRegistry(recognizers=[recognizer], supported_languages=[language])
    return AnalyzerEngine(registry=registry, nlp_engine=source, supported_languages=[language])
