"""What Turnstile assumes about AWS. docs/first-deployment.md says of each what to expect, and what to do otherwise.

`make live` runs the checks on a stack in AWS. The ordinary tests run those on the embedded engine that also hold there.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from tests.world import World, scenario
from turnstile_cli.stack.republish import republish

LONG = "Count from 1 to 1500, one number on each line, and write nothing else."


@dataclass(frozen=True)
class Assumption:
    """One thing that AWS is expected to do. `check` fails with an AssertionError if it does not."""

    name: str
    check: Callable[[World], None]
    here: bool
    """Whether the embedded engine behaves so too, which the ordinary tests prove."""


def the_pipe_runs(world: World) -> None:
    """Check that the pipe was created with its new role, and reads the stream."""
    pipe = world.client("pipes").describe_pipe(Name=f"{world.stack.name}-outbox")
    assert pipe["CurrentState"] == "RUNNING", pipe.get("StateReason")


def an_unnamed_error_of_dynamodb(world: World) -> None:
    """Check that an error that DynamoDB's model does not name has the service's name."""
    key = {"agentId": {"N": "1"}, "record": {"S": "STATE"}}
    parameters = {"TableName": world.stack.outputs.table_name, "Key": key}
    assert _error(world, "aws-sdk:dynamodb:getItem", parameters) == "DynamoDb.DynamoDbException"


def a_denied_call_of_dynamodb(world: World) -> None:
    """Check that a refusal by IAM has the service's name too."""
    parameters = {"TableName": "of-another-team", "Key": {"id": {"S": "1"}}}
    assert _error(world, "aws-sdk:dynamodb:getItem", parameters) == "DynamoDb.DynamoDbException"


def a_denied_call_of_lambda(world: World) -> None:
    """Check that a function that the role may not call is refused under a name that the machines retry."""
    error = _error(world, "lambda:invoke", {"FunctionName": "of-another-team", "Payload": {}})
    assert error == "Lambda.AWSLambdaException"


def a_denied_call_of_step_functions(world: World) -> None:
    """Check that a refusal by IAM has the service's name."""
    execution = world.stack.outputs.agent_start_arn.replace(":stateMachine:", ":execution:")
    parameters = {"ExecutionArn": f"{execution}:none"}
    role = world.stack.outputs.agent_recovery_role_arn
    assert _error(world, "aws-sdk:sfn:describeExecution", parameters, role) == "Sfn.SfnException"


def a_denied_event(world: World) -> None:
    """Check that a refusal by IAM has one of the two names that the machines retry."""
    entry = {"Source": "com.another.team", "DetailType": "Nothing", "EventBusName": world.stack.outputs.bus_name}
    error = _error(world, "events:putEvents", {"Entries": [{**entry, "Detail": {}}]})
    assert error in ("EventBridge.AmazonEventBridgeException", "EventBridge.EventBridgeException")


def a_missing_item_is_absent(world: World) -> None:
    """Check that a read that finds nothing has no Item, rather than null."""
    key = {"agentId": {"S": uuid.uuid4().hex}, "record": {"S": "STATE"}}
    told = _test(world, "aws-sdk:dynamodb:getItem", {"TableName": world.stack.outputs.table_name, "Key": key})
    assert told["status"] == "SUCCEEDED", told
    assert "Item" not in json.loads(told["output"])


def the_token_of_a_cancelled_transaction_is_free(world: World) -> None:
    """Check that a cancelled transaction is evaluated again under its token. Every Retry relies on it."""
    table, agent_id, token = world.stack.outputs.table_name, f"token-{uuid.uuid4().hex[:8]}", str(uuid.uuid4())
    key = {"agentId": {"S": agent_id}, "record": {"S": "CHECK"}}
    update = {
        "TableName": table,
        "Key": key,
        "UpdateExpression": "SET done = :yes",
        "ConditionExpression": "attribute_exists(agentId)",
        "ExpressionAttributeValues": {":yes": {"S": "yes"}},
    }
    write: Any = {"TransactItems": [{"Update": update}], "ClientRequestToken": token}
    try:
        world.stack.dynamodb.transact_write_items(**write)
        raise AssertionError("the condition did not refuse the first write")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "TransactionCanceledException"
    world.stack.dynamodb.put_item(TableName=table, Item=key)
    try:
        world.stack.dynamodb.transact_write_items(**write)
        assert world.item(agent_id, "CHECK") == {"agentId": agent_id, "record": "CHECK", "done": "yes"}
    finally:
        world.stack.dynamodb.delete_item(TableName=table, Key=key)


def a_death_is_told_with_its_error(world: World) -> None:
    """Check that the event of a failed execution has its error and its input: agent_redeliver needs both."""
    name = f"refused-{uuid.uuid4().hex[:8]}"
    arn = world.deliver("agent_start", {"agentId": name, "prompt": ""})
    machine = world.stack.outputs.agent_redeliver_arn
    sfn = world.stack.stepfunctions

    def heard() -> dict[str, Any] | None:
        for one in sfn.list_executions(stateMachineArn=machine, maxResults=50)["executions"]:
            event = json.loads(sfn.describe_execution(executionArn=one["executionArn"])["input"])
            if event["detail"]["executionArn"] == arn:
                detail: dict[str, Any] = event["detail"]
                return detail
        return None

    detail = world.until(heard, 120)
    assert detail["error"] == "RequestInvalid"
    assert json.loads(detail["input"])["detail"]["agentId"] == name


