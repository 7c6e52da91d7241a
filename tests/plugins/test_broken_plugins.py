"""A broken plugin becomes one visible PluginError, leaves nothing behind, and the others load."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neuro_mw import ConfigError, MiddlewareFactory, PluginError

Install = Callable[[str, str], None]

GOOD = """
from neuro_mw import Middleware, MiddlewareMetadata, hookimpl

class Fine(Middleware):
    metadata = MiddlewareMetadata(id="fine")
    def transform_params(self, params, context):
        return params

@hookimpl
def register_middleware(register):
    register(Fine)
"""

HEAD = """
from neuro_mw import Middleware, MiddlewareMetadata, hookimpl

def make(id, **metadata):
    made = Middleware()
    made.metadata = MiddlewareMetadata(id=id, **metadata)
    return made
"""

BROKEN = {
    "missing_import": ("import no_such_module_at_all", "no_such_module_at_all"),
    "raises": ("raise RuntimeError('out of order')", "RuntimeError: out of order"),
    "exits": ("raise SystemExit(3)", "SystemExit"),
    "syntax": ("def (", "SyntaxError"),
    "no_hooks": ("x = 1", "implements no hook"),
    "misspelled": (
        HEAD + "@hookimpl\ndef register_middlewares(register):\n    register(make('never'))",
        "did you mean 'register_middleware'?",
    ),
    "wrong_argument": (HEAD + "@hookimpl\ndef register_middleware(registry):\n    pass", "registry"),
    "contract": (
        HEAD + "@hookimpl\ndef register_middleware(register):\n    register(make('early'))\n"
        "    register(make('future', contract='9'))",
        "wants contract 9, this neuro-mw offers 1.0",
    ),
    "duplicate": (
        HEAD + "@hookimpl\ndef register_middleware(register):\n    register(make('early'))\n"
        "    register(make('analytics'))",
        "Middleware with ID 'analytics' already exists",
    ),
    "no_metadata": (
        HEAD + "@hookimpl\ndef register_middleware(register):\n    register(Middleware)",
        "has no metadata",
    ),
    "wrong_signature": (
        HEAD + "class Odd(Middleware):\n    metadata = MiddlewareMetadata(id='odd')\n"
        "    def transform_params(self, params):\n        return params\n"
        "@hookimpl\ndef register_middleware(register):\n    register(Odd)",
        "wrong signature",
    ),
    "bad_preset": (
        HEAD + "@hookimpl\ndef register_middleware(register):\n    register(make('early'))\n"
        "@hookimpl\ndef register_presets(register):\n    register({'name': 'new', 'midleware': {}})",
        "midleware",
    ),
    "second_preset_bad": (
        HEAD + "@hookimpl\ndef register_presets(register):\n    register({'name': 'new'})\n"
        "    register({'name': 'default'})",
        "'default' already exists",
    ),
    "taken_preset": (
        HEAD + "@hookimpl\ndef register_presets(register):\n    register({'name': 'default'})",
        "'default' already exists",
    ),
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with one module and one entry point, as pip leaves it."""
    monkeypatch.delenv("NEURO_MW_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    modules: list[str] = []

    def one(name: str, source: str) -> None:
        module = f"neuro_mw_test_{name}"
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(source, "utf-8")
        info = tmp_path / f"{module}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-{name}\nVersion: 0.1\n", "utf-8")
        (info / "entry_points.txt").write_text(f"[neuro_mw]\n{name} = {module}\n", "utf-8")
        importlib.invalidate_caches()

    yield one
    for module in modules:
        sys.modules.pop(module, None)


