"""The server goes away under load and comes back: as declared, without a hang and without a lost answer."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

import pytest
from shared_workers import BUDGET_KEY, MILLI, MODES, answer, ask, budget_of, factory_of

from neuro_mw import Params, Part, Response, parts_of
from neuro_mw.state import Peek, StoreUnavailable, open_store
from neuro_mw.testing import ScriptedModel
from neuro_mw.testing.scripted import cut
from tests.state.conftest import mortal, revive

__all__ = ["mortal"]  # a fixture

POLICIES = ["open", "closed", "local"]
CONFIGS = {
    "cache": {"ttl_s": 600},
    "rate_limit": {"limits": ["20000/day", "1000000000 tokens/day"]},
    "budget": budget_of(10**6),
}
RATE_KEY = "rate_limit:rate_limit:requests:86400.0:global"
LONGEST_S = 15.0  # no call takes so long, however slow the machine is
AWAY_S = 0.8
REST_S = 2.2  # also where a command that was under way is given up late


class Parrot(ScriptedModel):
    """Says what it was asked; where that begins with "held", not before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.held = asyncio.Event(), 0

    async def generate(self, params: Params) -> Response:
        """What it was asked."""
        self.calls.append(("generate", params))
        return await self.said(params)

    async def stream(self, params: Params) -> AsyncIterator[Part]:
        """The same in pieces."""
        self.calls.append(("stream", params))
        for part in cut(parts_of(await self.said(params)), (4,)):
            yield part

    async def said(self, params: Params) -> Response:
        text = params["messages"][-1]["content"]
        if text.startswith("held"):
            self.held += 1
            await self.go.wait()
        await asyncio.sleep(0)
        return answer(1, f"you said {text}")


@dataclass
class Chain:
    """One middleware in a chain of its own, and what became of its calls: when they began and ended, and with what."""

    id: str
    policy: str
    url: str
    calls: list[tuple[float, float, Response | StoreUnavailable]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scripted = Parrot()
        self.factory = factory_of(self.url, **{self.id: {**CONFIGS[self.id], "on_store_failure": self.policy}})
        self.model = self.factory.apply_middleware(self.scripted)

    async def ask(self, mode: str, prompt: str) -> Response:
        response = await asyncio.wait_for(ask(self.model, mode, prompt, max_tokens=1), LONGEST_S)
        assert response.text == f"you said {prompt}", self.id
        return response

    async def load(self, mode: str, number: int, over: asyncio.Event) -> None:
        """Ask again and again, for what others ask and for what nobody else asks."""
        at = 0
        while not over.is_set():
            at, began = at + 1, time.monotonic()
            try:
                prompt = f"anything {at % 7}" if at % 2 else f"{mode} {number} {at}"
                became: Response | StoreUnavailable = await self.ask(mode, prompt)
            except StoreUnavailable as error:
                became = error
            self.calls.append((began, time.monotonic(), became))
            await asyncio.sleep(0.006)

    def counts(self) -> dict[str, int]:
        return self.factory.registry.get_aggregated_stats()[self.id].counts

    def unwritten(self) -> int:
        """What was lost, or is written later: the ends of leases."""
        return self.counts().get("not_written", 0) + self.counts().get("owed", 0)

    def became(self, since: float = 0.0, until: float = inf) -> list[Any]:
        """Of the calls that began and ended within that time."""
        return [became for began, ended, became in self.calls if since < began and ended < until]

    def works(self, since: float) -> bool:
        """Whether all of its last calls were as if nothing had been."""
        last = self.became(since)[-12:]
        return len(last) == 12 and not any(isinstance(one, StoreUnavailable) or self.skipped(one) for one in last)

    def skipped(self, response: Response) -> int:
        return response.receipt.layers[self.id]["failures_skipped"]


def is_hit(became: Response | StoreUnavailable) -> bool:
    return isinstance(became, Response) and became.metadata.get("cache", {}).get("hit", False)


def kill(server: Any) -> Callable[[], None]:
    """Kill it; the other way round it begins anew, empty, at the same port."""
    port = server.port
    server.terminate()
    return lambda: revive(server, port)


def freeze(server: Any) -> Callable[[], None]:
    """Let it accept connections and never answer."""
    pid = server._process.pid
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("how", [kill, freeze])
def test_the_server_goes_away_under_load_and_comes_back(mortal, how, policy, caplog):
    url = f"redis://127.0.0.1:{mortal.port}/0?connect_timeout_s=0.5&timeout_s=0.5"

    async def main() -> None:
        chains, over = [Chain(id, policy, url) for id in CONFIGS], asyncio.Event()
        for chain in chains:
            await chain.ask("generate", "first")  # what is loaded then holds the others up
        async with asyncio.TaskGroup() as group:
            for chain in chains:
                for at in range(4):
                    group.create_task(chain.load(MODES[at % 2], at, over))
            await asyncio.sleep(0.2)
            held = {
                (chain.id, mode): group.create_task(chain.ask(mode, f"held {mode}"))
                for chain in chains for mode in MODES
            }  # fmt: skip
            while not all(chain.scripted.held == 2 for chain in chains):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.005)
            before = time.monotonic()
            back = await asyncio.to_thread(how, mortal)
            try:
                away = time.monotonic()
                await asyncio.sleep(AWAY_S)
                for chain in chains:
                    chain.scripted.go.set()
                answers = {key: await task for key, task in held.items()}
            finally:
                still = time.monotonic()
                await asyncio.to_thread(back)
            while not all(chain.works(since=still) for chain in chains):
                assert time.monotonic() < still + LONGEST_S
                await asyncio.sleep(0.05)
            over.set()
        for chain in chains:
            assert {type(one) for one in chain.became(until=before)} == {Response}, chain.id
            # under way when it went: the answer is delivered, and what could not be written is counted and told
            assert chain.unwritten() >= 2, chain.id
            assert all(chain.skipped(answers[chain.id, mode]) for mode in MODES), chain.id
            meanwhile = chain.became(away, still)
            assert meanwhile, chain.id
            at_hand = [one for one in meanwhile if is_hit(one)]  # also of those who follow another call
            if policy == "closed":
                assert {type(one) for one in meanwhile if one not in at_hand} == {StoreUnavailable}, chain.id
                assert {type(one) for one in chain.became()} == {StoreUnavailable, Response}
                assert "store_away" not in chain.counts()
            else:
                assert {type(one) for one in chain.became()} == {Response}, chain.id  # not one was refused
                told = [one for one in meanwhile if chain.skipped(one)]
                assert len(told) >= len(meanwhile) - len(at_hand), chain.id
                assert chain.counts()["store_away"] >= len(told) > 0, chain.id
                assert at_hand or chain.id != "cache" or policy == "open"
            assert any(f"middleware '{chain.id}'" in one.getMessage() for one in caplog.records), chain.id
        await works_again({chain.id: chain for chain in chains})

    asyncio.run(main())


