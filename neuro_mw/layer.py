"""A layer: a middleware bound into a chain, with its config, conditions and stats."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Lock
from time import monotonic
from traceback import extract_tb
from typing import Any

from .conditions import NO_CONDITIONS, Conditions
from .contract import Middleware, MiddlewareMetadata
from .errors import MiddlewareError, note
from .hooks import Hooks, hooks_of, may_idle, overrides
from .stats import LayerStats
from .types import Mode, OnError

logger = logging.getLogger("neuro_mw")
_LOG_EVERY_S = 60.0
_UNNAMED = MiddlewareMetadata(id="layer")


MODES: tuple[Mode, Mode] = ("generate", "stream")


def hook_names(hooks: Hooks, mode: Mode) -> list[str]:
    """The names of the hooks that run in a mode: of two wrap hooks, the one for it."""
    names = [name for name, hook in hooks._asdict().items() if hook is not None]
    if hooks.wrap_generate is not None and hooks.wrap_stream is not None:
        names.remove("wrap_stream" if mode == "generate" else "wrap_generate")
    return names


class Instance:
    """One live middleware: what all chains with the same (id, effective config) share, stats and life included."""

    def __init__(
        self, middleware: Middleware, *, origin: str = "instance", config: Mapping[str, Any] | None = None
    ) -> None:
        self.middleware, self.origin = middleware, origin
        self.hooks: Hooks = hooks_of(middleware)
        self.names: dict[Mode, list[str]] = {mode: hook_names(self.hooks, mode) for mode in MODES}
        """The hooks that run in each mode."""
        self.stats = LayerStats(middleware.tally)
        self.may_idle, self.hears = may_idle(middleware), overrides(middleware, "on_asked")
        self.has_startup = self.needs_startup = overrides(middleware, "startup")
        own = middleware.config
        self.config: dict[str, Any] = dict(own.model_dump()) if hasattr(own, "model_dump") else dict(config or {})
        """The config in force, defaults included, as plain data."""
        self._lock = Lock()
        self._started: Future[bool] | None = None
        self.logged: dict[str, float] = {}

    async def start(self) -> None:
        """Run `startup` once, however many calls come first at once; a failed one is tried again by the next call."""
        while True:
            with self._lock:
                started, mine = self._started, False
                if started is None:
                    started, mine = Future(), True
                    self._started = started
            if mine:
                break
            if await asyncio.shield(asyncio.wrap_future(started)):
                return
        try:
            await self.middleware.startup()
        except BaseException as error:
            with self._lock:
                self._started = None
            if isinstance(error, Exception):
                started.set_exception(error)
            else:  # the call that was at it was cancelled: another one takes over
                started.set_result(False)
            raise
        started.set_result(True)
        self.needs_startup = False

    async def aclose(self) -> None:
        """Run `aclose` if the instance was started or never needed to be."""
        with self._lock:
            self._started = None
            self.needs_startup = self.has_startup
        await self.middleware.aclose()


@dataclass(slots=True, eq=False)
class Layer:
    """A middleware's place in a chain."""

    id: str
    instance: Instance
    priority: int
    conditions: Conditions = NO_CONDITIONS
    on_error: OnError = "raise"
    timeout_s: float | None = None
    metadata: MiddlewareMetadata = _UNNAMED

    @property
    def middleware(self) -> Middleware:
        """The live instance."""
        return self.instance.middleware

    @property
    def config(self) -> dict[str, Any]:
        """Its effective config as plain data."""
        return self.instance.config

    @property
    def hooks(self) -> Hooks:
        """The hooks it really has."""
        return self.instance.hooks

    @property
    def stats(self) -> LayerStats:
        """Its recorder."""
        return self.instance.stats

    @property
    def is_guard(self) -> bool:
        """Whether its failure must never let anything pass."""
        return self.metadata.kind == "guard"

    def refusal(self, provider: str, model: str, options: Mapping[str, Any]) -> str | None:
        """Why it does not apply there, None where it may. A condition that raises is taken as its failure."""
        try:
            return self.conditions.refusal(provider, model, options)
        except Exception as error:
            if not self.is_guard and self.on_error != "skip":
                raise
            self.stats.skip()
            self.log_skipped(error, "conditions", provider, model, "runs" if self.is_guard else "was skipped")
            return None if self.is_guard else f"its conditions failed ({type(error).__name__})"

    def idles(self) -> str | None:
        """Why there is nothing for it to do now. Raises MiddlewareError where it says neither that nor None."""
        why: Any = self.middleware.idle()
        if why is None or (isinstance(why, str) and why):
            return why
        if hasattr(why, "close"):
            why.close()  # a coroutine: it will never be awaited
        said = f"middleware '{self.id}': idle returned {type(why).__name__}; it must return why, a text, or None"
        raise MiddlewareError(said, middleware=self.id, hook="idle")

    def has_hooks(self) -> bool:
        """Whether there is anything to run at all."""
        return bool(self.instance.names["generate"])

    def wraps(self) -> bool:
        """Whether it stands between the answer and its parts (one wrap hook serves both modes)."""
        return self.hooks.wrap_generate is not None or self.hooks.wrap_stream is not None

    def only_hook(self, mode: Mode) -> str | None:
        """The name of its hook where it has just one in this mode."""
        names = self.instance.names[mode]
        return names[0] if len(names) == 1 else None

    def without_custom(self) -> Layer:
        """The same layer, its custom condition decided."""
        if self.conditions.custom is None:
            return self
        return replace(self, conditions=Conditions(modes=self.conditions.modes))

    def buffers(self, mode: Mode) -> bool:
        """Whether it needs the whole answer before a stream can go on."""
        return mode == "stream" and self.hooks.wrap_stream is None and self.hooks.wrap_generate is not None

    def hooks_by_mode(self, mode: Mode) -> list[str]:
        """The hooks that run in a mode, as `explain` shows them."""
        names = [*self.instance.names[mode]]
        if self.buffers(mode):
            names[names.index("wrap_generate")] = "wrap_generate (buffers the stream)"
        return names

    def log_skipped(
        self, error: BaseException, hook: str, provider: str, model: str, outcome: str = "was skipped"
    ) -> None:
        """Say, at most once a minute for each hook, that a failure was skipped. The error's text stays out."""
        now = monotonic()
        if now - self.instance.logged.get(hook, -_LOG_EVERY_S) < _LOG_EVERY_S:
            return
        self.instance.logged[hook] = now
        frames = extract_tb(error.__traceback__)
        where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        logger.warning(
            "middleware '%s' failed in %s (%s%s) for %s/%s and %s",
            self.id, hook, type(error).__name__, where, provider, model, outcome,
        )  # fmt: skip

    def log_once(self, what: str, message: str) -> None:
        """Say something once in the life of this layer."""
        if what not in self.instance.logged:
            self.instance.logged[what] = float("inf")
            logger.warning(message)


