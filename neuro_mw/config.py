"""Configuration: its shape, its merging, and errors that name the culprit. The only place that speaks pydantic."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import ConfigError
from .frozen import own_copy
from .names import nearest

M = TypeVar("M", bound=BaseModel)


class _Strict(BaseModel):
    # built when first needed: most of these are never used in a process
    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, defer_build=True)


class ConditionsConfig(_Strict):
    """When a middleware applies; all that is given must hold."""

    providers: Sequence[str] | None = None
    models: Sequence[str] | None = None
    options: dict[str, Any] | None = None
    modes: Sequence[Literal["generate", "stream"]] | None = None
    custom: Callable[..., Any] | str | None = None


class MiddlewareEntry(_Strict):
    """The configuration of one middleware, the same in Python and in TOML; its own options are in ``config``."""

    enabled: bool = True
    config: dict[str, Any] = Field(default_factory=dict)
    conditions: ConditionsConfig | None = None
    priority: int | None = None
    on_error: Literal["raise", "skip"] | None = None
    timeout_s: float | None = Field(default=None, gt=0)
    use: str | None = None


class PresetTable(_Strict):
    """A preset as data."""

    name: str | None = None
    description: str = ""
    extends: list[str] = Field(default_factory=list)
    middleware: dict[str, MiddlewareEntry] = Field(default_factory=dict)


class FactoryFile(_Strict):
    """A TOML file for `MiddlewareFactory.from_file`."""

    preset: str | list[str] | None = "default"
    middleware: dict[str, MiddlewareEntry] = Field(default_factory=dict)
    enabled_middleware: list[str] = Field(default_factory=list)
    disabled_middleware: list[str] = Field(default_factory=list)
    plugins: bool | list[str] = True
    state: str = "memory"
    on_block: Literal["respond", "raise"] = "respond"
    driver: str = "auto"
    presets: dict[str, PresetTable] = Field(default_factory=dict)


def validated(model: type[M], data: Any, *, key: str = "", file: str | None = None) -> M:
    """`data` as `model`; ConfigError with file, key path and the nearest known name where it does not fit.

    Unknown keys are refused also where the model does not say so, unless it allows them expressly. A validator may
    itself raise ConfigError with the key below its model.
    """
    extra = None if "extra" in model.model_config else "forbid"
    try:
        return model.model_validate(data, extra=extra)  # type: ignore[arg-type]  # a Literal, narrowed above
    except ValidationError as error:
        raise _config_error(error, model, data, key, file) from None
    except ConfigError as error:
        error.key, error.file = ".".join(filter(None, (key, error.key))), error.file or file
        raise


def with_defaults(model: type[BaseModel], data: Mapping[str, Any]) -> dict[str, Any]:
    """`data`, its nested mappings merged into the defaults of their fields."""
    merged = dict(data)
    for name, field in model.model_fields.items():
        if isinstance(merged.get(name), Mapping):
            default = field.get_default(call_default_factory=True, validated_data={})
            if isinstance(default, BaseModel):
                default = default.model_dump()
            if isinstance(default, Mapping):
                merged[name] = deep_merge(default, merged[name])
    return merged


def _config_error(error: ValidationError, model: type[BaseModel], data: Any, key: str, file: str | None) -> ConfigError:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    paths = [_path_in(data, one["loc"], one["type"] == "missing") for one in found]
    at = max(range(len(found)), key=lambda index: len(paths[index]))  # of a choice of forms, the one that fits best
    path = ".".join([key, *map(str, paths[at])]).strip(".")
    if found[at]["type"] == "extra_forbidden":
        known = _fields_at(model, found[at]["loc"][:-1])
        expected = None if not known else "one of " + ", ".join(sorted(known))
        return ConfigError("unknown key", file=file, key=path, expected=expected,
                           nearest=nearest(str(paths[at][-1]), known))  # fmt: skip
    return ConfigError(found[at]["msg"].removeprefix("Value error, "), file=file, key=path)


def _path_in(data: Any, steps: Sequence[Any], missing: bool) -> list[Any]:
    """Those of pydantic's steps that are keys of the data, and a key that is missing; others name members of unions."""
    path = []
    for step in steps:
        is_list = isinstance(data, list | tuple)
        if step < len(data) if is_list and isinstance(step, int) else isinstance(data, Mapping) and step in data:
            data = data[step]
        elif not missing or step != steps[-1]:
            continue
        path.append(step)
    return path


def _fields_at(model: Any, path: Sequence[Any]) -> list[str]:
    for step in path:
        field = getattr(model, "model_fields", {}).get(step)
        if field is not None:
            found = _models_in(field.annotation)
            model = found[0] if found else None
    return list(getattr(model, "model_fields", ()))


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in getattr(annotation, "__args__", ()) for found in _models_in(inner)]


def entry_of(id: str, data: Any, *, file: str | None = None) -> dict[str, Any]:
    """One middleware's entry, checked; a copy of its tables, with the very values that were given in them."""
    if isinstance(data, MiddlewareEntry):
        return dict(own_copy(_given_to(data)))
    if not isinstance(data, Mapping):
        raise ConfigError(f"an entry is a table, not {type(data).__name__}", file=file, key=f"middleware.{id}")
    validated(MiddlewareEntry, dict(data), key=f"middleware.{id}", file=file)
    entry: dict[str, Any] = own_copy(data)
    for name, value in data.items():
        if isinstance(value, _Strict):
            entry[name] = own_copy(_given_to(value))
    return entry


def _given_to(model: BaseModel) -> dict[str, Any]:
    """The fields that were given to a model, as they were given."""
    given = {name: getattr(model, name) for name in model.model_fields_set}
    return {name: _given_to(value) if isinstance(value, _Strict) else value for name, value in given.items()}


def entries_of(config: Any, *, file: str | None = None) -> dict[str, dict[str, Any]]:
    """A whole ``middleware_config``, checked."""
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise ConfigError(f"it is a mapping of ids, not {type(config).__name__}", file=file, key="middleware_config")
    return {id: entry_of(id, data, file=file) for id, data in config.items()}


def deep_merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one; later wins, lists are replaced.

    >>> deep_merge({"a": {"x": 1}}, {"a": {"y": 2}})
    {'a': {'x': 1, 'y': 2}}
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = merged.get(key)
            if isinstance(old, Mapping) and isinstance(value, Mapping):
                merged[key] = deep_merge(old, value)
            else:
                merged[key] = deep_merge(value) if isinstance(value, Mapping) else value
    return merged


def read_toml(path: str | Path) -> dict[str, Any]:
    """A TOML file as data; ConfigError naming the file and the line where it does not parse."""
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"does not parse as TOML: {error}", file=str(path)) from None


def load_dotted(path: str, *, key: str, file: str | None = None) -> Callable[..., Any]:
    """The callable that ``package.module:name`` names."""
    module, colon, name = path.partition(":")
    try:
        if not colon or not name:
            raise ConfigError(f"{path!r} is no dotted callable", file=file, key=key, expected="'package.module:name'")
        found: Any = importlib.import_module(module)
        for step in name.split("."):
            found = getattr(found, step)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"{path!r} cannot be loaded: {error}", file=file, key=key) from error
    if not callable(found):
        raise ConfigError(f"{path!r} is not callable", file=file, key=key)
    return found  # type: ignore[no-any-return]  # checked above