@pytest.mark.parametrize("name", list(BROKEN))
def test_one_broken_plugin_is_one_error_and_the_others_load(
    name: str, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    source, wanted = BROKEN[name]
    install(name, source)
    install("a_good_one", GOOD)
    install("zz_good_too", GOOD.replace("fine", "fine2"))
    with caplog.at_level(logging.WARNING, "neuro_mw"):
        factory = MiddlewareFactory()
    (error,) = factory.plugin_errors
    assert isinstance(error, PluginError)
    assert wanted in str(error)
    assert f"dist-{name} 0.1" in str(error), "names the distribution"
    assert f"neuro_mw_test_{name}" in str(error), "names the entry point"
    assert error.distribution == f"dist-{name}"
    assert error.__cause__ is not None
    assert str(error) in caplog.text
    # nothing of it is left behind, and the others work
    assert not any(factory.registry.has(id) for id in ("early", "never", "future", "odd"))
    assert set(factory.presets) == {info.name for info in factory.get_available_presets()}
    assert "new" not in factory.presets
    assert factory.apply_middleware("echo/echo", enabled_middleware=["fine", "fine2"]).chain == (
        "analytics", "fine", "fine2",
    )  # fmt: skip
    assert factory.registry.get("analytics") is not None
    assert [(info.name, info.error is not None) for info in factory.plugins] == sorted(
        [("a_good_one", False), (name, True), ("zz_good_too", False)]
    )


def test_two_broken_plugins_are_two_errors(install: Install) -> None:
    for name in ("missing_import", "misspelled"):
        install(name, BROKEN[name][0])
    assert len(MiddlewareFactory().plugin_errors) == 2


def test_two_plugins_with_one_id_the_second_is_refused(install: Install) -> None:
    install("first", GOOD)
    install("second", GOOD)
    factory = MiddlewareFactory()
    assert [info.name for info in factory.plugins if info.error] == ["second"]
    assert "'fine' already exists" in str(factory.plugin_errors[0])
    plan = factory.explain(factory.create_context("echo", "echo"))
    assert plan["fine"].origin == "dist-first 0.1"


@pytest.mark.parametrize(
    "options",
    [
        {"middleware_config": {"shield": {}}},
        {"enabled_middleware": ["shield"]},
        {"disabled_middleware": ["shield"]},
        {"middleware_config": {"mine": {"use": "shield"}}},
    ],
    ids=["config", "enabled", "disabled", "use"],
)
def test_what_only_the_broken_plugin_would_give_refuses_to_start(install: Install, options: dict[str, object]) -> None:
    install("shields", HEAD + "import no_such_module_at_all\n")
    with pytest.raises(ConfigError, match="shield") as caught:
        MiddlewareFactory(**options)  # type: ignore[arg-type]
    assert "dist-shields" in str(caught.value), "names the plugin that could not be loaded"
    assert "no_such_module_at_all" in str(caught.value)


def test_the_same_from_a_file(install: Install, tmp_path: Path) -> None:
    install("shields", HEAD + "import no_such_module_at_all\n")
    file = tmp_path / "config.toml"
    file.write_text("[middleware.shield]\n", "utf-8")
    with pytest.raises(ConfigError, match="dist-shields") as caught:
        MiddlewareFactory.from_file(file)
    assert str(file) in str(caught.value)


def test_a_preset_of_a_broken_plugin_names_it(install: Install) -> None:
    install("shields", HEAD + "import no_such_module_at_all\n")
    with pytest.raises(ConfigError, match="dist-shields"):
        MiddlewareFactory(preset="shields_preset")


def test_a_model_of_a_broken_plugin_names_it(install: Install) -> None:
    install("shields", HEAD + "import no_such_module_at_all\n")
    with pytest.raises(ConfigError, match="shieldmodel"):
        MiddlewareFactory().apply_middleware("shieldmodel/x")


def test_deselecting_the_broken_one_silences_it(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("missing_import", BROKEN["missing_import"][0])
    install("good", GOOD)
    monkeypatch.setenv("NEURO_MW_PLUGINS", "good")
    factory = MiddlewareFactory()
    assert factory.plugin_errors == []
    assert factory.registry.has("fine")


def test_a_keyboard_interrupt_is_not_swallowed(install: Install) -> None:
    install("stops", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        MiddlewareFactory()
