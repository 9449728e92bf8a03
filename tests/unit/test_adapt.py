"""What of a machine is adapted for an engine without SDK integrations, and what stays."""

import copy
from pathlib import Path

import pytest

from workflows.engines.adapt import INVOKE_AND_WAIT, adapt, lacking
from workflows.machines import Machine, load_machines

FUNCTIONS = "arn:aws:lambda:us-east-1:000000000000:function:"
MACHINES = load_machines(Path(__file__).parents[2] / "asl")


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_only_the_resource_changes(machine: Machine) -> None:
    before = copy.deepcopy(machine.definition)
    adapted, redirected = adapt(machine, FUNCTIONS)
    assert machine.definition == before
    changed = {each.state for each in redirected}
    for one, other in zip(machine.states(), adapted.states(), strict=True):
        if one.path not in changed:
            if not any(path.startswith(f"{one.path}/") for path in changed):
                assert other.fields == one.fields
        elif not one.waits_for_token:
            assert {**other.fields, "Resource": one.fields["Resource"]} == one.fields
    assert lacking(adapted) == set()


def test_nothing_of_what_the_image_lacks_is_left() -> None:
    resources = {task.fields["Resource"] for machine in MACHINES for task in adapt(machine, FUNCTIONS)[0].tasks()}
    assert not [each for each in resources if each.startswith(("arn:aws:states:::aws-sdk", "arn:aws:states:::events"))]
    assert "arn:aws:states:::lambda:invoke" in resources  # which it has


def test_one_that_waits_for_a_token_invokes_the_function_and_waits() -> None:
    arguments = {"TableName": "T", "Item": {"token": {"S.$": "$$.Task.Token"}}}
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:dynamodb:putItem.waitForTaskToken",
        "Parameters": arguments,
        "TimeoutSeconds": 60,
        "End": True,
    }
    adapted, [redirected] = adapt(Machine("m", {"StartAt": "Ask", "States": {"Ask": task}}), FUNCTIONS)
    function = f"{FUNCTIONS}adapter-aws-sdk-dynamodb-putItem"
    assert redirected.function == function
    assert adapted.definition["States"]["Ask"] == {
        **task,
        "Resource": INVOKE_AND_WAIT,
        "Parameters": {"FunctionName": function, "Payload": arguments},
    }
