"""TestState as AWS answers it. Without the hook MiniStack answers differently, and these tests fail."""

import json
from types import ModuleType
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.engines.sample_stack import Sample
from turnstile_cli.engines import ministack_child
from turnstile_cli.engines.state_tests import answer_test_state

pytestmark = pytest.mark.xdist_group("engines")
CALL = {
    "Type": "Task",
    "Resource": "arn:aws:states:::lambda:invoke",
    "Parameters": {"FunctionName": "f", "Payload": {"a.$": "$.a"}},
    "ResultPath": "$.answer",
    "Retry": [
        {"ErrorEquals": ["Slow"], "IntervalSeconds": 2, "MaxAttempts": 9, "BackoffRate": 3.0, "MaxDelaySeconds": 20},
        {"ErrorEquals": ["Busy"], "IntervalSeconds": 1, "MaxAttempts": 1},
    ],
    "Catch": [
        {"ErrorEquals": ["Refused"], "ResultPath": "$.error", "Next": "End"},
        {"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "End"},
    ],
    "Next": "End",
}
DEFINITION = {
    "StartAt": "Each",
    "States": {
        "Each": {
            "Type": "Map",
            "ItemProcessor": {"StartAt": "Call", "States": {"Call": CALL, "End": {"Type": "Pass", "End": True}}},
            "ResultPath": "$.found",
            "Next": "Last",
        },
        "Last": {"Type": "Succeed"},
    },
}


def ask(sample: Sample, state: str, mock: Any, retries: int = 0) -> dict[str, Any]:
    client = boto3.client(
        "stepfunctions",
        endpoint_url=sample.engine.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(inject_host_prefix=False, proxies={}),
    )
    answer = client.test_state(
        definition=json.dumps(DEFINITION),
        stateName=state,
        input='{"a": 1}',
        inspectionLevel="DEBUG",
        mock=mock,
        stateConfiguration={"retrierRetryCount": retries},
    )
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


def failing(error: str) -> dict[str, Any]:
    return {"errorOutput": {"error": error, "cause": "why"}}


def test_a_state_inside_a_map_is_found(sample: Sample) -> None:
    answer = ask(sample, "Call", {"result": '{"Payload": 2}'})
    assert (answer["status"], answer["nextState"]) == ("SUCCEEDED", "End")
    assert json.loads(answer["output"]) == {"a": 1, "answer": {"Payload": 2}}
    assert json.loads(answer["inspectionData"]["afterParameters"]) == {"FunctionName": "f", "Payload": {"a": 1}}


def test_a_retry_comes_before_a_catch_and_waits_no_longer_than_it_may(sample: Sample) -> None:
    for done, seconds in ((0, 2), (1, 6), (2, 18), (3, 20)):
        answer = ask(sample, "Call", failing("Slow"), done)
        assert answer["status"] == "RETRIABLE"
        assert answer["inspectionData"]["errorDetails"] == {"retryIndex": 0, "retryBackoffIntervalSeconds": seconds}
    assert ask(sample, "Call", failing("Busy"))["inspectionData"]["errorDetails"]["retryIndex"] == 1


@pytest.mark.parametrize(("error", "retries", "index"), [("Refused", 0, 0), ("Busy", 1, 1), ("Other", 0, 1)])
def test_an_error_without_a_retry_left_is_caught(sample: Sample, error: str, retries: int, index: int) -> None:
    answer = ask(sample, "Call", failing(error), retries)
    assert (answer["status"], answer["nextState"]) == ("CAUGHT_ERROR", "End")
    assert answer["inspectionData"]["errorDetails"] == {"catchIndex": index}
    assert json.loads(answer["output"]) == {"a": 1, "error": {"Error": error, "Cause": "why"}}


def test_a_map_takes_a_mocked_result(sample: Sample) -> None:
    answer = ask(sample, "Each", {"result": "[1, 2]"})
    assert (answer["status"], answer["nextState"]) == ("SUCCEEDED", "Last")
    assert json.loads(answer["output"]) == {"a": 1, "found": [1, 2]}


def test_a_missing_private_name_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"stepfunctions\._test_state is gone"):
        answer_test_state(ModuleType("stepfunctions"), ministack_child.need)
