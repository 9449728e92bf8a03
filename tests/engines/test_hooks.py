"""Features that MiniStack lacks and the hooks add. If a hook has no effect any more, its own test class fails."""

import base64
import importlib
import io
import json
import os
import time
import uuid
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import NoRegionError

from tests.engines.sample_stack import INPUT, Sample, wait_for
from turnstile_cli.chaos.tools import OPEN
from turnstile_cli.engines import fork_server, ministack_child, pipe

pytestmark = pytest.mark.xdist_group("engines")

MINISTACK_WAITS_FOR_LOG = 0.05
MINISTACK_SLEEPS_BEFORE_STATES = 0.15


def ask(agent: str, calls: int, *messages: dict[str, Any]) -> dict[str, Any]:
    """Return the input of the machine Ask."""
    user = {"Role": "user", "Content": [{"Text": "To Rome, please"}]}
    schema = {"type": "object", "properties": {"fromCity": {"type": "string"}, "Stops": {"type": "array"}}}
    return {
        "request": {
            "ModelId": "us.example.model-1",
            "Messages": [user, *messages],
            "System": [{"Text": "Be brief."}],
            "InferenceConfig": {"MaxTokens": 100, "Temperature": 0},
            "ToolConfig": {
                "Tools": [{"ToolSpec": {"Name": "book", "Description": "Books.", "InputSchema": {"Json": schema}}}]
            },
            "RequestMetadata": {"agentId": agent, "modelCalls": str(calls)},
        }
    }


class TestAnswerConverse:
    def test_speaks_pascal_case_and_leaves_documents_alone(self, sample: Sample) -> None:
        execution = sample.run("Ask", ask("casing", 0))
        reply = json.loads(execution["output"])
        assert reply["Output"]["Message"] == {
            "Role": "assistant",
            "Content": [
                {"Text": "Let me see."},
                {"ToolUse": {"ToolUseId": "call-0-0", "Name": "book", "Input": INPUT}},
            ],
        }
        assert reply["StopReason"] == "tool_use"
        assert set(reply["Usage"]) == {"InputTokens", "OutputTokens", "TotalTokens"}
        assert set(reply) == {"Output", "StopReason", "Usage", "Metrics"}

    def test_takes_its_own_answer_back_after_every_fault(self, sample: Sample) -> None:
        reply = json.loads(sample.run("Ask", ask("back", 0))["output"])
        result = {"ToolUseId": "call-0-0", "Content": [{"Json": {"seatsLeft": 3, "Class": "economy"}}]}
        answer = {"Role": "user", "Content": [{"ToolResult": result}]}
        errors = [sample.run("Ask", ask("back", 1, reply["Output"]["Message"], answer)).get("error") for _ in range(3)]
        assert errors == [
            "BedrockRuntime.ThrottlingException",
            "BedrockRuntime.ServiceUnavailableException",
            "BedrockRuntime.ModelTimeoutException",
        ]
        rubbish, good = (
            json.loads(sample.run("Ask", ask("back", 1, reply["Output"]["Message"], answer))["output"])
            for _ in range(2)
        )
        assert set(rubbish) == {"StopReason", "Usage", "Metrics"}
        assert good["Output"]["Message"]["Content"] == [{"Text": "Done."}]

    def test_what_the_service_refuses_is_a_validation_exception(self, sample: Sample) -> None:
        execution = sample.run("Ask", ask("refused", 0, {"Role": "user", "Content": [{"Text": "Hello?"}]}))
        assert execution["error"] == "BedrockRuntime.ValidationException"
        assert execution["cause"].startswith("A conversation must alternate between user and assistant roles.")

    @pytest.mark.parametrize(
        ("change", "error", "cause"),
        [
            ({"messages": []}, "States.Runtime", "The field $.messages is not supported by Step Functions"),
            ({"InferenceConfig": {"MaxTokens": "many"}}, "BedrockRuntime.ValidationException", "maxTokens"),
        ],
    )
    def test_wrong_arguments_never_reach_the_service(
        self, sample: Sample, change: dict[str, Any], error: str, cause: str
    ) -> None:
        data = ask("wrong", 0)
        data["request"] |= change
        execution = sample.run("Ask", data)
        assert execution["error"] == error
        assert cause in execution["cause"]

    def test_without_a_region_bedrock_is_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", ministack_child.MODEL_ENDPOINT):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
        with pytest.raises(NoRegionError):
            ministack_child.prepare_model()()