async def works_again(chains: dict[str, Chain]) -> None:
    """What is kept is on the server again, to the last call."""
    store = open_store(chains["cache"].url)
    counts = {id: chain.counts() for id, chain in chains.items()}
    for mode in MODES:
        spent = (await store.run(Peek(BUDGET_KEY)))[0].spent
        used = (await store.run(Peek(RATE_KEY)))[0].used
        for chain in chains.values():
            assert not chain.skipped(await chain.ask(mode, f"after {mode}"))
        assert (await store.run(Peek(BUDGET_KEY)))[0].spent == spent + MILLI
        assert used + 0.5 < (await store.run(Peek(RATE_KEY)))[0].used <= used + 1
        other = Chain("cache", "closed", chains["cache"].url)
        async with other.factory:
            assert (await other.ask(mode, f"after {mode}")).metadata["cache"]["hit"]
        assert other.scripted.calls == []
    for id, chain in chains.items():
        for name in ("store_away", "not_written"):
            assert chain.counts().get(name) == counts[id].get(name), id
    await store.aclose()


@pytest.mark.parametrize(("how", "budget"), [(kill, "open"), (freeze, "closed")])
def test_a_chain_of_all_three_does_what_each_of_them_declares(mortal, how, budget):
    """They share each round trip; what one of them does without the server is its own affair."""
    url = f"redis://127.0.0.1:{mortal.port}/0?connect_timeout_s=0.4&timeout_s=0.4"
    configs = {**CONFIGS, "budget": {**CONFIGS["budget"], "on_store_failure": budget}}
    factory, scripted = factory_of(url, **configs), Parrot()
    model = factory.apply_middleware(scripted)

    async def one(mode: str, prompt: str) -> Response:
        response = await asyncio.wait_for(ask(model, mode, prompt, max_tokens=1), LONGEST_S)
        assert response.text == f"you said {prompt}"
        return response

    async def all_of(prompt: str) -> list[Any]:
        calls = (one(MODES[at % 2], f"{prompt} {at}") for at in range(10))
        return await asyncio.gather(*calls, return_exceptions=True)

    def counts() -> dict[str, dict[str, int]]:
        return {id: stats.counts for id, stats in factory.registry.get_aggregated_stats().items()}

    async def main() -> None:
        async with factory:
            assert {type(one) for one in await all_of("before")} == {Response}
            held = [asyncio.create_task(one(mode, f"held {mode}")) for mode in MODES]
            while scripted.held < 2:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.005)
            back = await asyncio.to_thread(how, mortal)
            try:
                scripted.go.set()
                for response in await asyncio.gather(*held):
                    assert any(layer["failures_skipped"] for layer in response.receipt.layers.values())
                # the outermost wrote for all: two tokens of a limit, two answers, two calls that are paid
                assert sum(found.get("not_written", 0) + found.get("owed", 0) for found in counts().values()) == 6
                for prompt in ("during", "still"):
                    answers, asked = await all_of(prompt), len(scripted.calls)
                    if budget == "closed":
                        assert {type(one) for one in answers} == {StoreUnavailable}
                        assert asked == 12
                        continue
                    for response in answers:
                        skipped = {id: layer["failures_skipped"] for id, layer in response.receipt.layers.items()}
                        assert all(skipped[id] for id in ("rate_limit", "budget")), skipped
            finally:
                await asyncio.to_thread(back)
            found = counts()
            assert found["rate_limit"]["store_away"] == 20
            assert found["cache"]["store_away"] == 20
            assert found["budget"].get("store_away", 0) == (20 if budget == "open" else 0)
            await asyncio.sleep(REST_S)
            found, store = counts(), open_store(url)
            before = (await store.run(Peek(BUDGET_KEY)))[0]
            after = await all_of("after")
            assert {type(one) for one in after} == {Response}
            assert not any(layer["failures_skipped"] for one in after for layer in one.receipt.layers.values())
            again = await all_of("after")
            assert all(one.metadata["cache"]["hit"] for one in again)
            spending = (await store.run(Peek(BUDGET_KEY)))[0]
            was = (0, 0) if before is None else before[1:]
            late = 20 if budget == "open" else 0  # what calls spent meanwhile is owed, and written now
            assert spending[1:] == (was[0] + (10 + late) * MILLI, was[1])
            for id, names in counts().items():
                for name in ("store_away", "not_written"):
                    assert names.get(name) == found[id].get(name), id
            await store.aclose()

    asyncio.run(main())
