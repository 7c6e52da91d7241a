"""A model in which things go wrong: it fails, breaks off or stalls where it is told to, and keeps what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from math import inf
from random import Random

from neuro_mw.errors import ProviderRateLimited, ProviderTimeout, ProviderUnavailable
from neuro_mw.parts import parts_of
from neuro_mw.types import Finish, Params, Part, Response, Usage

from .scripted import cut

_ERRORS = (ProviderUnavailable, ProviderRateLimited, ProviderTimeout)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong in one call, before part number ``at`` of its answer (Finish is the last; behind it: nothing).

    First it waits for ``stall_s`` seconds, ``math.inf`` until it is cancelled; then it raises ``error``, or ends the
    stream without Finish (``cut``), or goes on where it is to do neither. Raises ValueError for what makes no sense.
    """

    at: int = 0
    error: BaseException | None = None
    cut: bool = False
    stall_s: float = 0.0

    def __post_init__(self) -> None:
        if self.at < 0 or not self.stall_s >= 0:
            raise ValueError(f"at={self.at}, stall_s={self.stall_s}: neither can be negative")
        ends = self.cut + (self.error is not None)
        if ends == 2 or not (ends or self.stall_s):
            raise ValueError("a fault is an error, a cut or a stall; a stall may come before one of the others")


@dataclass(slots=True)
class FaultyCall:
    """What became of one call."""

    mode: str
    params: Params
    fault: Fault | None
    parts: list[Part] = field(default_factory=list)
    """The parts that left, as they were; in `generate` those of the whole answer."""
    usage: Usage | None = None
    """The usage that was told, None where the answer did not come to its end."""
    error: BaseException | None = None
    """What it failed with; also where it was cancelled in a wait, not where its stream was closed."""
    over: bool = False
    """Whether nothing of it is under way or open any more."""
    closed: int = 0
    """How often its stream was closed by its reader."""
    read_after_close: int = 0


class FaultyModel:
    """A LanguageModel for tests of what deals with failures.

    ``faults`` has one entry for each call, in the order in which they begin: a `Fault`, or None for a call that is
    whole, as are all calls beyond; `random_faults` gives random ones. ``response`` may be several, one for each call,
    of which the last repeats. ``cuts`` are the lengths into which the texts are cut in streams (the last one repeats);
    each part takes ``delay_s``, in `generate` the whole answer, and the end of a stream ``closing_s``; None does not
    wait at all.

    In `generate` a fault before any part fails the whole answer. A cut is ProviderUnavailable there, as it is with a
    connection that breaks off: only streams are interrupted.

    ``calls`` has a `FaultyCall` for each call. Of its streams, ``opened`` counts all, ``closed`` those that are over,
    ``closed_twice`` those that were closed more than once, ``read_after_close`` the reads that came too late.

    >>> from neuro_mw import MiddlewareFactory
    >>> from neuro_mw.builtin.retry import Retry
    >>> down = ProviderUnavailable("down", provider="openai", model="gpt-4o")
    >>> model = FaultyModel("hello", faults=[Fault(0, down), Fault(0, cut=True), Fault(2, cut=True)], cuts=[2])
    >>> retry = Retry(initial_delay_s=0)
    >>> stream = MiddlewareFactory(preset=None, middleware=[retry]).apply_middleware(model).stream_sync("hi")
    >>> try:
    ...     stream.response()
    ... except Exception as error:
    ...     print(repr(error.partial.text))
    'hell'
    >>> len(model.calls), model.opened, model.closed
    (3, 3, 3)
    """

    def __init__(
        self,
        response: Response | str | Sequence[Response | str] = "hello",
        *,
        faults: Iterable[Fault | None] = (),
        cuts: Sequence[int] = (3,),
        delay_s: float | None = None,
        closing_s: float | None = None,
        provider: str = "openai",
        model_id: str = "gpt-4o",
    ) -> None:
        answers = [response] if isinstance(response, Response | str) else response
        self.responses = [Response(text=one) if isinstance(one, str) else one for one in answers]
        self.cuts, self.delay_s, self.closing_s = tuple(cuts) or (1 << 30,), delay_s, closing_s
        self.provider, self.model_id = provider, model_id
        self.calls: list[FaultyCall] = []
        self._faults = iter(faults)

    @property
    def opened(self) -> int:
        """How many streams there were."""
        return len(self._streams())

    @property
    def closed(self) -> int:
        """How many streams are over: read to their end, failed or closed."""
        return sum(call.over for call in self._streams())

    @property
    def closed_twice(self) -> int:
        """How many streams were closed more than once."""
        return sum(call.closed > 1 for call in self._streams())

    @property
    def read_after_close(self) -> int:
        """How often a stream was read that had been closed."""
        return sum(call.read_after_close for call in self._streams())

    async def generate(self, params: Params) -> Response:
        """The whole answer."""
        call, response = self._begin("generate", params)
        try:
            for index, part in enumerate(cut(parts_of(response), self.cuts)):
                if index == 0:
                    await _wait(self.delay_s)
                if not await _goes_on(call, index):
                    said = f"{self.provider}/{self.model_id}: the answer broke off"
                    raise ProviderUnavailable(said, provider=self.provider, model=self.model_id, retryable=True)
                call.parts.append(copy(part))
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.over = True
        call.usage = response.usage
        return response

    def stream(self, params: Params) -> AsyncIterator[Part]:
        """The answer in pieces."""
        return _Stream(*self._begin("stream", params), self)

    def _begin(self, mode: str, params: Params) -> tuple[FaultyCall, Response]:
        response = self.responses[min(len(self.calls), len(self.responses) - 1)]
        self.calls.append(FaultyCall(mode, params, next(self._faults, None)))
        return self.calls[-1], response

    def _streams(self) -> list[FaultyCall]:
        return [call for call in self.calls if call.mode == "stream"]