class TestReportExceptionsByName:
    def test_an_exception_has_its_own_name(self, sample: Sample) -> None:
        execution = sample.work({"action": "raise", "note": "not in June"})
        assert execution["error"] == "NotToday"
        cause = json.loads(execution["cause"])
        assert cause["errorMessage"] == "not in June"
        assert len(cause["stackTrace"]) == 1
        assert 'raise NotToday(event["note"])' in cause["stackTrace"][0]

    def test_a_caller_of_the_function_gets_that_name_too(self, sample: Sample) -> None:
        answer = sample.engine.client("lambda").invoke(
            FunctionName="sample-worker", Payload=json.dumps({"action": "raise", "note": "no"})
        )
        assert answer["FunctionError"] == "Unhandled"
        assert json.loads(answer["Payload"].read())["errorType"] == "NotToday"

    def test_the_process_stays_warm(self, sample: Sample) -> None:
        def call(action: str) -> Any:
            payload = json.dumps({"action": action, "note": "warm"})
            answer = sample.engine.client("lambda").invoke(FunctionName="sample-worker", Payload=payload)
            return json.loads(answer["Payload"].read())

        before = call("work")
        call("raise")
        after = call("work")
        assert (after["process"], after["calls"]) == (before["process"], before["calls"] + 2)

    def test_a_process_that_ends_is_an_exit_error(self, sample: Sample) -> None:
        assert sample.work({"action": "die", "note": ""})["error"] == "Runtime.ExitError"


class TestShareWorkers:
    def test_calls_at_once_share_a_few_processes(self, sample: Sample) -> None:
        """Start three times as many calls as processes: each process takes three calls, one after the other."""

        def call(number: int) -> int:
            payload = json.dumps({"action": "take time", "note": str(number)})
            answer = sample.engine.client("lambda").invoke(FunctionName="sample-worker", Payload=payload)
            return int(json.loads(answer["Payload"].read())["process"])

        with ThreadPoolExecutor(3 * ministack_child.WORKERS) as pool:
            processes = set(pool.map(call, range(3 * ministack_child.WORKERS)))
        assert 1 < len(processes) <= ministack_child.WORKERS


class TestForkWorkers:
    """A function's process is a fork, and a function cannot tell it from a new Python process."""

    CODE = """
import os, subprocess, sys
at_first = [name for name in ("jsonschema", "turnstile_cli") if name in sys.modules]
import jmespath

def handler(event, context):
    ended = subprocess.run([sys.executable, "-c", "import sys; sys.exit(3)"]).returncode
    return {"at_first": at_first, "jmespath": jmespath.__file__, "cwd": os.getcwd(), "path": sys.path[:2],
            "ended": ended, "mine": os.environ.get("MINE")}
"""

    def call(self, sample: Sample, name: str, files: dict[str, str], **variables: str) -> dict[str, Any]:
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            for file, content in files.items():
                archive.writestr(file, content)
        functions = sample.engine.client("lambda")
        functions.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=sample.engine.outputs["TestRoleArn"],
            Handler="handler.handler",
            Code={"ZipFile": code.getvalue()},
            Environment={"Variables": variables},
            Timeout=10,
        )
        result: dict[str, Any] = json.loads(functions.invoke(FunctionName=name)["Payload"].read())
        return result

    def test_a_process_has_the_packages_at_once_and_all_else_for_itself(self, sample: Sample) -> None:
        told = self.call(sample, "forked", {"handler.py": self.CODE}, MINE="mine")
        assert told["at_first"] == ["jsonschema"]
        assert (told["mine"], told["ended"]) == ("mine", 3)
        assert told["path"] == [told["cwd"], str(Path(told["cwd"]).parent)]
        assert self.call(sample, "forked-too", {"handler.py": self.CODE})["mine"] is None

    def test_a_function_s_own_copy_of_a_package_is_used(self, sample: Sample) -> None:
        own = self.call(sample, "own", {"handler.py": self.CODE, "jmespath/__init__.py": ""})
        assert own["jmespath"] == f"{own['cwd']}/jmespath/__init__.py"

    def test_a_fork_server_that_has_ended_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fork_server, "__file__", os.devnull)
        with pytest.raises(OSError):
            fork_server.ForkServer().start("-", "/", {})

    def test_a_missing_name_is_named(self) -> None:
        with pytest.raises(RuntimeError, match=r"^MiniStack \d+\.\d+\.\d+ does not fit: changed.Worker is gone"):
            ministack_child.fork_workers(ModuleType("changed"))


