"""What a chain is made of, as a hash: for receipts, and for what must not be shared between different ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from types import CodeType
from typing import Any

from .. import __version__
from ..context import Inside
from ..frozen import plain
from ..layer import Layer

_OURS = __name__.partition(".")[0] + "."
_PLAIN = (str, bytes, int, float, bool, type(None))


def hash_of(facts: object) -> str:
    """A short hash, the same in each process."""
    return hashlib.sha256(repr(plain([__version__, facts])).encode()).hexdigest()[:16]


def fingerprint(layers: Iterable[Layer]) -> str:
    """Of ids, versions and configs, in order."""
    return hash_of([[layer.id, layer.instance.origin, layer.config] for layer in layers])


def inside(layers: Iterable[Layer], model: object) -> Inside:
    """What a middleware is told of the layers inside of it, and of the model behind them."""
    layers = list(layers)
    facts = [[one.id, one.instance.origin, type(one.middleware), one.config, one.on_error, _code_of(one)]
             for one in layers]  # fmt: skip
    lenient = any(one.on_error == "skip" and one.metadata.kind != "observer" for one in layers)
    return Inside(tuple(one.middleware for one in layers), hash_of([facts, _model(model)]), lenient)


def _code_of(layer: Layer) -> list[object]:
    """What the hooks of a middleware that is not ours say and hold: it may have no version, and no config."""
    middleware = layer.middleware
    if type(middleware).__module__.startswith(f"{_OURS}builtin."):
        return []
    held = vars(middleware) if middleware.config is None else {}
    hooks = [_function(getattr(hook, "__func__", hook)) for hook in layer.hooks]
    return [hooks, sorted((name, value) for name, value in held.items() if type(value) in _PLAIN)]


def _function(function: Any) -> list[object]:
    code = getattr(function, "__code__", None)
    if code is None:
        return [type(function)]
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    values = [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return [_code(code), [value if type(value) in _PLAIN else type(value) for value in values]]


def _code(code: CodeType) -> list[object]:
    consts = [_code(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return [code.co_code, code.co_names, consts]


def _model(model: object) -> list[object]:
    """What tells a model object from others of the same provider and id: it may say so in `identity`."""
    chain: Any = getattr(model, "_chain", None)
    wrapped = [chain.fingerprint, *_model(chain.model)] if hasattr(chain, "fingerprint") else []
    return [type(model), getattr(model, "identity", None), *wrapped]