class _Stream:
    """A stream that knows how it is treated."""

    def __init__(self, call: FaultyCall, response: Response, model: FaultyModel) -> None:
        self.call, self.model = call, model
        self.parts = self._run(response)

    def __aiter__(self) -> AsyncIterator[Part]:
        return self

    async def __anext__(self) -> Part:
        self.call.read_after_close += self.call.closed > 0
        return await self.parts.__anext__()

    async def aclose(self) -> None:
        self.call.closed += 1
        try:
            await self.parts.aclose()  # type: ignore[attr-defined]  # an async generator
        finally:
            self.call.over = True  # also where it was never read

    async def _run(self, response: Response) -> AsyncIterator[Part]:
        call, model = self.call, self.model
        try:
            for index, part in enumerate(cut(parts_of(response), model.cuts)):
                await _wait(model.delay_s)
                if not await _goes_on(call, index):
                    return
                call.parts.append(copy(part))
                if isinstance(part, Finish):
                    call.usage = part.usage
                yield part
        except GeneratorExit:
            raise
        except BaseException as error:
            call.error = error
            raise
        finally:
            try:
                await _wait(model.closing_s)
            finally:
                call.over = True


async def _goes_on(call: FaultyCall, index: int) -> bool:
    """Whether the part of this number comes, after what goes wrong before it; raises where that is an error."""
    fault = call.fault
    if fault is None or index != fault.at:
        return True
    if fault.stall_s == inf:
        await asyncio.get_running_loop().create_future()
    await _wait(fault.stall_s or None)
    if fault.error is not None:
        raise fault.error
    return not fault.cut


async def _wait(seconds: float | None) -> None:
    if seconds is not None:
        await asyncio.sleep(seconds)


def random_faults(seed: int, parts: int, *, chance: float = 0.5, stall_s: float = 0.01) -> Iterator[Fault | None]:
    """Faults for any number of calls; the same seed gives the same ones.

    Each call has one with the probability ``chance``: an error, a cut or a stall, each of the three as likely as the
    others, before each of the first ``parts`` parts as likely as before any other. An error is as likely
    ProviderUnavailable, ProviderRateLimited or ProviderTimeout, all of them retryable; a stall takes between 0 and
    ``stall_s`` seconds, evenly distributed, and then the call goes on (``math.inf``: it never does).

    >>> from itertools import islice
    >>> [fault and fault.at for fault in islice(random_faults(3, parts=4), 5)]
    [1, None, 0, None, 1]
    """
    random = Random(seed)
    while True:
        if random.random() >= chance:
            yield None
            continue
        at, kind = random.randrange(parts), random.choice(("error", "cut", "stall"))
        if kind == "error":
            error = random.choice(_ERRORS)
            yield Fault(at, error("a random fault", provider="openai", model="gpt-4o", retryable=True))
        elif kind == "cut":
            yield Fault(at, cut=True)
        else:
            yield Fault(at, stall_s=inf if stall_s == inf else stall_s * (1.0 - random.random()))