class TestMarkEndOfLog:
    def invoke(self, sample: Sample, event: dict[str, Any]) -> Any:
        client = sample.engine.client("lambda")
        return client.invoke(FunctionName="sample-worker", Payload=json.dumps(event), LogType="Tail")

    def test_an_answer_brings_its_own_log_and_no_other(self, sample: Sample) -> None:
        for note in ("first", "", "third"):
            answer = self.invoke(sample, {"action": "say" if note else "work", "note": note})
            assert base64.b64decode(answer.get("LogResult", "")).decode() == note

    def test_no_log_is_not_waited_for(self, sample: Sample) -> None:
        def seconds() -> float:
            begun = time.monotonic()
            self.invoke(sample, {"action": "work", "note": ""})
            return time.monotonic() - begun

        assert min(seconds() for _ in range(10)) < MINISTACK_WAITS_FOR_LOG


class TestBeginAtOnce:
    def test_the_first_state_is_entered_at_once(self, sample: Sample) -> None:
        def seconds() -> float:
            started, entered = sample.history(sample.work())[:2]
            return float((entered["timestamp"] - started["timestamp"]).total_seconds())

        assert min(seconds() for _ in range(5)) < MINISTACK_SLEEPS_BEFORE_STATES


class TestHistory:
    def test_what_happens_inside_a_map_appears(self, sample: Sample) -> None:
        items = [{"action": "work", "note": "first"}, {"action": "skip"}, {"action": "work", "note": "third"}]
        execution = sample.work(*items)
        events = {event["id"]: event for event in sample.history(execution)}
        assert list(events) == list(range(1, len(events) + 1))
        assert execution["status"] == "SUCCEEDED"
        seen: dict[int, list[str]] = {}
        for event in events.values():
            if event["type"].endswith("StateEntered") and event["type"] != "MapStateEntered":
                seen.setdefault(_iteration(event, events), []).append(event["stateEnteredEventDetails"]["name"])
        assert seen == {
            0: ["RouteItem", "CallWorker", "WriteNote"],
            1: ["RouteItem", "Skip"],
            2: ["RouteItem", "CallWorker", "WriteNote"],
        }
        left = next(event for event in events.values() if event["type"] == "SucceedStateExited")
        assert json.loads(left["stateExitedEventDetails"]["output"]) == {"item": items[1], "number": 1}
        around = [event["type"] for event in events.values() if event["type"].startswith(("Map", "Execution"))]
        assert around[:3] == ["ExecutionStarted", "MapStateEntered", "MapStateStarted"]
        assert around[-3:] == ["MapStateSucceeded", "MapStateExited", "ExecutionSucceeded"]
        assert around.count("MapIterationStarted") == around.count("MapIterationSucceeded") == 3
        assert events[3]["mapStateStartedEventDetails"] == {"length": 3}

    def test_a_failed_iteration_appears_too(self, sample: Sample) -> None:
        execution = sample.work({"action": "give up"})
        kinds = [event["type"] for event in sample.history(execution)]
        assert kinds[-4:] == ["FailStateEntered", "MapIterationFailed", "MapStateFailed", "ExecutionFailed"]
        assert execution["error"] == "GaveUp"

    def test_nothing_happens_after_a_stop(self, sample: Sample) -> None:
        items = [{"action": "take time", "note": "stopped"} for _ in range(4)]
        arn = sample.start("Work", {"detail": {"items": items}})
        history = sample.machines.get_execution_history
        wait_for(
            lambda: any(event["type"] == "TaskScheduled" for event in history(executionArn=arn)["events"]),
            "the first call",
        )
        sample.machines.stop_execution(executionArn=arn, error="Stopped", cause="for the test")
        sample.work({"action": "take time", "note": "clock"}, {"action": "take time", "note": "clock"})
        execution = sample.finish(arn)
        assert execution["status"] == "ABORTED"
        assert sample.history(execution)[-1]["type"] == "ExecutionAborted"
        assert "clock" in sample.notes()
        assert "stopped" not in sample.notes()


