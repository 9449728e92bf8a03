"""Requests of the tasks: arguments of the API, in Step Functions' casing, and payloads that the functions accept."""

from collections.abc import Iterator
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from tests.asl.services import called
from tests.asl.support import Broken, Rule, assert_holds, catches, holds, picked, problem
from tools.flights import CallLookUp
from turnstile_agents.decorator import ToolCall
from turnstile_agents.load_recovery.shapes import LoadRecoveryInput
from turnstile_agents.turn import Claim, ReadReplyInput
from turnstile_cli.machines.definition import Machine

TAKES: dict[str, type[BaseModel]] = {
    "${LoadTurnArn}": Claim,
    "${ReadReplyArn}": ReadReplyInput,
    "${LoadRecoveryArn}": LoadRecoveryInput,
    "${LoadWatchArn}": BaseModel,
}
"""The input model of each function. Any other function is a tool, named by the call."""
JSON_TEXTS = {"Detail", "Message", "Payload"}
"""The arguments in which the API takes JSON as text. Step Functions makes that text from an object."""


def arguments_exist(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        # Without Parameters, a task's input is the whole request: the tests of the state that makes it check it.
        shape = called(task).operation.input_shape
        if "Parameters" in task.fields and shape:
            for text in _complaints(task.fields["Parameters"], shape):
                yield problem(machine, task, text)


def payloads_fit_their_functions(machine: Machine) -> Iterator[str]:
    for task in machine.tasks():
        if called(task).operation.name != "Invoke":
            continue
        payload = task.fields["Parameters"]["Payload"]
        sent = _names(payload)
        function = task.fields["Parameters"].get("FunctionName")
        # When the machine itself makes an input for a tool, the tool is a look-up.
        if "input" in payload and _names(payload["input"]) != set(CallLookUp.model_fields):
            yield problem(machine, task, f"ask a look-up with {', '.join(CallLookUp.model_fields)}")
        if function is not None and function not in TAKES:
            yield problem(machine, task, f"add the input model of {function} to TAKES in tests/asl")
        elif wrong := (sent - _fields(function)) | (_fields(function, required=True) - sent):
            yield problem(machine, task, f"unknown or missing in the Payload: {', '.join(sorted(wrong))}")


def _fields(function: str | None, required: bool = False) -> set[str]:
    if function is None:
        return {to_camel(name) for name in ToolCall.model_fields} | {"input"}
    fields = TAKES[function].model_fields.items()
    return {field.alias or name for name, field in fields if field.is_required() or not required}


def _complaints(value: Any, shape: Shape, path: str = "Parameters") -> Iterator[str]:
    if isinstance(value, dict) and isinstance(shape, StructureShape):
        members = {name[0].upper() + name[1:]: member for name, member in shape.members.items()}
        for name in shape.required_members:
            if name[0].upper() + name[1:] not in _names(value):
                yield f"{path} lacks {name}"
        for key, item in value.items():
            name = key.removesuffix(".$")
            if name not in members:
                yield f"{path} has no {name}; it has {', '.join(members)}"
            elif name == key and name not in JSON_TEXTS:
                yield from _complaints(item, members[name], f"{path}.{name}")
    elif isinstance(value, dict) and isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _complaints(item, shape.value, f"{path}.{key}")
    elif isinstance(value, list) and isinstance(shape, ListShape):
        for index, item in enumerate(value):
            yield from _complaints(item, shape.member, f"{path}[{index}]")
    elif isinstance(value, dict | list) or isinstance(shape, StructureShape | MapShape | ListShape):
        yield f"{path} is no {shape.type_name}"
    elif isinstance(shape, StringShape) and shape.enum and value not in shape.enum:
        yield f"{path} is {value}; it can be {', '.join(shape.enum)}"


def _names(value: dict[str, Any]) -> set[str]:
    return {key.removesuffix(".$") for key in value}


@holds(arguments_exist, payloads_fit_their_functions)
def test_rule(rule: Rule, machine: Machine) -> None:
    assert_holds(rule, machine)


def _rename(old: str, new: str, *way: str) -> Any:
    def change(state: dict[str, Any]) -> None:
        place = picked(state, "Parameters", *way)
        place[new] = place.pop(old)

    return change


@catches(
    Broken(arguments_exist, "agent_turn", "ClaimTurn", _rename("UpdateExpression", "UpdateExpresion")),
    Broken(arguments_exist, "agent_turn", "ClaimTurn", _rename("TableName", "tableName")),
    Broken(
        arguments_exist, "agent_turn", "ClaimTurn", _rename("N.$", "Number.$", "ExpressionAttributeValues", ":step")
    ),
    Broken(arguments_exist, "agent_turn", "ClaimTurn", lambda s: s["Parameters"].pop("Key")),
    Broken(arguments_exist, "agent_turn", "ClaimTurn", lambda s: s["Parameters"].update(ReturnValues="NEW")),
    Broken(arguments_exist, "agent_turn", "ClaimTurn", lambda s: s["Parameters"].update(Key="STATE")),
    Broken(
        arguments_exist, "agent_turn", "CloseTurn", _rename("Update", "UpdateItem", "TransactItems", "record=STATE")
    ),
    Broken(
        arguments_exist,
        "agent_turn",
        "CloseTurn",
        _rename("TableName", "Table", "TransactItems", "record=STATE", "Update"),
    ),
    Broken(arguments_exist, "agent_turn", "LoadTurn", _rename("FunctionName", "FunctionArn")),
    Broken(
        arguments_exist,
        "agent_publish",
        "PublishRecords/PublishError",
        _rename("DetailType", "Type", "Entries", "DetailType=AgentError"),
    ),
    Broken(payloads_fit_their_functions, "agent_turn", "LoadTurn", _rename("claimedStep.$", "step.$", "Payload")),
    Broken(
        payloads_fit_their_functions, "agent_turn", "ReadReply", lambda s: s["Parameters"]["Payload"].pop("tools.$")
    ),
    Broken(
        payloads_fit_their_functions, "agent_turn", "LoadTurn", lambda s: s["Parameters"].update(FunctionName="load")
    ),
    Broken(
        payloads_fit_their_functions,
        "agent_recovery",
        "LoadRecovery",
        lambda s: s["Parameters"]["Payload"].pop("tried.$"),
    ),
    Broken(
        payloads_fit_their_functions,
        "agent_recovery",
        "SettleEffects/LookUp",
        _rename("tool.$", "name.$", "Payload", "input"),
    ),
    Broken(arguments_exist, "agent_recovery", "NotifyOperator", _rename("Subject.$", "Title.$")),
    Broken(arguments_exist, "agent_notify", "NotifyApprover", _rename("MessageAttributes", "Attributes")),
    Broken(arguments_exist, "agent_input", "AnswerQuestion", _rename("Output.$", "Result.$")),
    Broken(
        arguments_exist,
        "agent_recovery",
        "NotifyOperator",
        _rename("StringValue.$", "Value.$", "MessageAttributes", "agentId"),
    ),
    Broken(arguments_exist, "agent_recovery", "AskOwner", _rename("ExecutionArn.$", "executionArn.$")),
    Broken(
        arguments_exist,
        "agent_recovery",
        "AskOperator",
        _rename("Item", "Items", "TransactItems", "record=OPERATOR", "Put"),
    ),
    Broken(
        payloads_fit_their_functions, "agent_turn", "CallTools/CallWriteTool", _rename("key.$", "token.$", "Payload")
    ),
)
def test_change_is_caught(broken: Broken) -> None:
    broken.assert_caught()
