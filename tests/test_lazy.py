"""A middleware that is imported where it is switched on."""

import subprocess
import sys
from pathlib import Path

import pytest

import neuro_mw.builtin
from neuro_mw import (
    ConfigError,
    LazyMiddleware,
    Middleware,
    MiddlewareFactory,
    MiddlewareMetadata,
    MiddlewareRegistry,
    RegistrationError,
)
from neuro_mw.builtin import _catalog

HERE = "tests.test_lazy"
QUIET = MiddlewareMetadata("quiet", description="Says nothing.", priority=3)


class Quiet(Middleware):
    metadata = QUIET

    def transform_params(self, params, context):
        return {**params, "quiet": True}


class Crooked(Middleware):
    metadata = MiddlewareMetadata("crooked")

    def transform_params(self, params):  # one argument too few
        return params


def registry_with(metadata, path, **how):
    registry = MiddlewareRegistry()
    registry.register(LazyMiddleware(metadata, path), **how)
    return registry


def test_it_is_imported_where_it_is_used():
    registry = registry_with(QUIET, f"{HERE}:Quiet")
    assert registry.get_sorted_ids() == ["quiet"]
    assert isinstance(registry.get("quiet"), Quiet)


def test_it_can_stand_under_several_ids():
    registry = registry_with(QUIET, f"{HERE}:Quiet", id="hushed")
    registry.derive("silent", "hushed")
    assert registry.get_sorted_ids() == ["hushed", "silent"]
    assert registry.get("silent") is not registry.get("hushed")


@pytest.mark.parametrize(
    ("metadata", "path", "error", "said"),
    [
        (QUIET, "no_such_package:Quiet", ConfigError, "middleware.quiet: 'no_such_package:Quiet' cannot be loaded"),
        (QUIET, f"{HERE}:Nothing", ConfigError, "middleware.quiet"),
        (QUIET, HERE, ConfigError, "package.module:name"),
        (QUIET, f"{HERE}:registry_with", RegistrationError, "no Middleware class"),
        (MiddlewareMetadata("quiet", priority=4), f"{HERE}:Quiet", RegistrationError, "other metadata"),
        (Crooked.metadata, f"{HERE}:Crooked", RegistrationError, "wrong signature"),
    ],
)
def test_what_cannot_be_used_says_so_when_it_is_used(metadata, path, error, said):
    registry = registry_with(metadata, path)
    with pytest.raises(error, match=said):
        registry.get(metadata.id)


def test_a_guard_that_cannot_be_imported_refuses_to_start():
    factory = MiddlewareFactory(preset=None, plugins=False)
    factory.register(LazyMiddleware(MiddlewareMetadata("lost", kind="guard"), "no_such_package:Lost"))
    with pytest.raises(ConfigError, match=r"middleware\.lost"):
        factory.apply_middleware("echo/echo", enabled_middleware=["lost"])


def test_wrong_metadata_are_refused_at_once():
    with pytest.raises(RegistrationError, match="no metadata"):
        registry_with("quiet", f"{HERE}:Quiet")
    with pytest.raises(RegistrationError, match="wants contract 9"):
        registry_with(MiddlewareMetadata("late", contract="9"), f"{HERE}:Quiet")


# --- the built-ins ---------------------------------------------------------------------------------------------------


def test_the_catalog_names_every_built_in():
    names = [_catalog.class_name(id) for id in _catalog.CATALOG]
    assert sorted(names) == neuro_mw.builtin.__all__
    for id, name in zip(_catalog.CATALOG, names, strict=True):
        found = getattr(neuro_mw.builtin, name)
        assert found.__name__ == name
        assert found.metadata is _catalog.CATALOG[id]


def test_the_catalog_is_in_chain_order():
    priorities = [one.priority for one in _catalog.CATALOG.values()]
    assert priorities == sorted(priorities, reverse=True)


def test_a_factory_imports_what_it_uses():
    code = (
        "import sys, neuro_mw\n"
        "neuro_mw.MiddlewareFactory(enabled_middleware=['retry']).apply_middleware('echo/echo')\n"
        "print(*sorted(name for name in sys.modules if name.startswith('neuro_mw.builtin.')))"
    )
    root = Path(neuro_mw.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    loaded = [name.removeprefix("neuro_mw.builtin.") for name in done.stdout.split()]
    assert loaded == ["_attempts", "_catalog", "_usage", "analytics", "retry"]