class TestNameErrorsAsAws:
    def test_an_error_of_step_functions_has_the_name_that_a_machine_catches(self, sample: Sample) -> None:
        execution = _do(sample, "aws-sdk:sfn:sendTaskSuccess", {"TaskToken": "gone", "Output": "{}"})
        assert execution["error"] == "Sfn.TaskDoesNotExistException"

    def test_an_error_that_the_api_does_not_name_has_the_name_of_the_service(self, sample: Sample) -> None:
        key = {"TableName": sample.engine.outputs["TableName"], "Key": {"id": {"S": "a" * 2049}}}
        execution = _do(sample, "aws-sdk:dynamodb:getItem", key)
        assert execution["error"] == "DynamoDb.DynamoDbException"
        assert "size limit" in execution["cause"]

    def test_other_names_are_left_alone(self, sample: Sample) -> None:
        key = {"TableName": sample.engine.outputs["TableName"], "Key": {"id": {"S": "nothing"}}}
        condition = {"UpdateExpression": "REMOVE a", "ConditionExpression": "attribute_exists(id)"}
        execution = _do(sample, "aws-sdk:dynamodb:updateItem", key | condition)
        assert execution["error"] == "DynamoDb.ConditionalCheckFailedException"


class TestKeepMessageAttributes:
    def test_a_subscriber_gets_them(self, sample: Sample) -> None:
        sns, sqs = sample.engine.client("sns"), sample.engine.client("sqs")
        topic, url = (
            sns.create_topic(Name="news")["TopicArn"],
            sqs.create_queue(QueueName="news", Attributes=OPEN)["QueueUrl"],
        )
        queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        raw = {"RawMessageDelivery": "true"}
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=raw)
        attributes = {"kind": {"DataType": "String", "StringValue": "good"}}
        execution = _do(
            sample, "sns:publish", {"TopicArn": topic, "Message": {"text": "Hi"}, "MessageAttributes": attributes}
        )
        assert execution["status"] == "SUCCEEDED"
        [message] = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"], WaitTimeSeconds=5)["Messages"]
        assert json.loads(message["Body"]) == {"text": "Hi"}
        assert message["MessageAttributes"] == attributes


def _piped(sample: Sample) -> str:
    """Return everything that has come through the pipe."""
    machine = sample.engine.outputs["PublishArn"]
    executions = sample.machines.list_executions(stateMachineArn=machine)["executions"]
    return "".join(sample.machines.describe_execution(executionArn=one["executionArn"])["input"] for one in executions)


class TestFilterPipes:
    def test_only_a_record_that_a_filter_lets_through_is_delivered(self, sample: Sample) -> None:
        dynamodb, table = sample.engine.client("dynamodb"), sample.engine.outputs["TableName"]
        first, last = f"first-{uuid.uuid4().hex}", f"last-{uuid.uuid4().hex}"
        for note, text in ((first, "inserted"), (first, "modified"), (last, "inserted")):
            dynamodb.put_item(TableName=table, Item={"id": {"S": note}, "text": {"S": f"{note} {text}"}})
        wait_for(lambda: last in _piped(sample), "the last note to come through the pipe")
        assert f"{first} inserted" in _piped(sample)
        assert f"{first} modified" not in _piped(sample)


