"""Another text for an error: for users, while its class, attributes, cause and traceback stay."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import lru_cache
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from ._attempts import say

_SAID = "_said"  # in the dict of an error: its text for users
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that was made by a class statement
_args: Any = vars(BaseException)["args"]  # past whatever a class makes of its attributes
_lock = threading.Lock()  # nothing of an error's class runs under it: that may take its time, or come back here


def saying(error: Exception, message: str) -> Exception:
    """The error, saying this from now on; ``detail`` and a note keep what it said.

    A twin of it where it says something else in another call already, or where its class says what it likes. Raises
    whatever its class raises where it can neither be changed nor have a twin.

    >>> error = saying(TimeoutError("10.0.0.7 is slow"), "It took too long.")
    >>> str(error), error.detail, error.__notes__
    ('It took too long.', '10.0.0.7 is slow', ['it said: 10.0.0.7 is slow'])
    """
    own, detail = vars(error), ""
    if _SAID not in own:
        with suppress(Exception):
            detail = str(error)
        if _tells_its_arguments(error) and _claim(error, message, detail):
            say(error, f"it said: {detail}")
            return error
    if own.get(_SAID) == message:
        return error
    return _twin(error, message, own["detail"] if _SAID in own else detail)


def _tells_its_arguments(error: Exception) -> bool:
    """Whether ``str(error)`` is its only argument, if it has one."""
    kind: Any = type(error)
    if kind.__str__ is OSError.__str__:
        return getattr(error, "errno", None) is None and getattr(error, "strerror", None) is None
    return kind.__str__ is BaseException.__str__


def _claim(error: Exception, message: str, detail: str) -> bool:
    """Change what it says, unless that was done in another call meanwhile."""
    own = vars(error)
    with _lock:
        if _SAID in own:
            return False
        _args.__set__(error, (message,))
        own.setdefault("detail", detail)
        own.setdefault("__notes__", [])
        own[_SAID] = message
    return True


def _twin(error: Exception, message: str, detail: str) -> Exception:
    """Another error of the same class, or of a class of its own, that has all of it but the text."""
    kind: Any = type(error)
    plain = _tells_its_arguments(error)
    if not plain and not issubclass(kind, _Outspoken):
        kind = _outspoken(kind)
    twin = _new(kind, _args.__get__(error))
    vars(twin).update(vars(error), __notes__=[*getattr(error, "__notes__", ())])
    for member in _members(kind):
        with suppress(Exception):  # it is not set, or for reading only
            if (value := member.__get__(error)) is not member.__get__(twin):
                member.__set__(twin, value)
    if plain:
        _args.__set__(twin, (message,))
    vars(twin).setdefault("detail", detail)
    vars(twin)[_SAID] = message
    say(twin, f"it said: {detail}")
    return twin


def _new(kind: Any, args: tuple[Any, ...]) -> Exception:
    """An error of this class, past its `__new__` and `__init__`: nobody knows what those take."""
    made: Exception = _builtin(kind).__new__(kind, *args)
    _args.__set__(made, args)
    return made


def _builtin(kind: Any) -> Any:
    """The class of the interpreter's own that a class of errors is laid out as."""
    while kind.__flags__ & _HEAP_TYPE:
        kind = kind.__base__
    return kind


@lru_cache(256)
def _members(kind: Any) -> list[Any]:
    """What errors of a class hold outside of their dict, as ``__cause__`` or ``errno``."""
    own = [one for base in _builtin(kind).__mro__[:-1] for one in vars(base).values()]
    found = [one for one in own if isinstance(one, GetSetDescriptorType | MemberDescriptorType)]
    found = [one for one in found if one.__name__ != "__dict__"]
    return sorted(found, key=lambda one: one.__name__ == "__suppress_context__")  # setting the cause sets this, too


class _Outspoken:
    """Before a class of errors: it says what was written down for users, also after it was pickled or copied."""

    __slots__ = ()

    def __init_subclass__(cls, **_: Any) -> None:
        """Nothing; that of the class of errors might refuse."""

    def __str__(self) -> str:
        return str(vars(self)[_SAID])

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _again, (type(self).__mro__[2], _args.__get__(self), vars(self))


@lru_cache(256)
def _outspoken(kind: Any) -> Any:
    """The same class, but that it says what was written down for users."""
    name, bases = kind.__name__, (_Outspoken, kind)
    body: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    with suppress(Exception):
        return type(name, bases, body)
    return type.__new__(type(kind), name, bases, body)  # past a metaclass that refuses


def _again(kind: Any, args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    """A twin as it was pickled or copied."""
    twin = _new(_outspoken(kind), args)
    vars(twin).update(state)
    return twin
