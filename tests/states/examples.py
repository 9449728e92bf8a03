"""Example data for the machines, made from contracts: the models of the functions, the API's own model, the attributes
of the table's items, the models of the events.

Every optional field is present, since a test needs a value at every path; tests/asl/test_paths.py checks missing paths.
"""

import json
from datetime import date, datetime
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tests.asl import template
from tests.asl.dynamodb import STATE, Request, writes
from tests.asl.services import called
from tests.asl.support import MACHINES
from tests.asl.test_paths import ATTRIBUTES, ENVELOPE, GIVES, SOMETIMES
from tools.flights import Booking, CallOutcome
from turnstile_agents.events import EVENTS, ChildRequested
from turnstile_cli.machines.definition import Machine, State

TEXT = "1"
"""A text that is also JSON and a number: a machine may read it as each of them."""
LIST = json.dumps([TEXT])
"""A text that is a JSON list with one item."""
LISTS = {
    (write.record, name)
    for machine in MACHINES.values()
    for write in writes(machine)
    for name, value in write.written.items()
    if write.kind == "Put" and value == {"S": "[]"}
}
"""The attributes that hold a list as JSON: their value is an empty list in a new item."""
DEPTH = 2
"""The depth of nested data in the examples."""
STATUS_CHANGE = {
    "executionArn": "arn:aws:states:us-east-1:123456789012:execution:turnstile-AgentTurn:one",
    "stateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:turnstile-AgentTurn",
    "status": "FAILED",
    "input": json.dumps({"id": TEXT, "attempt": 1, "detail": {"agentId": TEXT, "step": 1}}),
    "error": "States.Runtime",
    "cause": TEXT,
}
"""The detail of the event from `aws.states` about an ended execution."""
CONTEXT = {
    "Execution": {
        "Id": "arn:aws:states:us-east-1:123456789012:execution:turnstile:one",
        "Input": {},
        "Name": "one",
        "RoleArn": "arn:aws:iam::123456789012:role/turnstile",
        "StartTime": "2026-01-01T00:00:00Z",
    },
    "State": {"EnteredTime": "2026-01-01T00:00:00Z", "Name": "state", "RetryCount": 0},
    "StateMachine": {
        "Id": "arn:aws:states:us-east-1:123456789012:stateMachine:turnstile",
        "Name": "turnstile",
    },
    "Task": {"Token": "token"},
}
"""The context fields that a state may read of its execution."""


def execution_input(machine: Machine) -> Any:
    """Return an input that starts the machine: all events of its rules in one, a schedule's, or the outbox's."""
    patterns = template.event_patterns(machine.name)
    if not patterns and not template.is_scheduled(machine.name):
        image = _stored(STATE, ATTRIBUTES[STATE] | {"announce": "S"})
        return [{"eventID": TEXT, "dynamodb": {"Keys": {"agentId": {"S": TEXT}}, "NewImage": image}}]
    detail: dict[str, Any] = {}
    for pattern in patterns:
        detail |= STATUS_CHANGE if pattern["source"] == ["aws.states"] else {}
        for name in pattern["detail-type"]:
            detail |= of_model(EVENTS[name]) if name in EVENTS else {}
            detail |= of_model(ChildRequested) if name == "AgentRequested" else {}
    return dict.fromkeys(ENVELOPE, TEXT) | {"detail": detail}


def result(task: State) -> Any:
    """Return the result of a Task, as the service integration gives it."""
    parameters = task.fields.get("Parameters", {})
    operation = called(task).operation
    if task.waits_for_token:
        return {}
    match operation.name:
        case "Invoke":
            return {"ExecutedVersion": "$LATEST", "Payload": _payload(parameters), "StatusCode": 200}
        case "GetItem":
            return {"Item": _item(Request(task, "Get", parameters))}
        case "UpdateItem" if parameters.get("ReturnValues") == "ALL_NEW":
            return {"Attributes": _item(Request(task, "Update", parameters))}
    return {} if operation.output_shape is None else of_shape(operation.output_shape)


def _payload(parameters: dict[str, Any]) -> Any:
    """Return a function's answer, by its model. A tool answers as a tool of the sample agent."""
    model = GIVES.get(parameters.get("FunctionName", ""))
    if model:
        return of_model(model)
    asked = parameters["Payload"].get("input")
    # When the machine itself makes an input for a tool, the tool is a look-up.
    return of_model(CallOutcome if isinstance(asked, dict) else Booking)


def _item(request: Request) -> dict[str, Any]:
    attributes = ATTRIBUTES[request.record]
    asked = {request.attribute(token) for token in request.tokens} if "ProjectionExpression" in request.fields else None
    item = _stored(request.record, {name: kind for name, kind in attributes.items() if asked is None or name in asked})
    models = SOMETIMES.get(request.record, {}).items()
    texts = {name: json.dumps(of_model(model)) for name, model in models if asked is None or name in asked}
    return item | {name: {"S": text} for name, text in texts.items()}


def _stored(record: str, attributes: dict[str, str]) -> dict[str, Any]:
    return {name: {kind: LIST if (record, name) in LISTS else TEXT} for name, kind in attributes.items()}


def of_shape(shape: Shape) -> Any:
    """Return an API's answer in Step Functions' casing, with only the members that are never missing."""
    if isinstance(shape, StructureShape):
        names = shape.required_members or (list(shape.members)[:1] if shape.is_tagged_union else [])
        return {name[0].upper() + name[1:]: of_shape(shape.members[name]) for name in names}
    if isinstance(shape, ListShape):
        return []
    if isinstance(shape, MapShape):
        return {}
    if isinstance(shape, StringShape):
        return shape.enum[0] if shape.enum else TEXT
    if shape.type_name == "timestamp":
        return "2026-01-01T00:00:00Z"
    return 1 if shape.type_name in ("integer", "long", "float", "double") else True


def of_model(model: type[BaseModel]) -> Any:
    """Return a handler's dump, with a value in every field. Raises pydantic's ValidationError if a value is invalid."""
    return model.model_validate(_fields(model, ())).model_dump(mode="json", by_alias=True)


def _fields(model: type[BaseModel], around: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    return {
        info.alias or name: value
        for name, info in model.model_fields.items()
        if (value := _value(info.annotation, info, (*around, model))) is not None
    }


def _value(annotation: Any, info: FieldInfo | None, around: tuple[type[BaseModel], ...]) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if info and info.examples:
        return info.examples[0]
    if origin is Annotated:
        return _value(arguments[0], info, around)
    if origin is Literal:
        return arguments[0]
    if origin in (Union, UnionType):
        return _value(next(each for each in arguments if each is not NoneType), info, around)
    if origin is list:
        item = _value(arguments[0], None, around)
        return [] if item is None else [item]
    if origin is dict or annotation is dict:
        return {"name": TEXT}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return None if around.count(annotation) >= DEPTH else _fields(annotation, around)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return next(iter(annotation)).value
    if annotation in (date, datetime):
        return "2026-01-01" if annotation is date else "2026-01-01T00:00:00Z"
    if annotation is bool:
        return True
    if annotation in (int, float):
        return _number(info)
    return TEXT


def _number(info: FieldInfo | None) -> int:
    bounds = info.metadata if info else []
    least = max(
        [
            1,
            *(each.ge for each in bounds if hasattr(each, "ge")),
            *(each.gt + 1 for each in bounds if hasattr(each, "gt")),
        ]
    )
    return int(min([least, *(each.le for each in bounds if hasattr(each, "le"))]))
