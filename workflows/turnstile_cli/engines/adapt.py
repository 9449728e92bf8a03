"""Adapt a machine so that Step Functions Local, or moto's interpreter in its place, can run it.

A Task that such an engine does not support is redirected to a function that does the same: its `Resource` becomes that
function's ARN, while its Parameters and its result stay the same. Only this list is adapted:

1. `aws-sdk:*`: the official image supports almost none of these calls, and moto passes them on in the wrong casing.
2. `events:putEvents`: the official image can call it only on AWS.
3. A call of 1 or 2 that waits for a task token becomes `lambda:invoke.waitForTaskToken`, with its Parameters as
   Payload: a Task whose Resource is a function's ARN does not wait for a token.
4. `ItemProcessor` gets its older name, `Iterator`, without its `ProcessorConfig`: with these, the official image
   registers a machine, but refuses to start it. For `ProcessorConfig` see
   https://github.com/aws/aws-sam-cli/issues/6846; other users have found by trial that the rest of a Map may stay,
   ItemSelector included.
"""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass

from turnstile_cli.machines.definition import Machine

PREFIX = "arn:aws:states:::"
INVOKE_AND_WAIT = f"{PREFIX}lambda:invoke.waitForTaskToken"
_CALLBACK = ".waitForTaskToken"
_LACKING = re.compile(re.escape(PREFIX) + r"(aws-sdk:[a-z0-9]+|events):[A-Za-z0-9]+")


@dataclass(frozen=True)
class Redirected:
    """A Task that calls a function instead of a service."""

    state: str
    """Its path, such as `CallTools/ReserveEffect`."""
    resource: str
    """The Resource in its definition."""
    function: str
    """The ARN of the function that it calls instead."""


@dataclass(frozen=True)
class Adapted:
    """A machine that an engine can run, and its differences from the definition."""

    machine: Machine
    redirected: list[Redirected]
    iterators: list[str]
    """The paths of the Maps whose ItemProcessor was renamed to Iterator."""


def function_name(resource: str) -> str:
    """Return the name of the adapter function for a resource, such as `adapter-aws-sdk-dynamodb-putItem`."""
    return f"adapter-{service_call(resource).replace(':', '-')}"


def service_call(resource: str) -> str:
    """Return the call of a resource, such as `aws-sdk:dynamodb:putItem`."""
    return resource.removeprefix(PREFIX).removesuffix(_CALLBACK)


def lacking(machine: Machine) -> set[str]:
    """Return the calls of a machine that need an adapter, such as `aws-sdk:dynamodb:putItem`."""
    return {service_call(resource) for _, resource in _lacking(machine)}


def adapt(machine: Machine, functions: str) -> Adapted:
    """Return a copy of the machine that the engine can run.

    Args:
        machine: the machine; it is not changed.
        functions: the start of the functions' ARNs, such as `arn:aws:lambda:us-east-1:000000000000:function:`.
    """
    adapted = Machine(machine.name, copy.deepcopy(machine.definition))
    states = {state.path: state.fields for state in adapted.states()}
    redirected = []
    for path, resource in _lacking(machine):
        function = functions + function_name(resource)
        if resource.endswith(_CALLBACK):
            arguments = {"FunctionName": function, "Payload": states[path].get("Parameters", {})}
            states[path] |= {"Resource": INVOKE_AND_WAIT, "Parameters": arguments}
        else:
            states[path]["Resource"] = function
        redirected.append(Redirected(path, resource, function))
    iterators = [path for path, fields in states.items() if "ItemProcessor" in fields]
    for path in iterators:
        processor = states[path].pop("ItemProcessor")
        states[path]["Iterator"] = {name: value for name, value in processor.items() if name != "ProcessorConfig"}
    return Adapted(adapted, redirected, iterators)


def _lacking(machine: Machine) -> Iterator[tuple[str, str]]:
    for state in machine.tasks():
        resource = state.fields["Resource"]
        if _LACKING.fullmatch(resource.removesuffix(_CALLBACK)):
            yield state.path, resource
