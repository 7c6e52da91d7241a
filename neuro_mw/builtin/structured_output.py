"""structured_output: the JSON of an answer, held against a schema, and asked for again where it does not fit."""

from __future__ import annotations

import re
import warnings
from copy import deepcopy
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from neuro_mw import (
    ConfigError,
    Middleware,
    MiddlewareContext,
    Params,
    Response,
    StructuredOutputError,
    Usage,
)

from ._catalog import CATALOG
from .structured.judging import asked_again, is_on_the_way, value_of
from .structured.problems import Problem, UnfitError
from .structured.schemas import schema_of
from .structured.step import JudgingStep

_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")


class StructuredOutput(Middleware):
    """Finds the JSON in an answer, between prose and fences, and validates it against a schema.

    An answer that fits has ``metadata["structured_output"]``: its ``value``, as plain data, and the number of
    ``reasks``. One that does not raises StructuredOutputError, with what is wrong at which path. What is done before
    that is the ``mode``:

    - "validate": nothing. Streams flow, and are judged at their end.
    - "repair": what is not quite JSON is mended where it is clear what was meant, as with trailing commas, comments,
      single quotes or brackets that were not closed. Streams are held to their end.
    - "reask": the model is told what is wrong and asked again, ``max_reasks`` times; the usage of all its answers is
      added up. Streams are held to their end.

    An answer that was cut by the limit of tokens does not fit, whatever it looks like; one that the provider's content
    policy ended is not asked for again. Answers that call tools of the request are on the way to one: they pass without
    a value, and so do those that were refused. It counts "invalid" answers, "reasks", and those that were "repaired".

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> layer = StructuredOutput(schema={"type": "object", "required": ["city"]})
    >>> model = MiddlewareFactory(preset=None, middleware=[layer]).apply_middleware("echo/echo")
    >>> response = asyncio.run(model.generate('Here it is: {"city": "Bern"} What else?'))
    >>> response.text, response.metadata["structured_output"]
    ('{"city": "Bern"}', {'value': {'city': 'Bern'}, 'reasks': 0})
    """

    metadata = CATALOG["structured_output"]

    with warnings.catch_warnings():  # `schema` was the name of a method of BaseModel, in pydantic 1
        warnings.filterwarnings("ignore", 'Field name "schema"')

        class Config(BaseModel):
            """Options of structured_output."""

            schema: Any
            """A pydantic model or another type, "package.module:Name" or "package.module.Name", or a JSON schema."""
            mode: Literal["validate", "repair", "reask"] = "validate"
            max_reasks: int = Field(default=1, ge=0, le=100, strict=True)
            """How often it asks again, where the mode is "reask"."""
            strip_fences: bool = Field(default=True, strict=True)
            """Whether the text that leaves is the JSON alone, else as the model wrote it, with prose and fences."""
            request: bool = Field(default=False, strict=True)
            """Whether the provider is asked for the schema, with ``response_format``, where the caller has not set one.

            Off, as there are providers that refuse it, and others that take part of the JSON schemas only.
            """

            @model_validator(mode="after")
            def _nothing_in_vain(self) -> Any:
                if "max_reasks" in self.model_fields_set and self.mode != "reask":
                    raise ConfigError('nothing is asked again without mode="reask"', key="max_reasks")
                return self

    config: Config

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        id, config = self.metadata.id, self.config
        try:
            self._schema = schema_of(config.schema)
            self._format = self._response_format() if config.request else None
        except ConfigError as error:
            error.key = f"middleware.{id}.config.{error.key}"
            raise
        self._flows = config.mode == "validate"  # the step judges: streams need not be held
        # what is not needed costs nothing; hooks that are a subclass's own stay
        if not config.request and type(self).transform_params is StructuredOutput.transform_params:
            self.transform_params = super().transform_params  # type: ignore[method-assign,assignment]
        if self._flows and type(self).wrap_generate is StructuredOutput.wrap_generate:
            self.wrap_generate = super().wrap_generate  # type: ignore[method-assign]
        if not self._flows and type(self).transform_parts is StructuredOutput.transform_parts:
            self.transform_parts = super().transform_parts  # type: ignore[method-assign,assignment]

    def transform_params(self, params: Params, context: MiddlewareContext) -> Params:
        """The request, with the schema where the caller has set no ``response_format``."""
        if self._format is not None and params.get("response_format") is None:
            params["response_format"] = deepcopy(self._format)  # there are drivers that adapt it in place
        return params

    def transform_parts(self, params: Params, context: MiddlewareContext) -> JudgingStep | None:
        """The step that judges, in both modes."""
        if not self._flows:
            return None

        def settle(found: Any) -> dict[str, Any]:
            if isinstance(found, UnfitError):
                raise self._failure(found.problems, 0, context)
            return {self.metadata.id: {"value": found, "reasks": 0}}

        return JudgingStep(self._schema, settle, params, strip=self.config.strip_fences)

    async def wrap_generate(self, do_generate: Any, params: Params, context: MiddlewareContext) -> Response:
        """Ask until there is an answer that fits, or it has been asked for often enough."""
        if self._flows:
            return await do_generate(params)  # type: ignore[no-any-return]  # as the contract says
        reasks, usage = 0, Usage()
        while True:
            response: Response = await do_generate(params)
            usage = response.usage = usage + response.usage
            if response.blocked is not None or is_on_the_way((call.name for call in response.tool_calls), params):
                return response
            found = self._judged(response)
            if not isinstance(found, UnfitError):
                value, text = found
                if self.config.strip_fences:
                    response.text = text
                response.metadata = {**response.metadata, self.metadata.id: {"value": value, "reasks": reasks}}
                return response
            final = self.config.mode == "repair" or response.finish_reason == "content_filter"
            if final or reasks == self.config.max_reasks:
                raise self._failure(found.problems, reasks, context)
            params = asked_again(self._schema, params, response, found.problems)
            reasks += 1
            self.count("reasks")

    def _judged(self, response: Response) -> tuple[Any, str] | UnfitError:
        """The value of an answer and its JSON, or what is wrong with it."""
        try:
            value, text, was_mended = value_of(self._schema, response, mend=self.config.mode == "repair")
        except UnfitError as error:
            return error
        if was_mended:
            self.count("repaired")
        return value, text

    def _failure(self, problems: list[Problem], reasks: int, context: MiddlewareContext) -> StructuredOutputError:
        """What is raised at last."""
        self.count("invalid")
        found = [{"path": one.path, "message": one.message} for one in problems]
        said = "; ".join(f"{one.path}: {one.message}" if one.path else one.message for one in problems)
        asked = f" after {reasks + 1} attempts" if reasks else ""
        return StructuredOutputError(
            f"{context.provider}/{context.model}: the answer does not fit the schema{asked}: {said}",
            errors=found, reasks=reasks, middleware=self.metadata.id,
        )  # fmt: skip

    def _response_format(self) -> dict[str, Any]:
        """What a provider is asked for."""
        schema = self._schema.json
        if schema is None:
            raise ConfigError("it has no JSON schema that could be sent", key="request", expected="False")
        name = _NO_NAME.sub("_", str(schema.get("title") or "answer"))[:64]
        return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}
