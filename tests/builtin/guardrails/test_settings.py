"""The options: what is wrong is said with its key before any call, and what is right means what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neuro_mw import ConfigError, MiddlewareFactory
from neuro_mw.builtin import Guardrails
from neuro_mw.builtin.guardrails import Rule, Spans, Terms
from neuro_mw.plugins import Offer

JUDGE = "precall_evaluation"


def build(config: dict[str, Any]) -> MiddlewareFactory:
    return MiddlewareFactory(preset=None, plugins=False, middleware_config={"guardrails": {"config": config}})


@pytest.mark.parametrize(
    ("config", "key", "says"),
    [
        ({"bad_words": ["a", " "]}, "bad_words.1", "blank"),
        ({"bad_words": [""]}, "bad_words.0", "blank"),
        ({"bad_words": ["\u200b"]}, "bad_words.0", "blank"),
        ({"bad_words": {"list": ["a", "\t"]}}, "bad_words.list.1", "blank"),
        ({"bad_words": {"list": ["a"], "match": "wrd"}}, "bad_words.match", "'word' or 'substring'"),
        ({"bad_words": 5}, "bad_words", "list"),
        ({"bad_wrods": ["x"]}, "bad_wrods", "Did you mean 'bad_words'"),
        ({"regex_patterns": ["a", "(b"]}, "regex_patterns.1", "missing )"),
        ({"regex_patterns": {"ahead": "(?=a)"}}, "regex_patterns.ahead", "invalid perl operator"),
        ({"regex_patterns": [r"(a)\1"]}, "regex_patterns.0", "invalid escape"),
        ({"regex_patterns": ["a\u200b"]}, "regex_patterns.0", "no text holds"),
        ({"regex_patterns": {"wide": "\uff41"}}, "regex_patterns.wide", "normalize = false"),
        ({"regex_patterns": ["x?$"], "max_match_chars": 0}, "max_match_chars", "greater than or equal to 1"),
        ({"regex_patterns": ["a{300}"]}, "regex_patterns.0", "300 characters, and 256"),
        ({"regex_patterns": ["^"]}, "regex_patterns.0", "empty"),
        ({"pii": ["email", "emial"]}, "pii.1", "Did you mean 'email'"),
        ({"pii": {"types": ["emial"]}}, "pii.types.0", "Did you mean 'email'"),
        ({"pii": {"typs": ["email"]}}, "pii.typs", "Did you mean 'types'"),
        ({"pii": {"ner": "nowhere:find"}}, "pii.ner.engine", "cannot be loaded"),
        ({"pii": {"ner": {"engine": "nowhere"}}}, "pii.ner.engine", "cannot be loaded"),
        ({"secrets": {"rules_fil": "x"}}, "secrets.rules_fil", "Did you mean 'rules_file'"),
        ({"secrets": {"rules_file": "/no/such/file"}}, "secrets.rules_file", "No such file"),
        ({"action": "remove"}, "action", "'redact', 'mask'"),
        ({"action": {"pi": "warn"}}, "action.pi", "Did you mean 'pii'"),
        ({"action": {"pii.emial": "warn"}, "pii": True}, "action.pii.emial", "Did you mean 'pii.email'"),
        ({"action": {"pii": {"outputs": "warn"}}}, "action.pii.outputs", "Did you mean 'output'"),
        ({"action": {"pii": {"output": "wran"}}}, "action.pii.output", "'redact', 'mask'"),
        ({"action": {"input": {"pii": "warn"}}}, "action.input", "table"),
        ({"apply_to": ["input", "outputs"]}, "apply_to.1", "'output'"),
        ({"apply_to": [], "pii": True}, "apply_to", "no detector would look"),
        ({"detectors": {"pii": True}}, "detectors.pii", "option of its own"),
        ({"detectors": {"mine": True}}, "detectors.mine", "no detector 'mine'"),
        ({"detectors": {"mine": lambda options: [3]}}, "detectors.mine", "gave int"),
        ({"detectors": {"mine": lambda options: [Rule("pii.x", "x")]}}, "detectors.mine", "'pii.x'"),
        ({"detectors": {"mine": lambda options: [Rule("mine", "(")]}}, "detectors.mine", "cannot be used"),
        ({"detectors": {"mine": lambda options: [Terms("mine", ("a", " "))]}}, "detectors.mine.mine.1", "blank"),
        ({"regex_patterns": {"": "a"}}, "regex_patterns", "needs a name"),
        ({"detectors": {"mine": lambda options: [Rule("minex", "x")]}}, "detectors.mine", "'minex'"),
        ({"detectors": {"mine": lambda options: 1 / 0}}, "detectors.mine", "ZeroDivisionError"),
        ({JUDGE: {"thresholds": {"safety_score": 11}}}, f"{JUDGE}.thresholds.safety_score", "less than or equal to 10"),
        ({JUDGE: {"thresholds": {"safety": 1}}}, f"{JUDGE}.thresholds.safety", "unknown key"),
        ({JUDGE: {"actions": {"on_unsafe": "blok"}}}, f"{JUDGE}.actions.on_unsafe", "'block'"),
        ({JUDGE: {"model": "opnai/x"}}, f"{JUDGE}.model", "Did you mean 'openai'"),
        ({JUDGE: {"provider": "opnai", "model": "x"}}, f"{JUDGE}.model", "Did you mean 'openai'"),
        ({JUDGE: {"provider": "openai"}}, f"{JUDGE}.provider", "none of its models"),
        ({JUDGE: {"sanitization_patterns": ["("]}}, f"{JUDGE}.sanitization_patterns.0", "missing )"),
        ({"model_filter": {"model": "opnai/x"}}, "model_filter.model", "Did you mean 'openai'"),
        ({"model_filter": {"timeout_s": 0}}, "model_filter.timeout_s", "greater than 0"),
    ],
)
def test_options_that_are_wrong(config: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(config)
    assert caught.value.key == f"middleware.guardrails.config.{key}"
    assert says in str(caught.value)
    factory = MiddlewareFactory(preset=None, plugins=False)
    with pytest.raises(ConfigError) as later:  # also where they come with a call
        factory.apply_middleware("echo/echo", middleware_config={"guardrails": {"config": config}})
    assert later.value.key == caught.value.key


def test_a_second_guard_is_named_by_its_own_id() -> None:
    with pytest.raises(ConfigError) as caught:
        MiddlewareFactory(
            preset=None, middleware_config={"strict": {"use": "guardrails", "config": {"regex_patterns": ["("]}}}
        )
    assert caught.value.key == "middleware.strict.config.regex_patterns.0"


def test_actions_for_detectors_that_are_off_are_no_error() -> None:
    said = {"secrets": "block", "pii.email": "warn", "injection": {"input": "block"}}
    factory = build({"action": said})
    assert factory.registry.get("guardrails").config.action == said  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("rule", "channel", "action"),
    [
        ("pii.email", "input", "mask"),
        ("pii.ssn", "output", "hash"),
        ("pii.ssn", "tool_arguments", "warn"),
        ("pii.ip.v6", "input", "warn"),
        ("secrets.github_token", "history", "block"),
        ("secrets.github_token", "reasoning", "redact"),
    ],
)
def test_the_narrowest_word_counts(rule: str, channel: Any, action: str) -> None:
    said = {
        "pii.email": "mask", "pii.ip": "warn", "pii": {"output": "hash", "tool_arguments": "warn"}, "input": "block",
    }  # fmt: skip
    assert Guardrails(pii=True, action=said).config.action_of(rule, channel) == action


# --- detectors of others ---------------------------------------------------------------------------------------------


def tickets(options: Any) -> list[Rule | Terms | Spans]:
    return [
        Rule("tickets.number", rf"\b{options.get('prefix', 'T')}-\d{{1,6}}\b"),
        Terms("tickets", ("ticket zero",)),
        Spans("tickets.name", lambda line: [(0, 3, "NAME")] if line.startswith("Ada") else []),
    ]


@pytest.mark.parametrize("mode", ["generate", "stream"])
def test_detectors_given_in_python(mode: str) -> None:
    guard = Guardrails(detectors={"tickets": tickets}, replacement_text="[{type}]", action={"tickets.name": "mask"})
    model = MiddlewareFactory(preset=None, middleware=[guard]).apply_middleware("echo/echo")
    text = "Ada: T-12 is no TICKET ZERO"
    found = model.generate_sync(text) if mode == "generate" else model.stream_sync(text).response()
    assert found.text == "***: [NUMBER] is no [TICKETS]"


def test_detectors_of_plugins_are_known_where_a_factory_builds() -> None:
    factory = MiddlewareFactory(preset=None, plugins=False)
    factory._accept(Offer("acme", "acme 1.0", detectors={"tickets": tickets}))
    on = {"guardrails": {"config": {"detectors": {"tickets": {"prefix": "ACME"}}}}}
    model = factory.apply_middleware("echo/echo", middleware_config=on)
    assert model.generate_sync("ACME-12 and T-12").text == "[REDACTED] and T-12"
    wrong = {"guardrails": {"config": {"detectors": {"tikets": {}}}}}
    with pytest.raises(ConfigError, match=r"one of tickets\. Did you mean 'tickets'"):
        factory.apply_middleware("echo/echo", middleware_config=wrong)
    off = {"guardrails": {"config": {"detectors": {"tickets": False}}}}
    assert factory.apply_middleware("echo/echo", middleware_config=off).generate_sync("T-12").text == "T-12"


def test_an_engine_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def find(line):\n    return [(0, 3, 'person')] if line[:3] == 'Bob' else []\n"
    (tmp_path / "my_engine.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    factory = build({"pii": {"types": [], "ner": {"engine": "my_engine:find", "types": ["PERSON"]}}})
    assert factory.apply_middleware("echo/echo").generate_sync("Bob\nnot Bob").text == "[REDACTED]\nnot Bob"


def test_engines_are_loaded_at_startup() -> None:
    class Engine:
        loaded = 0

        def load(self) -> None:
            self.loaded += 1

        def __call__(self, line: str) -> list[tuple[int, int, str]]:
            return []

    engine = Engine()
    guard = Guardrails(pii={"types": [], "ner": {"engine": engine, "types": ["PERSON"]}})
    model = MiddlewareFactory(preset=None, middleware=[guard]).apply_middleware("echo/echo")
    assert engine.loaded == 0
    model.generate_sync("x")
    model.generate_sync("x")
    assert engine.loaded == 1


@pytest.mark.parametrize("term", ["strasse", "straße", "STRASSE", "Stra\u1e9ee"])
def test_a_sharp_s_and_two_are_the_same_word(term: str) -> None:
    model = MiddlewareFactory(preset=None, middleware=[Guardrails(bad_words=[term])]).apply_middleware("echo/echo")
    said = model.generate_sync("strasse STRASSE straße STRA\u1e9eE Strasse").text
    assert said == " ".join(["[REDACTED]"] * 5)
