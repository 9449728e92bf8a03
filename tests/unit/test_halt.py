"""Halting a stack: what is refused, what is asked, and what AWS may answer."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from typer.testing import CliRunner

from turnstile_cli.cli import app, common
from turnstile_cli.stack import halt as module
from turnstile_cli.stack.client import StackError
from turnstile_cli.stack.halt import StackParts, find_parts, halt, running_executions

TURN, PUBLISH, BROKEN = (f"arn:aws:states:us-east-1:123456789012:stateMachine:{name}" for name in ("T", "P", "B"))
RUN = "arn:aws:states:us-east-1:123456789012:execution:T:{}"
RESOURCES = {
    "AgentWorkflows": ("AWS::DynamoDB::Table", "AgentWorkflows"),
    "AgentWorkflowBus": ("AWS::Events::EventBus", "AgentWorkflowBus"),
    "AgentTurnUpdated": ("AWS::Events::Rule", "AgentWorkflowBus|turnstile-Updated-1"),
    "AgentWatchNow": ("AWS::Events::Rule", "turnstile-Now-1"),
    "OutboxPipe": ("AWS::Pipes::Pipe", "turnstile-outbox"),
    "AgentTurn": ("AWS::StepFunctions::StateMachine", TURN),
}
PARTS = StackParts(
    ["turnstile-Updated-1", "turnstile-Now-1"], ["default", "AgentWorkflowBus"], ["turnstile-outbox"], [TURN]
)
Stubs = Callable[[str], Stubber]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.01)
    monkeypatch.setattr(module, "QUIET", 0.0)


@pytest.fixture
def stubs() -> Iterator[Stubs]:
    """Yield the maker of a service's stub, which gives a test's answers in their order."""
    made: dict[str, Stubber] = {}

    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")

    def stub(service: Any) -> Stubber:
        if service not in made:
            made[service] = Stubber(session.client(service))
            made[service].activate()
        return made[service]

    yield stub
    for each in made.values():
        each.assert_no_pending_responses()


def client(stubs: Stubs) -> Callable[[str], Any]:
    return lambda service: stubs(service).client


def answer_resources(stubs: Stubs, resources: dict[str, tuple[str, str]], status: str = "CREATE_COMPLETE") -> None:
    found = [
        {
            "LogicalResourceId": name,
            "ResourceType": kind,
            "PhysicalResourceId": physical,
            "ResourceStatus": status,
            "LastUpdatedTimestamp": "2026-01-01T00:00:00Z",
        }
        for name, (kind, physical) in resources.items()
    ]
    stubs("cloudformation").add_response("list_stack_resources", {"StackResourceSummaries": found})


def answer_running(stubs: Stubs, *names: str) -> None:
    executions = [
        {"executionArn": RUN.format(name), "stateMachineArn": TURN, "name": name, "status": "RUNNING", "startDate": 0}
        for name in names
    ]
    stubs("stepfunctions").add_response("list_executions", {"executions": executions})


def answer_stop(stubs: Stubs, name: str) -> None:
    asked = {"executionArn": RUN.format(name), "cause": ANY}
    stubs("stepfunctions").add_response("stop_execution", {"stopDate": 0}, asked)


# ---- Which stack


def test_the_parts_of_a_stack(stubs: Stubs) -> None:
    answer_resources(stubs, RESOURCES)
    assert find_parts("turnstile", client(stubs)) == PARTS


def test_a_resource_that_is_deleted_already_is_no_part(stubs: Stubs) -> None:
    answer_resources(stubs, RESOURCES, "DELETE_COMPLETE")
    assert find_parts("turnstile", client(stubs)) == StackParts([], ["default"], [], [])


def test_a_stack_that_does_not_exist_is_refused(stubs: Stubs) -> None:
    missing = "Stack with id nowhere does not exist"
    stubs("cloudformation").add_client_error("list_stack_resources", "ValidationError", missing)
    with pytest.raises(StackError, match=f"The stack nowhere cannot be read: {missing}"):
        find_parts("nowhere", client(stubs))


def test_a_stack_of_another_template_is_refused(stubs: Stubs) -> None:
    answer_resources(stubs, {"Machine": RESOURCES["AgentTurn"]})
    with pytest.raises(StackError, match="The stack shop has no resource AgentWorkflows"):
        find_parts("shop", client(stubs))


# ---- What AWS may answer


def test_a_machine_whose_executions_cannot_be_listed_keeps_no_other_from_being_listed(stubs: Stubs) -> None:
    for error in ("StateMachineTypeNotSupported", "InvalidArn", "StateMachineDoesNotExist"):
        stubs("stepfunctions").add_client_error("list_executions", error)
    answer_running(stubs, "1")
    parts = PARTS._replace(machines=[PUBLISH, BROKEN, BROKEN, TURN])
    assert running_executions(parts, client(stubs)) == [RUN.format("1")]


def test_what_is_gone_or_has_ended_is_passed_over(stubs: Stubs) -> None:
    for bus in PARTS.buses:
        asked = {"Name": "turnstile-Now-1", "EventBusName": bus}
        stubs("events").add_client_error("disable_rule", "ResourceNotFoundException", expected_params=asked)
    stubs("pipes").add_client_error("stop_pipe", "ConflictException", expected_params={"Name": "turnstile-outbox"})
    answer_running(stubs, "1", "2")
    stubs("stepfunctions").add_client_error("stop_execution", "ValidationException", "Execution is not running")
    answer_stop(stubs, "2")
    answer_running(stubs)
    assert halt(PARTS._replace(rules=["turnstile-Now-1"]), client(stubs)) == [RUN.format("2")]


def test_an_execution_that_starts_late_is_stopped_too(stubs: Stubs) -> None:
    for names in (["1"], ["2"], []):
        answer_running(stubs, *names)
        for name in names:
            answer_stop(stubs, name)
    assert halt(StackParts([], [], [], [TURN]), client(stubs)) == [RUN.format("1"), RUN.format("2")]


def test_executions_that_go_on_starting_are_told_of(stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", -1.0)
    answer_running(stubs, "1")
    with pytest.raises(
        StackError, match=r"Executions still start after -1 seconds, the last is .*:1; stop what starts"
    ):
        halt(StackParts([], [], [], [TURN]), client(stubs))


# ---- The question


def run(*options: str, typed: str = "") -> Any:
    return CliRunner().invoke(app, ["halt", "--stack", "turnstile", *options], input=typed)


@pytest.fixture
def asked(stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    """Return the stubs of a stack that the command finds."""
    monkeypatch.setattr(common, "clients", lambda name: (name, client(stubs)))
    answer_resources(stubs, {name: RESOURCES[name] for name in ("AgentWorkflows", "AgentWatchNow", "AgentTurn")})
    return stubs


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(("options", "terminal"), [([], False), (["--json"], True)])
def test_a_pipe_or_a_program_must_say_yes(monkeypatch: pytest.MonkeyPatch, options: list[str], terminal: bool) -> None:
    monkeypatch.setattr(common, "is_interactive", lambda: terminal)
    result = run(*options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "turnstile: Without a terminal, or with --json, add --yes to halt the stack turnstile\n"


def test_a_person_is_asked(asked: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "is_interactive", lambda: True)
    answer_running(asked, "1")
    result = run(typed="n\n")
    assert result.exit_code == 1
    assert "The stack turnstile has 1 running executions." in " ".join(result.stdout.split())
    assert result.stdout.endswith("Nothing was halted.\n")


def test_a_program_is_told_what_was_stopped(asked: Stubs) -> None:
    asked("events").add_response("disable_rule", {})
    answer_running(asked, "1")
    answer_stop(asked, "1")
    answer_running(asked)
    result = run("--yes", "--json")
    assert json.loads(result.stdout) == {"stack": "turnstile", "rules": 1, "stopped": [RUN.format("1")]}
