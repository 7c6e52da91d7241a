"""What a chain is made of, as a hash: for receipts, and for what must not be shared between different ones."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any
from weakref import WeakKeyDictionary

from .. import __version__
from ..call import Inside
from ..contract import Middleware
from ..frozen import plain
from ..layer import Layer

_OURS = __name__.partition(".")[0] + "."
_PLAIN = (str, bytes, int, float, bool, complex)
_MOST = 2000  # of what a middleware holds
_SAYING = {"re", "decimal", "datetime", "pathlib", "uuid", "fractions", "enum"}  # modules whose objects say all in repr
_EVERY = frozenset({"config", "metadata", "stored_as", "tally"})
_PROCESS = os.urandom(8).hex()
_said: WeakKeyDictionary[Middleware, list[object]] = WeakKeyDictionary()


def hash_of(facts: object) -> str:
    """A short hash, the same in each process."""
    return hashlib.sha256(repr(plain([__version__, facts])).encode()).hexdigest()[:16]


def made_of(layers: Iterable[Layer]) -> str:
    """Of ids, versions and configs, in order."""
    return hash_of([[layer.id, layer.instance.origin, layer.config] for layer in layers])


def inside(layers: Iterable[Layer], model: object) -> Inside:
    """What a middleware is told of the layers inside of it, and of the model behind them."""
    layers = list(layers)
    facts = [[one.id, one.instance.origin, type(one.middleware), one.config, one.on_error, _code_of(one)]
             for one in layers]  # fmt: skip
    lenient = any(one.on_error == "skip" and one.metadata.kind != "observer" for one in layers)
    beyond, shareable = False, all(one.middleware.shareable for one in layers)
    chain: Any = getattr(model, "_chain", None)  # of a wrapped model
    if hasattr(chain, "layers"):
        further = inside(chain.layers, chain.model)
        facts.append([further.fingerprint])
        shareable = shareable and further.shareable
        beyond = further.lenient or further.lenient_beyond or any(map(_may_be_left_out, chain.layers))
    fingerprint = hash_of([facts, type(model), _identity(model)])
    return Inside(tuple(one.middleware for one in layers), fingerprint, lenient, beyond, shareable)


def _may_be_left_out(layer: Layer) -> bool:
    """Whether some calls pass by a layer that may change answers."""
    return layer.metadata.kind != "observer" and (layer.conditions.custom is not None or layer.instance.may_idle)


def _identity(model: object) -> object:
    """What a model object says of itself; one that cannot say it is like no other."""
    try:
        said = getattr(model, "identity", None)
        return said() if callable(said) else said
    except Exception:  # noqa: BLE001  # it is a user's
        return [_PROCESS, id(model)]


def _code_of(layer: Layer) -> list[object]:
    """What the hooks of a middleware that is not ours say, and what it holds: it may have no version, and no config."""
    middleware = layer.middleware
    if type(middleware).__module__.startswith(f"{_OURS}builtin."):
        return []
    said = _said.get(middleware)
    if said is None:  # as it is at first: a count of its own would make each chain another one
        seen: dict[int, object] = {id(middleware): middleware}
        try:
            hooks = [_held(getattr(hook, "__func__", hook), seen) for hook in layer.hooks]
            said = [hooks, _held({} if middleware.config is not None else _of_its_own(middleware), seen)]
        except Exception:  # noqa: BLE001  # whatever it holds may raise anything: it is like no other
            said = [_PROCESS, id(middleware)]
        _said[middleware] = said
    return said


def _of_its_own(middleware: Middleware) -> dict[str, Any]:
    """What it holds but what every middleware has."""
    return {name: value for name, value in vars(middleware).items() if name not in _EVERY}


def _held(value: Any, seen: dict[int, object]) -> object:
    """A value as plain data: what it holds, and what it would do. ``seen`` keeps what was looked at, by its id."""
    if value is None or type(value) in _PLAIN:
        return [type(value), value]
    if id(value) in seen:
        return "seen"
    if len(seen) >= _MOST:
        return _PROCESS  # too much to tell: it is shared with no other process
    seen[id(value)] = value
    if isinstance(value, CodeType):
        return [value.co_code, value.co_names, [_held(one, seen) for one in value.co_consts]]
    if isinstance(value, FunctionType):
        if (value.__module__ or "").startswith(_OURS):
            return value.__qualname__
        cells = [_held(_content(cell), seen) for cell in value.__closure__ or ()]
        return [_held(value.__code__, seen), cells, _held(value.__defaults__, seen), _held(value.__kwdefaults__, seen)]
    if isinstance(value, MethodType):
        return [_held(value.__func__, seen), _held(value.__self__, seen)]
    if isinstance(value, partial):
        return [_held(value.func, seen), _held(value.args, seen), _held(value.keywords, seen)]
    if isinstance(value, Mapping):
        return sorted(repr((key, hash_of(_held(one, seen)))) for key, one in value.items())
    if isinstance(value, list | tuple):
        return [type(value), [_held(one, seen) for one in value]]
    if isinstance(value, set | frozenset):
        return [type(value), sorted(hash_of(_held(one, seen)) for one in value)]
    if isinstance(value, BuiltinFunctionType | MethodWrapperType | MethodDescriptorType):
        return [value.__qualname__, _held(getattr(value, "__self__", None), seen)]
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, type):
        named = [value.__module__, value.__qualname__]
        known = value.__module__.startswith(_OURS) or value.__module__ in sys.stdlib_module_names
        return named if known else [named, _held({name: vars(value)[name] for name in vars(value)}, seen)]
    call = getattr(type(value), "__call__", None)  # noqa: B004  # what it does, not whether it can
    slots = [name for base in type(value).__mro__ for name in _names(base.__dict__.get("__slots__", ()))]
    own = {**{name: getattr(value, name, None) for name in slots}, **getattr(value, "__dict__", {})}
    tells = type(value).__module__ in _SAYING or isinstance(value, str | bytes | bytearray | deque)
    said = repr(value) if tells else ""
    return [_held(type(value), seen), said, _held(call, seen), _held(own, seen)]


def _names(slots: object) -> Iterable[str]:
    names = [slots] if isinstance(slots, str) else list(slots) if isinstance(slots, Iterable) else []
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return "empty"
