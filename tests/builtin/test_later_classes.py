"""A class made of a built-in has hooks of its own: they run, also where the built-in itself has nothing to do."""

import pytest

from neuro_mw.builtin.default_settings import DefaultSettings
from neuro_mw.builtin.guardrails import Guardrails
from neuro_mw.testing import ScriptedModel
from tests.chain.conftest import MODES, call, run, wrap


def watching(base, seen):
    class Watching(base):
        def transform_params(self, params, context):
            seen.append("params")
            return super().transform_params(params, context)

        def transform_parts(self, params, context):
            seen.append("parts")
            return super().transform_parts(params, context)

    return Watching


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("base", [DefaultSettings, Guardrails])
def test_hooks_of_a_later_class_run(mode, base):
    seen = []
    response = run(call(wrap(ScriptedModel("hello"), watching(base, seen)()), mode))
    assert response.text == "hello"
    assert seen == ["params", "parts"]


@pytest.mark.parametrize("base", [DefaultSettings, Guardrails])
def test_one_without_hooks_of_its_own_costs_nothing_where_the_built_in_does(base):
    made = type("Named", (base,), {})()
    plan = wrap(ScriptedModel(), made).explain()[base.metadata.id]
    assert {hook for hooks in plan.hooks.values() for hook in hooks} <= {"on_end"}
