"""What a store is: bytes under keys, and decisions made where the numbers lie; the one error of all stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..errors import NeuroError

if TYPE_CHECKING:
    from .scripts import Script

DEFAULT_TTL_S = 30 * 86_400.0  # of what is written without a ttl, so that nothing stays forever
MAX_TTL_S = 10 * 365 * 86_400.0
MAX_VALUE_BYTES = 1 << 20


class StoreUnavailable(NeuroError):  # noqa: N818 - named as those of neuro_mw.errors are
    """A store is away, too slow, full, locked or broken; what was asked may or may not have been done.

    ``url`` is the store as shown to people, without a password. ``key`` is set where one entry is not what this
    package wrote; the message does not hold it, since keys are made of the names of users. ``sent`` is False where
    nothing can have been done. ``__cause__`` is the failure itself.

    >>> str(StoreUnavailable("no answer within 2 s", url="redis://cache:6379/0"))
    'redis://cache:6379/0: no answer within 2 s'
    """

    def __init__(self, message: str, *, url: str, key: str | None = None, sent: bool = False) -> None:
        self.url, self.key, self.sent = url, key, sent
        super().__init__(f"{url}: {message}")


class Store(Protocol):
    """What caches, limits and budgets ask of a store. All methods raise StoreUnavailable and nothing else of their own.

    A store may be used from any number of event loops and threads. Nothing is opened before the first use. Values are
    bytes; they and what the scripts keep are apart: the same key may be used for both.
    """

    url: str
    """The store as shown to people, without a password."""
    remote: bool
    """Whether a call is a round trip over a network, so that it pays to ask for several things at once."""

    max_value_bytes: int
    """The largest value that is kept."""

    async def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""

    async def set(self, key: str, value: bytes, *, ttl_s: float | None = None) -> bool:
        """Keep a value for `ttl_s` seconds (None: 30 days). False, and nothing is kept, where it is too large."""

    async def delete(self, key: str) -> None:
        """Forget the value of a key, and what the scripts keep under it."""

    async def keys(self, prefix: str) -> list[str]:
        """The keys of the values that begin with `prefix`, sorted, without those that have ended.

        It may look at all that the store has, on all nodes of a cluster: nothing for the path of a request.
        """

    async def run(self, *scripts: Script) -> list[Any]:
        """Run scripts in order, each atomically, in one round trip, and return their results.

        It ends behind the first that says so: a value was found, a limit or budget refused. Then there are fewer
        results than scripts.
        """

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the store is there."""

    async def aclose(self) -> None:
        """Let go what is open. A store that is used again opens anew."""


def check_size(value: bytes, most: int) -> None:
    """Raise ValueError for a value that is too large to be written by a script."""
    if len(value) > most:
        raise ValueError(f"a value of {len(value)} bytes is above max_value_bytes, {most}")


def lifetime(ttl_s: float | None) -> float:
    """The seconds that a value is kept.

    >>> lifetime(None), lifetime(60)
    (2592000.0, 60)
    """
    if ttl_s is None:
        return DEFAULT_TTL_S
    if not 0 < ttl_s < float("inf"):
        raise ValueError("ttl_s has to be a number of seconds above 0")
    return min(ttl_s, MAX_TTL_S)
