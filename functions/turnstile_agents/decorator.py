"""The `@tool` decorator: makes the Lambda handler of a tool from a function that takes and returns pydantic models.

    @tool(effect="write")
    def book_flight(request: BookFlight, call: ToolCall) -> Booking:
        \"\"\"Book seats on a flight.\"\"\"

The function raises one of three errors that the machine knows: `ToolRejected`, `ToolUnavailable`, `ToolOutcomeUnknown`.
Any other exception reaches the machine under its own name, and makes a call that writes UNCERTAIN.

Each call gives a log line and EMF metrics. Traces are the template's `Tracing: Active`, without the X-Ray SDK: its
import would more than double a cold start.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit
from pydantic import BaseModel, Field, RootModel, ValidationError

from turnstile_agents.border import RESULT_LIMIT, STORED_DEPTH, clean, clean_text, nests_deeper
from turnstile_agents.errors import ToolOutcomeUnknown, ToolRejected, ToolUnavailable
from turnstile_agents.events import AgentId
from turnstile_agents.log import bound_errors, logger
from turnstile_agents.record import Model
from turnstile_agents.schema import schema_for_model

_FAILURES = {ToolRejected: "Rejected", ToolUnavailable: "Unavailable", ToolOutcomeUnknown: "OutcomeUnknown"}

Guard = Callable[[str, str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""Runs an action at most once: `(tool, key, act) -> result`."""


class ToolCall(Model):
    """The call that is carried out. A tool gets it as its second parameter, if it has one."""

    agent_id: AgentId
    key: Annotated[str, Field(min_length=1, description="The call's key, the same at every attempt")]


class _Event(ToolCall):
    input: dict[str, Any]


@dataclass(frozen=True)
class ToolHandler:
    """A tool: what the definition says of it, and the Lambda handler that carries it out."""

    name: str
    description: str
    effect: Literal["read", "write"]
    input_model: type[BaseModel]
    output_model: type[BaseModel]
    run: Callable[[Any, ToolCall], BaseModel]
    guard: Guard

    @property
    def input_schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments, for the model."""
        return schema_for_model(self.input_model)

    @property
    def output_schema(self) -> dict[str, Any]:
        """The JSON schema of the output."""
        return self.output_model.model_json_schema(mode="serialization")

    @bound_errors
    def __call__(self, event: Any, _context: object) -> dict[str, Any]:
        """Carry out one call, `{agentId, key, input}`, and return the output as a JSON object."""
        if nests_deeper(event, STORED_DEPTH):
            raise ToolRejected(f"The arguments of {self.name} nest more than {STORED_DEPTH} deep")
        try:
            call = _Event.model_validate(clean(event))
        except ValidationError as error:
            raise ToolRejected(f"{self.name} was called wrongly; other arguments will not help. {error}") from error
        metrics = EphemeralMetrics(namespace="Turnstile", service=self.name)
        metrics.add_metric("Calls", MetricUnit.Count, 1)
        with logger.append_context_keys(agentId=call.agent_id, key=call.key, tool=self.name):
            try:
                # The guard comes first: a call that has acted keeps its result, even if a newer version of the tool
                # refuses its arguments.
                result = self.guard(self.name, call.key, lambda: self._result(self._request(call.input), call))
                logger.info("Done")
                return result
            except Exception as error:
                failure = _FAILURES.get(type(error), "Failed")
                metrics.add_metric(failure, MetricUnit.Count, 1)
                # Log a stack trace only for an error that is not in `_FAILURES`.
                logger.warning("%s: %s", failure, error, exc_info=failure == "Failed")
                raise
            finally:
                metrics.flush_metrics()

    def _request(self, arguments: dict[str, Any]) -> BaseModel:
        try:
            return self.input_model.model_validate(arguments)
        except ValidationError as error:
            wrong = "; ".join(_complaint(entry) for entry in error.errors())
            known = ", ".join(self.input_schema.get("properties", {}))
            raise ToolRejected(f"Wrong arguments for {self.name}: {wrong}. Its arguments: {known}") from error

    def _result(self, request: BaseModel, call: ToolCall) -> dict[str, Any]:
        output = self.run(request, call)
        try:
            value: dict[str, Any] = output.model_dump(mode="json", by_alias=True)
        except ValueError as error:
            # The tool has acted, so this must not become an error of the call.
            return {"truncated": True, "text": f"{self.name} was carried out. Its output is not JSON: {error}"}
        deep = nests_deeper(value)
        value = value if deep else clean(value)
        text = clean_text(json.dumps(value, ensure_ascii=False)).encode()
        if not deep and len(text) <= RESULT_LIMIT:
            return value
        # Half, because the quotes and backslashes of this text are escaped once more on the way.
        return {"truncated": True, "text": text[: RESULT_LIMIT // 2].decode(errors="ignore")}


def tool(effect: Literal["read", "write"]) -> Callable[[Callable[..., BaseModel]], ToolHandler]:
    """Make a tool of a function `(request) -> output` or `(request, call: ToolCall) -> output`.

    The function's name and docstring are the tool's. A tool that writes runs once per key (`turnstile_agents.once`).
    Raises TypeError if the annotations do not fit.
    """

    def decorate(function: Callable[..., BaseModel]) -> ToolHandler:
        name, hints = function.__name__, get_type_hints(function)
        parameters = [hints.get(parameter) for parameter in inspect.signature(function).parameters]
        description = inspect.getdoc(function)
        if not description:
            raise TypeError(f"{name} has no docstring; the model learns from it what the tool does")
        if len(parameters) not in (1, 2) or parameters[1:] not in ([], [ToolCall]):
            raise TypeError(f"{name} must take (request: <a model>) or (request: <a model>, call: ToolCall)")
        return ToolHandler(
            name=name,
            description=description,
            effect=effect,
            input_model=_object_model(parameters[0], f"the first parameter of {name}"),
            output_model=_object_model(hints.get("return"), f"the return value of {name}"),
            run=function if len(parameters) == 2 else lambda request, _call: function(request),
            guard=_guard(effect),
        )

    return decorate


def _guard(effect: Literal["read", "write"]) -> Guard:
    if effect == "read":
        return lambda _tool, _key, act: act()
    from turnstile_agents.once import once  # here, because it costs the import of boto3

    return once


def _object_model(annotation: Any, place: str) -> type[BaseModel]:
    # Bedrock takes neither a list nor a scalar as a tool's input or result.
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel) and not issubclass(annotation, RootModel):
        return annotation
    raise TypeError(f"{place} must be annotated with a pydantic model that is a JSON object, not {annotation!r}")


def _complaint(error: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    text = "unknown argument" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
    return f"{place}: {text}" if place else text
