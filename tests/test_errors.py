"""Every error: where it stands in the tree, what it says, and that it survives a process boundary."""

import copy
import inspect
import pickle

import pytest

import neuro_mw
from neuro_mw import (
    AuthenticationFailed,
    Blocked,
    ConfigError,
    DuplicateMiddleware,
    EvaluationFailed,
    LimitError,
    MiddlewareError,
    MiddlewareTimeout,
    NeuroError,
    OrderError,
    PluginError,
    PresetNotFound,
    ProviderError,
    RegistrationError,
    RequestBlocked,
    Response,
    StreamError,
    StreamInterrupted,
    StructuredOutputError,
    errors,
)
from neuro_mw.names import nearest
from neuro_mw.types import Block

CLASSES = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, NeuroError)]
PROVIDER = [one for one in CLASSES if issubclass(one, ProviderError)]


def made(cls):
    """One error of a class, with everything that can be set."""
    if issubclass(cls, ProviderError):
        return cls("m", provider="openai", model="gpt-4o", status=429, retryable=True, retry_after=1.5)
    if issubclass(cls, RequestBlocked):
        return cls(Response(text="no", blocked=Block("guard", "no")))
    more = {
        ConfigError: {"file": "a.toml", "key": "b.c", "expected": "d", "nearest": "e"},
        PluginError: {"distribution": "d", "entry_point": "e"},
        EvaluationFailed: {"middleware": "a", "reason": "judge_failed", "evaluation": {"overall": None}},
        StructuredOutputError: {"middleware": "a", "errors": [{"path": "a", "message": "b"}], "reasks": 1},
        MiddlewareError: {"middleware": "a", "hook": "h"},
        Blocked: {"category": "c", "detail": {"rule": 1}, "message": "sorry"},
        StreamInterrupted: {"partial": Response(text="so far")},
        LimitError: {"retry_after": 2.0},
    }
    options = next((options for base, options in more.items() if issubclass(cls, base)), {})
    return cls("m", **options)


def test_the_tree_is_as_the_docstring_draws_it():
    drawn = {}
    path = []
    for line in inspect.getdoc(errors).split("::", 1)[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        names = [word.strip(" ,") for word in line.split("  ")[depth + 1 :] if word.strip()]
        for name in (names[0] if names else "").replace(",", " ").split():
            if not hasattr(errors, name):
                continue
            path[depth - 1 :] = [name]
            drawn[name] = path[-2] if len(path) > 1 else "Exception"
    assert drawn == {cls.__name__: cls.__base__.__name__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_common_ones_come_from_the_package(cls):
    assert getattr(neuro_mw, cls.__name__) is cls
    assert cls.__doc__


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))],
                         ids=["copy", "deepcopy", "pickle"])  # fmt: skip
def test_they_can_be_copied_and_sent_to_another_process(cls, through):
    error = made(cls)
    error.add_note("a note")
    again = through(error)
    assert type(again) is cls
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_config_errors_say_where_what_and_what_was_meant():
    full = ConfigError("unknown key", file="f.toml", key="a.b", expected="one of c, d", nearest="c")
    assert str(full) == "f.toml: a.b: unknown key. Expected one of c, d. Did you mean 'c'?"
    assert (full.file, full.key, full.expected, full.nearest, full.reason) == (
        "f.toml", "a.b", "one of c, d", "c", "unknown key",
    )  # fmt: skip
    assert str(ConfigError("x")) == "x"
    assert str(ConfigError("x", key="k")) == "k: x"
    assert str(ConfigError("x", file="f")) == "f: x"
    late = ConfigError("x")
    late.file = "f"
    assert str(late) == "f: x"
    assert issubclass(PresetNotFound, ConfigError)


def test_duplicates_say_how_to_override():
    error = DuplicateMiddleware("x")
    assert str(error) == "Middleware with ID 'x' already exists. Use replace=True to override."
    assert error.id == "x"
    assert isinstance(error, RegistrationError)
    assert issubclass(OrderError, RegistrationError)


def test_blocked():
    error = Blocked("why")
    assert (str(error), error.reason, error.category, error.detail, error.message) == ("why", "why", "policy", {}, None)
    error.detail["x"] = 1
    assert Blocked("why").detail == {}


def test_request_blocked_needs_a_block():
    with pytest.raises(AssertionError):
        RequestBlocked(Response())


@pytest.mark.parametrize("cls", PROVIDER, ids=lambda cls: cls.__name__)
def test_provider_errors_are_alike(cls):
    plain = cls("m", provider="p", model="x")
    assert (plain.provider, plain.model, plain.status, plain.retryable, plain.retry_after) == (
        "p",
        "x",
        None,
        False,
        None,
    )
    full = made(cls)
    assert (full.status, full.retryable, full.retry_after, str(full)) == (429, True, 1.5, "m")
    with pytest.raises(TypeError):
        cls("m")


def test_partial_is_none_unless_a_stream_failed():
    assert all(made(cls).partial is None for cls in CLASSES if cls is not StreamInterrupted)
    assert made(StreamInterrupted).partial.text == "so far"
    assert issubclass(StreamInterrupted, StreamError)
    assert issubclass(MiddlewareTimeout, MiddlewareError)
    assert issubclass(AuthenticationFailed, ProviderError)


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("secuirty", ["default", "security"], "security"),
        ("zzz", ["default", "security"], None),
        ("a", [], None),
        ("", ["a"], None),
        ("analytic", iter(["analytics"]), "analytics"),
    ],
)
def test_nearest(name, known, found):
    assert nearest(name, known) == found
