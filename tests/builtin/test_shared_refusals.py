"""What makes no sense or is not there is said at once, with its place, from Python and from a file."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shared_workers import MODES, answer, ask, budget_of, factory_of

from neuro_mw import ConfigError, MiddlewareFactory
from neuro_mw.state import StoreUnavailable
from neuro_mw.testing import ScriptedModel

WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("rate_limit", {"limits": ["5/second", "60/fortnight"]}, "limits.1", "'fortnight' in '60/fortnight' is not known"),
    ("rate_limit", {"limits": ["many"]}, "limits.0", "'many' is no limit"),
    ("rate_limit", {"limits": ["-1/minute"]}, "limits.0", "is no limit"),
    ("rate_limit", {"limits": ["0/minute"]}, "limits.0", "not above 0"),
    ("rate_limit", {"limits": ["5 tokens/minute", "6 tokens/60s"]}, "limits.1", "limits the same"),
    ("rate_limit", {"limits": ["5 toekns/minute"]}, "limits.0", "Did you mean 'tokens'?"),
    ("rate_limit", {"limits": []}, "limits", "at least 1"),
    ("rate_limit", {"limits": [60]}, "limits.0", "valid string"),
    ("rate_limit", {"limits": ["5/s"], "on_store_failure": "opne"}, "on_store_failure", "'open', 'closed' or 'local'"),
    ("rate_limit", {"limits": ["5/s"], "store": "reddis://u:hunter2@h"}, "store", "Did you mean 'redis'?"),
    ("budget", {"limit_usd": -1}, "limit_usd", "from 0 on"),
    ("budget", {"limit_usd": "-0.01"}, "limit_usd", "from 0 on"),
    ("budget", {"limit_usd": "lots"}, "limit_usd", "not an amount of dollars"),
    ("budget", {"limit_usd": 1, "window": -5}, "window", "seconds from 1 to 366 days"),
    ("budget", {"limit_usd": 1, "on_store_failure": "fail"}, "on_store_failure", "'open', 'closed' or 'local'"),
    ("budget", {"limit_usd": 1, "store": "mysql://u:hunter2@h"}, "store", "the scheme is not known"),
    ("budget", {"limit_usd": 1, "store": "sqlite://"}, "store", "there is no file"),
    ("cache", {"ttl_s": -1}, "ttl_s", "greater than 0"),
    ("cache", {"on_store_failure": "fail"}, "on_store_failure", "'open', 'closed' or 'local'"),
    ("cache", {"store": "redis://u:hunter2@host:port"}, "store", "the port cannot be read"),
    ("cache", {"store": "redis://host?timeout=1"}, "store", "Did you mean 'timeout_s'?"),
    ("cache", {"store": "valkey://host"}, "store", "the scheme is not known"),
    ("cache", {"store": 5}, "store", "valid string"),
]


@pytest.mark.parametrize(("id", "options", "key", "words"), WRONG)
def test_what_makes_no_sense_is_said_with_its_place(tmp_path, id, options, key, words):
    file = tmp_path / "neuro_mw.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    file.write_text("\n".join([f"[middleware.{id}.config]", *lines]), "utf-8")
    for make, where in (
        (lambda: factory_of("memory", **{id: options}), ""),
        (lambda: MiddlewareFactory.from_file(file), "neuro_mw.toml: "),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        assert caught.value.key == f"middleware.{id}.config.{key}"
        assert f"{where}middleware.{id}.config.{key}: " in str(caught.value)
        assert words in str(caught.value)
        assert "hunter2" not in str(caught.value)


CONFIGS: dict[str, dict[str, Any]] = {"cache": {}, "rate_limit": {"limits": ["5/day"]}, "budget": budget_of(100)}
DEFAULTS = {"cache": "open", "rate_limit": "local", "budget": "closed"}
MEANWHILE = {"open": "calls pass without it", "local": "this process goes on alone"}


@pytest.fixture(params=["nobody listens", "nobody answers", "no folder"])
def nowhere(request, tmp_path) -> Iterator[str]:
    """The URL of a store that is not there."""
    if request.param == "no folder":
        yield f"sqlite:///{tmp_path}/missing/state.db"
        return
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if request.param == "nobody answers":
            taken.listen()
        port = taken.getsockname()[1]
        yield f"redis://app:hunter2@127.0.0.1:{port}/0?connect_timeout_s=0.1&timeout_s=0.1"


def from_python(url: str, id: str, options: dict[str, Any], folder: Path) -> MiddlewareFactory:
    return factory_of(url, **{id: options})


def from_file(url: str, id: str, options: dict[str, Any], folder: Path) -> MiddlewareFactory:
    file, prices = folder / "neuro_mw.toml", options.get("prices", {})
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items() if name != "prices" and value]
    more = [f"prices.{model} = {{input = {one['input']}, output = {one['output']}}}" for model, one in prices.items()]
    head = ["preset = []", f"state = {json.dumps(url)}", f"[middleware.{id}.config]"]
    file.write_text("\n".join([*head, *lines, *more]), "utf-8")
    return MiddlewareFactory.from_file(file)


@pytest.mark.parametrize("make", [from_python, from_file])
@pytest.mark.parametrize("policy", [None, "open", "closed", "local"])
@pytest.mark.parametrize("id", CONFIGS)
def test_a_store_that_is_not_there_at_the_start(nowhere, id, policy, make, tmp_path, caplog):
    """An error, or a word in the log and degraded, as declared; at once, and without a password."""
    options = {**CONFIGS[id], **({} if policy is None else {"on_store_failure": policy})}
    factory, scripted = make(nowhere, id, options, tmp_path), ScriptedModel(answer())
    model, declared = factory.apply_middleware(scripted), policy or DEFAULTS[id]

    async def main() -> None:
        if declared == "closed":
            for begin in (factory.__aenter__, *(lambda mode=mode: ask(model, mode, max_tokens=1) for mode in MODES)):
                with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1|missing") as caught:
                    await asyncio.wait_for(begin(), 10)
                assert "hunter2" not in str(caught.value)
            assert scripted.calls == []
            return
        async with factory:
            [said] = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
            assert f"middleware '{id}'" in said
            assert MEANWHILE[declared] in said
            for mode in MODES:
                response = await asyncio.wait_for(ask(model, mode, max_tokens=1), 10)
                assert response.text == "hello"
                hit = response.metadata.get("cache", {}).get("hit", False)
                assert hit == (mode == "stream" and id == "cache" and declared == "local")
                assert response.receipt.layers[id]["failures_skipped"] >= 1
        assert factory.registry.get_aggregated_stats()[id].counts["store_away"] == 2

    asyncio.run(main())
    assert "hunter2" not in caplog.text


def test_a_wrong_state_is_said_with_its_place(tmp_path):
    file = tmp_path / "neuro_mw.toml"
    file.write_text('state = "postgres://u:hunter2@host"\n[middleware.cache]\n', "utf-8")
    for make in (lambda: factory_of("postgres://u:hunter2@host", cache={}), lambda: MiddlewareFactory.from_file(file)):
        with pytest.raises(ConfigError, match=r"state: the scheme is not known\. Expected memory") as caught:
            make()
        assert caught.value.key == "state"
        assert "hunter2" not in str(caught.value)
