"""Features that moto lacks and the hooks add, and the parts that the bridge needs. If a hook has no effect, its test
fails."""

import importlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest

from tests.engines.sample_stack import wait_for
from turnstile_cli.engines import bridge, strict, strict_child
from turnstile_cli.engines.errors import EngineError
from turnstile_cli.engines.faults import FOLDER, Fault, Faults
from turnstile_cli.engines.ministack_child import need
from turnstile_cli.engines.process import HOST, free_port

pytestmark = pytest.mark.xdist_group("engines")

ROLE = "arn:aws:iam::000000000000:role/none"
LONG = 600
REFUSED = "[ConditionalCheckFailed, None]"
PARSER = "moto.stepfunctions.parser"
WAIT = "asl.component.state.wait.wait_function"
FUNCTION = f"arn:aws:lambda:us-east-1:{strict_child.ACCOUNT}:function:f"
BRIDGED = ("_dispatch_to_stepfunctions", "_emit_execution_status_event")
CASES = {
    "StateMachines": {"Mocked": {"TestCases": {"twice": {"Call": "calls", "Invoke": "invocations"}}}},
    "MockedResponses": {
        "calls": {
            "0": {"Throw": {"Error": "Busy", "Cause": "not yet"}},
            "1": {"Return": {"number": 1}},
            "2": {"Return": {"number": 2}},
        },
        "invocations": {"0-1": {"Return": {"Payload": {"done": True}}}},
    },
}


class Strict:
    """A strict engine without any other service to call."""

    def __init__(self, client: Any, faults: Faults) -> None:
        self.client = client
        self.faults = faults

    def run(self, name: str, definition: dict[str, Any], case: str = "", data: str = "{}") -> dict[str, Any]:
        """Run a machine once, without a name for the execution; return the description of the ended execution."""
        machine = self.client.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)
        arn = machine["stateMachineArn"] + (f"#{case}" if case else "")
        started = self.client.start_execution(stateMachineArn=arn, input=data)["executionArn"]

        def ended() -> dict[str, Any] | None:
            execution: dict[str, Any] = self.client.describe_execution(executionArn=started)
            return None if execution["status"] == "RUNNING" else execution

        return wait_for(ended, f"the end of {started}")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strict]:
    """Yield a strict engine whose waits last 0 seconds."""
    folder: Path = tmp_path_factory.mktemp("strict")
    mocks, port = folder / "mocks.json", free_port()
    mocks.write_text(json.dumps(CASES), "utf-8")
    faults = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(FOLDER, str(faults))
        with strict.serve(port, f"http://{HOST}:9", folder, wait_scale=0, mocks=mocks):
            client = boto3.client(
                "stepfunctions",
                endpoint_url=f"http://{HOST}:{port}",
                region_name="us-east-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )
            yield Strict(client, Faults(faults))


def test_waits_are_scaled(alone: Strict) -> None:
    wait = {"Type": "Wait", "Seconds": LONG, "End": True}
    assert alone.run("Wait", {"StartAt": "W", "States": {"W": wait}})["status"] == "SUCCEEDED"


def test_a_moment_is_waited_for(alone: Strict) -> None:
    for ahead in (0.4, 2.0, -LONG):
        moment = datetime.now(UTC) + timedelta(seconds=ahead)
        wait = {"Type": "Wait", "Timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "End": True}
        assert (
            alone.run(f"Moment{ahead > 0}{ahead > 1}", {"StartAt": "W", "States": {"W": wait}})["status"] == "SUCCEEDED"
        )
        assert datetime.now(UTC) >= moment


def test_retries_are_scaled(alone: Strict) -> None:
    retry = [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": LONG, "MaxAttempts": 2}]
    call = {"Type": "Task", "Resource": FUNCTION, "Retry": retry, "End": True}
    execution = alone.run("Retry", {"StartAt": "C", "States": {"C": call}})
    assert execution["status"] == "FAILED"
    history = alone.client.get_execution_history(executionArn=execution["executionArn"])["events"]
    assert [event["type"] for event in history].count("LambdaFunctionScheduled") == 3


@pytest.mark.parametrize(("reasons", "end"), [("[None, TransactionConflict]", "Again"), (REFUSED, "Refused")])
def test_a_fault_fails_an_attempt_with_its_error_and_its_cause(alone: Strict, reasons: str, end: str) -> None:
    text, canceled = f"a fault that ends {end}", "DynamoDb.TransactionCanceledException"
    alone.faults.put(Fault(agent_id=text, state="Call", error="DynamoDb.DynamoDbException"))
    alone.faults.put(Fault(agent_id=text, state="Call", error=canceled, cause=f"Cancelled {reasons}"))
    call = {
        "Type": "Task",
        "Resource": FUNCTION,
        "Retry": [{"ErrorEquals": ["DynamoDb.DynamoDbException"], "IntervalSeconds": LONG}],
        "Catch": [{"ErrorEquals": [canceled], "Next": "Route"}],
        "End": True,
    }
    refused = {"Variable": "$.Cause", "StringMatches": "*ConditionalCheckFailed*", "Next": "Refused"}
    states = {"Call": call, "Route": {"Type": "Choice", "Choices": [refused], "Default": "Again"}}
    states |= {name: {"Type": "Fail", "Error": name, "Cause": "for the test"} for name in ("Refused", "Again")}
    assert alone.run(f"Fault{end}", {"StartAt": "Call", "States": states}, data=json.dumps([text]))["error"] == end


def test_executions_without_a_name_are_told_apart(alone: Strict) -> None:
    done = {"StartAt": "D", "States": {"D": {"Type": "Succeed"}}}
    assert alone.run("Done", done)["executionArn"] != alone.run("Done", done)["executionArn"]


def test_a_machine_has_the_arn_that_it_has_on_the_embedded_engine(alone: Strict) -> None:
    execution = alone.run("Name", {"StartAt": "D", "States": {"D": {"Type": "Succeed"}}})
    assert execution["stateMachineArn"] == "arn:aws:states:us-east-1:000000000000:stateMachine:Name"


def test_mocks_number_the_invocations_of_a_state(alone: Strict) -> None:
    call = {
        "Type": "Task",
        "Resource": FUNCTION,
        "Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": LONG}],
        "ResultPath": "$.call",
        "Next": "Invoke",
    }
    invoke = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": "f"},
        "ResultSelector": {"done.$": "$.Payload.done"},
        "ResultPath": "$.invoked",
        "Next": "Again",
    }
    first = {"Variable": "$.call.number", "NumericEquals": 1, "Next": "Call"}
    again = {"Type": "Choice", "Choices": [first], "Default": "Done"}
    states = {"Call": call, "Invoke": invoke, "Again": again, "Done": {"Type": "Succeed"}}
    execution = alone.run("Mocked", {"StartAt": "Call", "States": states}, "twice")
    assert execution["status"] == "SUCCEEDED"
    assert json.loads(execution["output"]) == {"call": {"number": 2}, "invoked": {"done": True}}


