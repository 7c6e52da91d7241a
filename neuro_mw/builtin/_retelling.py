"""Another text for an error: for users, while its class, attributes, cause and traceback stay."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import lru_cache
from typing import Any

from ._attempts import say

_SAID = "_said"  # in the dict of an error: its text for users
_lock = threading.Lock()


def saying(error: Exception, message: str) -> Exception:
    """The error, saying this from now on; ``detail`` and a note keep what it said.

    A twin of it where it says something else in another call already, or where its class says what it likes; the error
    as it is where there can be no twin.

    >>> error = saying(TimeoutError("10.0.0.7 is slow"), "It took too long.")
    >>> str(error), error.detail, error.__notes__
    ('It took too long.', '10.0.0.7 is slow', ['it said: 10.0.0.7 is slow'])
    """
    own = vars(error)
    with suppress(Exception), _lock:  # whatever a class of errors does then, it must not take the error's place
        if own.get(_SAID) == message:
            return error
        if _SAID not in own:
            args, detail = error.args, str(error)
            error.args = (message,)
            if str(error) == message:
                _mark(error, message, detail)
                return error
            error.args = args
        return _twin(error, message)
    return error


def _mark(error: Exception, message: str, detail: str) -> None:
    own = vars(error)
    own.setdefault("detail", detail)
    own[_SAID] = message
    say(error, f"it said: {detail}")


def _twin(error: Exception, message: str) -> Exception:
    """Another error of the same class, or of a class of its own, that has all of it but the text."""
    own = vars(error)
    detail = own.get("detail", "") if _SAID in own else str(error)
    own_kind: Any = type(error)
    for kind in (own_kind, _outspoken(own_kind)):
        twin: Exception = kind.__new__(kind, *error.args)  # not its `__init__`: nobody knows what that takes
        vars(twin).update(own, __notes__=[*getattr(error, "__notes__", ())])
        if kind is own_kind:
            twin.args = (message,)
        _mark(twin, message, detail)
        if str(twin) == message:
            break
    twin.__cause__, twin.__context__ = error.__cause__, error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin.with_traceback(error.__traceback__)


@lru_cache(256)
def _outspoken(kind: Any) -> Any:
    """The same class, but that it says what was written down for users, and is pickled as the class it stands for."""
    return type(kind.__name__, (kind,), {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__str__": lambda self: vars(self)[_SAID],
        "__reduce_ex__": lambda self, protocol: (kind, self.args, vars(self)),
    })  # fmt: skip