async def start_all(instances: Sequence[Instance]) -> None:
    """Start instances, outermost first; where one fails, those that were started are closed again."""
    started: list[Instance] = []
    try:
        for live in instances:
            if live.needs_startup:
                await _start(live)
            started.append(live)
    except BaseException as error:
        try:
            await close_all(started)
        except Exception as failure:  # noqa: BLE001  # it must not hide why it was closed
            note(error, f"closing failed too: {type(failure).__name__}")
        raise


async def _start(live: Instance) -> None:
    metadata = live.middleware.metadata
    try:
        await live.start()
    except Exception as error:
        if (metadata.on_error or ("skip" if metadata.kind == "observer" else "raise")) == "raise":
            raise
        live.stats.skip()
        logger.warning("middleware '%s' failed in startup (%s) and was skipped", metadata.id, type(error).__name__)


async def close_all(instances: Sequence[Instance]) -> None:
    """Close instances, innermost first; all are closed before any failure is told."""
    failures: list[Exception] = []
    for live in reversed(instances):
        if live.has_startup and live.needs_startup:
            continue  # it was never started
        try:
            await live.aclose()
        except Exception as failure:  # noqa: BLE001  # see above
            failures.append(failure)
    if failures:
        raise failures[0] if len(failures) == 1 else ExceptionGroup("closing middlewares failed", failures)