@pytest.mark.parametrize(
    ("hook", "module", "name"),
    [
        (lambda _: strict_child.tell_changes(), "backend.execution", "Execution.start"),
        (lambda _: strict_child.use_endpoint("http://unknown"), "asl.utils.boto_client", "boto_client_for"),
        (lambda _: strict_child.scale_waits(0), f"{WAIT}.wait_function", "WaitFunction._wait_interval"),
        (lambda _: strict_child.scale_waits(0), f"{WAIT}.timestamp", "Timestamp"),
        (lambda _: strict_child.parse_once(), "asl.parse.asl_parser", "AmazonStateLanguageParser.parse"),
        *((lambda _: strict_child.parse_once(), module, "parse") for module in strict_child.PATHS),
        (strict_child.meet_faults, "asl.component.state.exec.execute_state", "ExecutionState._evaluate_with_timeout"),
        (strict_child.answer_mocks, "backend.execution", "ExecutionWorker"),
        (strict_child.answer_mocks, "asl.eval.environment", "Environment.get_current_mocked_response"),
        (strict_child.answer_mocks, "mocking.mock_config", "MockTestCase"),
    ],
)
def test_a_hook_says_what_it_misses(
    hook: Callable[[Path], None], module: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    owner: Any = importlib.import_module(f"{PARSER}.{module}")
    *around, last = name.split(".")
    for each in around:
        owner = getattr(owner, each)
    monkeypatch.delattr(owner, last)
    with pytest.raises(RuntimeError, match=rf"^moto \d+\.\d+\.\d+ does not fit: .*{last} is gone"):
        hook(tmp_path / "mocks.json")


@pytest.mark.parametrize("gone", BRIDGED)
def test_the_bridge_says_what_it_misses(gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bridge.STEP_FUNCTIONS, f"http://{HOST}:9")
    monkeypatch.setenv(bridge.BOTO3_ENDPOINT, "")
    changed = ModuleType("changed")
    changed.__dict__.update({name: None for name in BRIDGED if name != gone})
    with pytest.raises(RuntimeError, match=rf"^MiniStack \d+\.\d+\.\d+ does not fit: changed\.{gone} is gone"):
        bridge.install(lambda _: changed, need)


def test_without_moto_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(strict, "NEEDED", ("moto", "not_installed_at_all"))
    with (
        pytest.raises(EngineError, match="not_installed_at_all cannot be imported; install it with `pip install"),
        strict.start("", tmp_path),
    ):
        pass