def a_subscriber_hears(world: World) -> None:
    """Check that a rule tells AgentTopic of an agent that has ended, by an input transformer and a role of its own."""
    agent_id = world.play(scenario("answer_only"))
    sqs, url = world.client("sqs"), world.stack.outputs.agent_changes_url

    def told() -> dict[str, Any] | None:
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
        for message in found:  # those of other agents are in front of it
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        bodies = [json.loads(message["Body"]) for message in found]
        return next((body for body in bodies if body["agentId"] == agent_id), None)

    assert world.until(told, 120)["status"] == "COMPLETED"


def only_the_api_speaks_for_its_callers(world: World) -> None:
    """Check that the bus denies the API's source to every other principal, an administrator included."""
    bus = world.stack.outputs.bus_name
    entry: Any = {"Source": "com.agent.api", "DetailType": "Nothing", "Detail": "{}", "EventBusName": bus}
    try:
        world.stack.events.put_events(Entries=[entry])
        raise AssertionError("the bus took an event in the API's name")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "AccessDeniedException"


def the_model_answers(world: World) -> None:
    """Check that the machine's role may ask the stack's model."""
    told = _test(world, "aws-sdk:bedrockruntime:converse", _asked(world, "Say OK.", 20))
    assert told["status"] == "SUCCEEDED", told


def a_long_reply_arrives(world: World) -> None:
    """Check that the SDK integration waits for a reply that takes more than a minute."""
    told = _test(world, "aws-sdk:bedrockruntime:converse", _asked(world, LONG, 8000), seconds=180)
    assert told["status"] == "SUCCEEDED", told


def the_metrics_of_the_watch_arrive(world: World) -> None:
    """Check that a metric that a function logs reaches CloudWatch, where alarms need it."""
    assert world.run("agent_watch", {})["status"] == "SUCCEEDED"
    cloudwatch = world.client("cloudwatch")
    wanted = [{"Name": "service", "Value": world.stack.name}]

    def there() -> bool:
        found = cloudwatch.list_metrics(Namespace="Turnstile", MetricName="WatchRotationMinutes", Dimensions=wanted)
        return bool(found["Metrics"])

    world.until(there, 600, lambda: "no metric WatchRotationMinutes: look into the log group of the functions")


def no_alarm_is_raised(world: World) -> None:
    """Check that the alarms exist, and that none is in ALARM."""
    found = world.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{world.stack.name}-")
    alarms = [*found["MetricAlarms"], *found["CompositeAlarms"]]
    assert alarms
    assert [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"] == []


def a_record_that_no_machine_wrote_is_kept_aside(world: World) -> None:
    """Check that AgentPublish keeps it in the queue for an operator, and that the pipe goes on."""
    name, dynamodb = f"unknown-{uuid.uuid4().hex[:8]}", world.stack.dynamodb
    key = {"agentId": {"S": name}, "record": {"S": "STATE"}}
    announced = {"announce": {"S": "AgentStateUpdated"}, "status": {"S": "COMPLETED"}}

    def told(what: str) -> bool:
        return any(f"agent {name} {what}" in message.what for message in republish(world.stack))

    dynamodb.put_item(TableName=world.stack.outputs.table_name, Item={**key, **announced})
    try:
        world.until(lambda: told("has a record that cannot be read"), 120)
    finally:
        dynamodb.delete_item(TableName=world.stack.outputs.table_name, Key=key)
    world.until(lambda: told("is gone"), 120)


ASSUMPTIONS = [
    Assumption(check.__name__, check, here)
    for check, here in (
        (the_pipe_runs, True),
        (an_unnamed_error_of_dynamodb, True),
        (a_denied_call_of_dynamodb, True),
        (a_denied_call_of_lambda, True),
        (a_denied_call_of_step_functions, True),
        (a_denied_event, True),
        (a_missing_item_is_absent, True),
        (the_token_of_a_cancelled_transaction_is_free, True),
        (a_death_is_told_with_its_error, True),
        (a_subscriber_hears, True),
        (only_the_api_speaks_for_its_callers, False),
        (the_model_answers, False),
        (a_long_reply_arrives, False),
        (the_metrics_of_the_watch_arrive, False),
        (no_alarm_is_raised, False),
        (a_record_that_no_machine_wrote_is_kept_aside, True),
    )
]


def _asked(world: World, prompt: str, tokens: int) -> dict[str, Any]:
    return {
        "ModelId": world.stack.outputs.model_id,
        "Messages": [{"Role": "user", "Content": [{"Text": prompt}]}],
        "InferenceConfig": {"MaxTokens": tokens},
    }


def _error(world: World, resource: str, parameters: dict[str, Any], role: str = "") -> str:
    told = _test(world, resource, parameters, role)
    assert told["status"] == "FAILED", told
    return str(told["error"])


def _test(world: World, resource: str, parameters: dict[str, Any], role: str = "", seconds: int = 30) -> dict[str, Any]:
    """Run one Task by TestState, with the role of AgentTurn unless another is named. It really makes the call."""
    task = {
        "Type": "Task",
        "Resource": f"arn:aws:states:::{resource}",
        "Parameters": parameters,
        "TimeoutSeconds": seconds,
        "End": True,
    }
    told: dict[str, Any] = world.client("stepfunctions").test_state(
        definition=json.dumps(task), roleArn=role or world.stack.outputs.agent_turn_role_arn, input="{}"
    )
    return told
