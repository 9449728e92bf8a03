"""The adapter functions, called as Step Functions Local calls them, and the registered machines."""

import json
import re
from contextlib import nullcontext
from http.client import HTTPConnection
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.strict.conftest import Both
from turnstile_cli.engines.elsewhere import create, read_machines
from turnstile_cli.engines.embedded import Embedded
from turnstile_cli.engines.errors import EngineError
from turnstile_cli.engines.listing import list_machines, told
from turnstile_cli.engines.process import HOST
from turnstile_cli.engines.start import Engine
from turnstile_cli.files import TEMPLATE

pytestmark = pytest.mark.xdist_group("strict")

PORT = re.compile(r"(?<=http://127\.0\.0\.1):\d+")
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:adapter-"


def invoke(both: Both, call: str, parameters: dict[str, Any]) -> tuple[str | None, Any]:
    """Call Lambda as the Java SDK does, which escapes the colons; return the error, if any, and the payload."""
    path = f"/2015-03-31/functions/{quote(FUNCTION + call, safe='')}/invocations"
    request = AWSRequest("POST", f"{both.strict_engine.url}{path}", data=json.dumps(parameters))
    SigV4Auth(Credentials("test", "test"), "lambda", "us-east-1").add_auth(request)
    connection = HTTPConnection(HOST, both.strict_engine.running.port)
    connection.request("POST", path, request.data, dict(request.headers))
    answer = connection.getresponse()
    return answer.getheader("X-Amz-Function-Error"), json.loads(answer.read())


def key(agent_id: str) -> dict[str, Any]:
    return {"agentId": {"S": agent_id}, "record": {"S": "STATE"}}


@pytest.mark.parametrize(
    ("call", "parameters", "error"),
    [
        (
            "aws-sdk-dynamodb-updateItem",
            {
                "TableName": "AgentWorkflows",
                "Key": key("unknown"),
                "UpdateExpression": "SET a = :a",
                "ConditionExpression": "attribute_exists(agentId)",
                "ExpressionAttributeValues": {":a": {"S": "a"}},
            },
            "DynamoDb.ConditionalCheckFailedException",
        ),
        ("aws-sdk-dynamodb-getItem", {"tableName": "AgentWorkflows"}, "UnknownField"),
        ("aws-sdk-dynamodb-getItem", {"TableName": "AgentWorkflows"}, "DynamoDb.DynamoDbException"),
        (
            "aws-sdk-dynamodb-getItem",
            {"TableName": "AgentWorkflows", "Key": key("a" * 2049)},
            "DynamoDb.DynamoDbException",
        ),
        (
            "aws-sdk-sfn-describeExecution",
            {"ExecutionArn": "arn:aws:states:us-east-1:000000000000:execution:turnstile-AgentTurn:none"},
            "Sfn.ExecutionDoesNotExistException",
        ),
        (
            "aws-sdk-bedrockruntime-converse",
            {"ModelId": "m", "Messages": [{"Role": "user", "Content": [{"Text": "Who are you?"}]}]},
            "BedrockRuntime.ValidationException",
        ),
    ],
)
def test_an_error_has_the_name_of_the_service(both: Both, call: str, parameters: dict[str, Any], error: str) -> None:
    failed, answer = invoke(both, call, parameters)
    assert (failed, answer["errorType"]) == ("Unhandled", error)


def test_an_answer_is_the_integration_s(both: Both) -> None:
    agent_id = both.play("answer_only")
    _, item = invoke(both, "aws-sdk-dynamodb-getItem", {"TableName": "AgentWorkflows", "Key": key(agent_id)})
    assert item["Item"]["status"] == {"S": "COMPLETED"}
    arn = item["Item"]["lastUpdatedBy"]["S"]
    _, execution = invoke(both, "aws-sdk-sfn-describeExecution", {"ExecutionArn": arn})
    assert (execution["Status"], execution["StartDate"][:2]) == ("SUCCEEDED", "20")


def test_an_event_goes_to_the_bus_with_its_detail_as_text(both: Both) -> None:
    entry = {"Source": "test", "DetailType": "Test", "EventBusName": "default", "Detail": {"a": [1, {"b": None}]}}
    failed, answer = invoke(both, "events-putEvents", {"Entries": [entry]})
    assert (failed, answer["FailedEntryCount"], len(answer["Entries"])) == (None, 0, 1)


def test_what_is_listed_is_what_is_registered(both: Both) -> None:
    listed = list_machines(Engine.STRICT, TEMPLATE)
    client = both.strict_engine.client("stepfunctions")
    for machine in listed:
        registered = client.describe_state_machine(stateMachineArn=machine.arn)
        definitions = (registered["definition"], json.dumps(machine.definition))
        # The list has an engine of its own, whose queues have URLs with another port.
        assert len({json.dumps(json.loads(PORT.sub("", each)), sort_keys=True) for each in definitions}) == 1
        assert registered["type"] == machine.kind
    assert {machine["name"] for machine in client.list_state_machines()["stateMachines"]} == {m.name for m in listed}
    lines = list(told(Engine.STRICT, listed))
    assert "  AskModel: aws-sdk:bedrockruntime:converse → adapter-aws-sdk-bedrockruntime-converse" in lines


def test_the_embedded_engine_gets_what_the_files_hold(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    # The test above deploys the template for a list; this one lists what is deployed already.
    deployed = SimpleNamespace(deploy=lambda _: None, own_client=both.embedded_engine.own_client)
    monkeypatch.setattr(Embedded, "start", lambda **_: nullcontext(deployed))
    listed = list_machines(Engine.EMBEDDED, TEMPLATE)
    assert {machine.name: machine.definition for machine in listed} == {
        machine.name: machine.machine.definition for machine in read_machines(both.embedded_engine)
    }
    assert not any(machine.redirected for machine in listed)


def test_an_engine_of_another_account_is_refused(both: Both) -> None:
    class Other:
        """A Step Functions of another account."""

        meta = type("Meta", (), {"endpoint_url": "http://other"})
        exceptions = both.strictly.stack.stepfunctions.exceptions

        def create_state_machine(self, name: str, **_: str) -> dict[str, str]:
            return {"stateMachineArn": f"arn:aws:states:us-east-1:123456789012:stateMachine:{name}"}

    machine = next(read_machines(both.embedded_engine))
    with pytest.raises(EngineError, match="start it with AWS_ACCOUNT_ID=000000000000 and AWS_DEFAULT_REGION=us-east-1"):
        create(Other(), machine)
