"""Makes of a machine what Step Functions Local can run, and moto's interpreter in its place.

A Task that such an engine lacks is redirected to a function that does the same: its `Resource` becomes that function's
ARN, while its Parameters and its result stay as they are. What is adapted is this list, and nothing else:

1. `aws-sdk:*`, of which the official image knows next to none, and which moto passes on in the wrong casing.
2. `events:putEvents`, for which the official image knows no endpoint but AWS's.
3. Of these, one that waits for a task token becomes `lambda:invoke.waitForTaskToken`, with its Parameters as Payload:
   a plain ARN waits for nobody.
4. `ItemProcessor` gets its older name, `Iterator`, and its `ProcessorConfig` is left out: with these the official image
   registers a machine, and refuses to start it. Of `ProcessorConfig` https://github.com/aws/aws-sam-cli/issues/6846
   tells; that the rest of a Map may stay, ItemSelector included, is what others have found by trying.
"""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass

from workflows.machines import Machine

PREFIX = "arn:aws:states:::"
INVOKE_AND_WAIT = f"{PREFIX}lambda:invoke.waitForTaskToken"
_CALLBACK = ".waitForTaskToken"
_LACKING = re.compile(re.escape(PREFIX) + r"(aws-sdk:[a-z0-9]+|events):[A-Za-z0-9]+")


@dataclass(frozen=True)
class Redirected:
    """A Task that calls a function instead of a service."""

    state: str
    """Its path, as `CallTools/ReserveEffect`."""
    resource: str
    """What stands in its definition."""
    function: str
    """The ARN of the function that it calls instead."""


@dataclass(frozen=True)
class Adapted:
    """A machine as an engine can run it, and what is different in it."""

    machine: Machine
    redirected: list[Redirected]
    iterators: list[str]
    """The paths of the Maps whose ItemProcessor is called Iterator."""


def function_name(resource: str) -> str:
    """The name of the function that does what a resource does: `adapter-aws-sdk-dynamodb-putItem`."""
    return f"adapter-{service_call(resource).replace(':', '-')}"


def service_call(resource: str) -> str:
    """What a resource calls, as `aws-sdk:dynamodb:putItem`."""
    return resource.removeprefix(PREFIX).removesuffix(_CALLBACK)


def lacking(machine: Machine) -> set[str]:
    """The calls of a machine that want an adapter, as `aws-sdk:dynamodb:putItem`."""
    return {service_call(resource) for _, resource in _lacking(machine)}


def adapt(machine: Machine, functions: str) -> Adapted:
    """The machine as the engine can run it.

    Args:
        machine: the machine; it stays as it is.
        functions: what the functions' ARNs start with, as `arn:aws:lambda:us-east-1:000000000000:function:`.
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