class TestParseConditionsOnce:
    def test_each_condition_is_parsed_once_and_a_wrong_condition_stays_wrong(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dynamodb = importlib.import_module("ministack.services.dynamodb")
        parsed: list[str] = []
        tokenize = dynamodb._tokenize

        def parse(text: str) -> Any:
            parsed.append(text)
            return tokenize(text)

        monkeypatch.setattr(dynamodb, "_tokenize", parse)
        monkeypatch.setattr(dynamodb, "_condition_syntax_error", dynamodb._condition_syntax_error)
        ministack_child.parse_conditions_once(dynamodb)

        def passes(condition: str, number: int) -> bool:
            item, value = {"seats": {"N": str(number)}}, {":one": {"N": "1"}}
            return bool(dynamodb._evaluate_condition(condition, item, value, {}))

        found = [passes(condition, number) for number in (0, 1, 2) for condition in ("seats > :one", "seats = :one")]
        assert found == [False, False, False, True, True, False]
        assert parsed == ["seats > :one", "seats = :one"]
        for _ in range(2):
            with pytest.raises(ValueError, match="Syntax error"):
                passes("seats > > :one", 1)


class TestWakePipes:
    def test_a_stream_reaches_the_machine(self, sample: Sample) -> None:
        sample.work({"action": "work", "note": "published"})
        wait_for(lambda: "published" in _piped(sample), "the note to come through the pipe")

    def test_it_does_not_take_a_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pipes, dynamodb = (importlib.import_module(f"ministack.services.{name}") for name in ("pipes", "dynamodb"))
        monkeypatch.setattr(pipes, "time", pipes.time)
        monkeypatch.setattr(dynamodb, "_emit_stream_event", lambda *_: None)

        class Enough(BaseException):
            pass

        looks = iter(range(3))

        def look() -> None:
            if next(looks, None) is None:
                raise Enough
            dynamodb._emit_stream_event("Notes", "REMOVE", None, None)

        monkeypatch.setattr(pipes, "_poll_once", look)
        ministack_child.wake_pipes(pipes, dynamodb)
        started = time.monotonic()
        with pytest.raises(Enough):
            pipes._poll_loop()
        assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("hook", "modules"),
    [
        (lambda module: ministack_child.answer_converse(module, lambda: None), 1),
        (ministack_child.report_exceptions_by_name, 2),
        (ministack_child.keep_history, 1),
        (ministack_child.record_maps, 1),
        (ministack_child.name_errors_as_aws, 1),
        (ministack_child.wait_until_moments, 1),
        (ministack_child.keep_message_attributes, 1),
        (ministack_child.parse_conditions_once, 1),
        (ministack_child.wake_pipes, 2),
        (lambda module: pipe.install(lambda _: module, ministack_child.need, lambda *_: None), 1),
    ],
)
def test_a_hook_says_what_it_misses(hook: Callable[..., None], modules: int) -> None:
    with pytest.raises(RuntimeError, match=r"^MiniStack \d+\.\d+\.\d+ does not fit: \w+\._\w+ is gone"):
        hook(*[ModuleType("changed")] * modules)


def test_a_worker_script_that_reports_otherwise_is_noticed() -> None:
    module = ModuleType("changed")
    module.__dict__.update(_PYTHON_WORKER_SCRIPT="pass", _execute_function_warm=None)
    with pytest.raises(RuntimeError, match="reports exceptions in another way"):
        ministack_child.report_exceptions_by_name(module, module)


def _do(sample: Sample, service: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run a machine that makes this one request; return the description of the ended execution."""
    task = {"Type": "Task", "Resource": f"arn:aws:states:::{service}", "Parameters": parameters, "End": True}
    arn = sample.machines.create_state_machine(
        name=f"do-{uuid.uuid4().hex[:8]}",
        definition=json.dumps({"StartAt": "Do", "States": {"Do": task}}),
        roleArn=sample.engine.outputs["TestRoleArn"],
    )["stateMachineArn"]
    return sample.finish(sample.machines.start_execution(stateMachineArn=arn, input="{}")["executionArn"])


def _iteration(event: dict[str, Any], events: dict[int, dict[str, Any]]) -> int:
    """Return the index of the iteration that an event belongs to, by the links between events."""
    while event["type"] != "MapIterationStarted":
        event = events[event["previousEventId"]]
    index: int = event["mapIterationStartedEventDetails"]["index"]
    return index
