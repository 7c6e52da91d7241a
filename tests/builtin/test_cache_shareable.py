"""A middleware whose answers are for one call alone: caches outside of it, or of its model, keep and share nothing."""

import asyncio

import pytest

from neuro_mw import Middleware, MiddlewareMetadata
from neuro_mw.builtin.cache import Cache
from neuro_mw.testing import ScriptedModel
from tests.chain.conftest import MODES, call, run, wrap


class Personal(Middleware):
    metadata = MiddlewareMetadata(id="personal", kind="guard", priority=20)

    def __init__(self, shareable):
        super().__init__()
        self.shareable = shareable

    def transform_params(self, params, context):
        return params


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shareable", [True, False])
def test_what_is_for_one_call_is_not_kept_for_another(mode, nested, shareable):
    scripted, personal = ScriptedModel("hello"), Personal(shareable)
    model = wrap(wrap(scripted, personal), Cache()) if nested else wrap(scripted, Cache(), personal)
    for _ in range(3):
        assert run(call(model, mode)).text == "hello"
    assert len(scripted.calls) == (1 if shareable else 3)


@pytest.mark.parametrize("mode", MODES)
def test_nor_is_it_shared_with_who_asks_at_the_same_time(mode):
    scripted = ScriptedModel("hello", delay_s=0.01)
    model = wrap(scripted, Cache(), Personal(False))

    async def main():
        await asyncio.gather(*(call(model, mode) for _ in range(3)))

    run(main())
    assert len(scripted.calls) == 3
