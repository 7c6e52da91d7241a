"""Both modes of a call, looked at from outside."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from neuro_mw import Finish, MiddlewareFactory, Response, TextDelta

MODES = ("generate", "stream")


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


async def call(wrapped: Any, mode: str, prompt: Any = "hi", /, **params: Any) -> Response:
    """One call in one mode; a stream is read to its end and its parts are checked against the grammar."""
    if mode == "generate":
        return await wrapped.generate(prompt, **params)
    stream = wrapped.stream(prompt, **params)
    parts = []
    async with stream:
        async for part in stream:
            parts.append(part)
        response = await stream.response()
    assert [type(part) is Finish for part in parts].count(True) == 1
    assert type(parts[-1]) is Finish
    assert "".join(part.text for part in parts if isinstance(part, TextDelta)) == response.text
    return response


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def wrap(model: Any, *middlewares: Any, **options: Any) -> Any:
    factory = MiddlewareFactory(preset=None, plugins=False, middleware=list(middlewares), **options)
    return factory.apply_middleware(model)


@pytest.fixture
def ask(mode: str) -> Callable[..., Response]:
    """ask(model, *middlewares, config=..., **params): one call in the mode of this test."""

    def ask(inner: Any, *middlewares: Any, config: Any = None, prompt: Any = "hi", **params: Any) -> Response:
        return run(call(wrap(inner, *middlewares, middleware_config=config), mode, prompt, **params))

    return ask
