"""The comparison with the limits of Step Functions reads every execution of an engine."""

import json

import pytest

from tests.engines.sample_stack import Sample
from tests.limits import within_limits
from turnstile_cli.machines.limits import PAYLOAD

pytestmark = pytest.mark.xdist_group("engines")


def test_a_text_close_to_the_limit_is_found_with_its_state(sample: Sample) -> None:
    client = sample.machines
    arn = client.create_state_machine(
        name="large",
        definition=json.dumps({"StartAt": "Keep", "States": {"Keep": {"Type": "Pass", "End": True}}}),
        roleArn=sample.engine.outputs["TestRoleArn"],
    )["stateMachineArn"]
    try:
        for share in (0.79, 0.81):
            text = json.dumps("é" * int(PAYLOAD * share / 2))
            sample.finish(client.start_execution(stateMachineArn=arn, input=text)["executionArn"])
        with pytest.raises(pytest.fail.Exception) as failed, within_limits(client):
            pass
        lines = str(failed.value).splitlines()[1:]
        assert sorted({line.partition(": ")[2].partition(" 2")[0] for line in lines}) == [
            "bytes of input in ExecutionStarted",
            "bytes of input in PassStateEntered",
            "bytes of output in ExecutionSucceeded",
            "bytes of output in PassStateExited",
        ]
        assert len(lines) == 4
        assert all("212,3" in line and "(81%)" in line for line in lines)
    finally:
        client.delete_state_machine(stateMachineArn=arn)
