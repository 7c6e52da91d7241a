"""What happens when a layer is entered: its own copy of the params, its transform, its step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import BadRequest, Blocked
from ..stats import CHANGED_REQUEST
from .answers import differ
from .passage import Passage
from .steps import Step

if TYPE_CHECKING:
    from ..types import Params


def own_copy(params: Params) -> Params:
    """Params that a hook may change: the dict, the list of messages and each message are its own."""
    copy = {**params}
    messages = copy.get("messages")
    if type(messages) is list or isinstance(messages, list | tuple):
        copy["messages"] = [{**message} if isinstance(message, dict) else message for message in messages]
    return copy


_DECIDED_ABOVE = ("messages", "model", "n", "stream", "system")


def refuse_unseen(params: Params, provider: str, model: str) -> None:
    """Raise BadRequest for what would pass the chain unseen.

    That is ``n`` or ``best_of`` above 1, of which a guard would see only one and all are paid for, and an
    ``extra_body`` with what the chain goes by: it is laid over the request behind all layers.
    """
    if params.get("n") not in (None, 1) or params.get("best_of") not in (None, 1):
        name = "n" if params.get("n") not in (None, 1) else "best_of"
        raise BadRequest(
            f"{name}={params[name]!r} is not supported for {provider}/{model}: every choice must pass the chain; "
            "make one call for each choice instead",
            provider=provider, model=model,
        )  # fmt: skip
    body = params.get("extra_body")
    if isinstance(body, Mapping):
        for name in _DECIDED_ABOVE:
            if name in body:
                raise BadRequest(
                    f"extra_body holds {name!r}, which no layer would see ({provider}/{model}): make it a param",
                    provider=provider, model=model,
                )  # fmt: skip


async def transform(passage: Passage) -> None:
    """Run `transform_params`; the passage's params are the result."""
    params, hook = passage.params, passage.layer.hooks.transform_params
    assert hook is not None
    passage.begin()
    try:
        made = hook(own_copy(params), passage.ctx)
        if hasattr(made, "__await__"):
            made = await passage.within(made, "transform_params")
        passage.judge("transform_params")
        check_params(passage, made)
    except Blocked:
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, on_error decides
        passage.skip_or_raise(error, "transform_params")
    else:
        if differ(made, params):
            passage.changed, passage.came = passage.changed | CHANGED_REQUEST, params
        passage.params = made
    finally:
        if passage.link.several:
            passage.lap("transform_params")


def check_params(passage: Passage, made: object) -> None:
    """Raise MiddlewareError where `transform_params` gave no params."""
    if not isinstance(made, dict):
        raise passage.wrong_type("transform_params", made, "the params, a dict")


def open_step(passage: Passage) -> Step | None:
    """Ask `transform_parts` for this passage's step."""
    hook = passage.layer.hooks.transform_parts
    assert hook is not None
    passage.begin()
    try:
        made = hook(passage.params, passage.ctx)
        passage.judge("transform_parts")
        return step_of(passage, made)
    except Blocked:
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, on_error decides
        passage.skip_or_raise(error, "transform_parts")
        return None
    finally:
        if passage.link.several:
            passage.lap("transform_parts")


def step_of(passage: Passage, made: Any) -> Step | None:
    """The step that `transform_parts` gave; None for none."""
    if made is None:
        return None
    if not callable(made) and not callable(getattr(made, "feed", None)):
        if hasattr(made, "close"):
            made.close()  # a coroutine: it will never be awaited
        raise passage.wrong_type("transform_parts", made, "a PartStep, a callable or None")
    return Step(passage, made)
