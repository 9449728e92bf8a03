"""Changes to a machine for an engine without SDK integrations, and the parts that stay."""

import copy
from pathlib import Path
from typing import Any

import pytest

from turnstile_cli.engines.adapt import INVOKE_AND_WAIT, adapt, lacking
from turnstile_cli.machines.definition import Machine, load_machines

FUNCTIONS = "arn:aws:lambda:us-east-1:000000000000:function:"
MACHINES = load_machines(Path(__file__).parents[2] / "asl")


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_only_resources_and_the_name_of_what_is_in_a_map_change(machine: Machine) -> None:
    before = copy.deepcopy(machine.definition)
    found = adapt(machine, FUNCTIONS)
    assert machine.definition == before
    changed = {each.state for each in found.redirected}
    for one, other in zip(machine.states(), found.machine.states(), strict=True):
        if one.type == "Map":
            inside = {**other.fields["Iterator"], "ProcessorConfig": {"Mode": "INLINE"}}
            assert _without(one.fields, "ItemProcessor") == _without(other.fields, "Iterator")
            assert _without(inside, "States") == _without(one.fields["ItemProcessor"], "States")
        elif one.path not in changed:
            assert other.fields == one.fields
        elif not one.waits_for_token:
            assert {**other.fields, "Resource": one.fields["Resource"]} == one.fields
    assert lacking(found.machine) == set()
    assert found.iterators == [state.path for state in machine.states() if state.type == "Map"]


def _without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    assert name in fields
    return {key: value for key, value in fields.items() if key != name}


def test_nothing_of_what_the_image_lacks_is_left() -> None:
    resources = {task.fields["Resource"] for machine in MACHINES for task in adapt(machine, FUNCTIONS).machine.tasks()}
    assert not [each for each in resources if each.startswith(("arn:aws:states:::aws-sdk", "arn:aws:states:::events"))]
    assert "arn:aws:states:::lambda:invoke" in resources  # the image supports this integration


def test_a_task_that_waits_for_a_token_invokes_the_function_and_waits() -> None:
    arguments = {"TableName": "T", "Item": {"token": {"S.$": "$$.Task.Token"}}}
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:dynamodb:putItem.waitForTaskToken",
        "Parameters": arguments,
        "TimeoutSeconds": 60,
        "End": True,
    }
    adapted = adapt(Machine("m", {"StartAt": "Ask", "States": {"Ask": task}}), FUNCTIONS)
    [redirected] = adapted.redirected
    function = f"{FUNCTIONS}adapter-aws-sdk-dynamodb-putItem"
    assert redirected.function == function
    assert adapted.machine.definition["States"]["Ask"] == {
        **task,
        "Resource": INVOKE_AND_WAIT,
        "Parameters": {"FunctionName": function, "Payload": arguments},
    }
