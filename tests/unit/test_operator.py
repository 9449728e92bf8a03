"""An operator's commands: when decide and resume are allowed, the events they send, and the outcome they report."""

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from typer.testing import CliRunner

from tests.unit.records import definition, effect, state, user
from tests.unit.stacks import OUTPUTS, mock_stack, put
from turnstile_agents.events import AgentError
from turnstile_agents.items import AgentState, Attributes
from turnstile_agents.operator import EffectAnswer, OperatorDecision
from turnstile_agents.record import Status
from turnstile_cli import cli
from turnstile_cli.cli import common
from turnstile_cli.stack import operator
from turnstile_cli.stack.client import Stack, StackError, UnknownAgent
from turnstile_cli.stack.operator import Position, decide, resume, wait_for_decision, wait_for_recovery

NOON, LATER = "2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z"
TURN, RECOVERY = "arn:turn", "arn:recovery"
BOOKED, MAILED = "EFFECT#000002#0", "EFFECT#000002#1"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "INTERVAL", 0.01)
    monkeypatch.setattr(operator, "CHECK_INTERVAL", 0.01)


def stubbed(service: Any) -> Stubber:
    return Stubber(boto3.client(service, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t"))


@pytest.fixture
def states() -> Iterator[Stubber]:
    """Yield a stub of Step Functions that gives a test's answers in their order."""
    with stubbed("stepfunctions") as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def events() -> Iterator[Stubber]:
    """Yield a stub of the bus."""
    with stubbed("events") as stubber:
        stubber.add_response("create_event_bus", {})
        yield stubber


@pytest.fixture
def stack(states: Stubber, events: Stubber, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setattr(common, "connect", lambda _: stack)
    with mock_stack(clients={"stepfunctions": states.client, "events": events.client}) as stack:
        version = {"agentId": "DEFINITION#travel", "record": "VERSION#000001"}
        put(stack, {**version, "definition": definition().model_dump_json(by_alias=True)})
        put(stack, {**user(), "agentId": "a-1", "at": NOON, "execution": TURN})
        yield stack


def standing(status: str, **fields: str) -> Attributes:
    times = dict.fromkeys(("lastUpdated", "createdAt", "lastPlanGeneratedAt", "lastToolExecutionAt"), NOON)
    counters = dict.fromkeys(("invocationCount", "errorCount", "toolCalls"), "1")
    rest = {"owner": "NONE", "nextAction": "NONE", "lastUpdatedBy": TURN, "error": "", "errorMessage": ""}
    return state(**{**times, **counters, **rest, "status": status, **fields})


def question(asked: str = NOON) -> Attributes:
    token = {"token": f"token of {asked}", "questionId": "1"}
    return {"agentId": "a-1", "record": "OPERATOR", "askedAt": asked, "question": "?", "reminders": "0", **token}


def answer(states: Stubber, decision: str, note: str = "", effects: list[dict[str, Any]] | None = None) -> None:
    """Let the waiting task accept this answer."""
    by = {"by": "ana", "source": "com.agent.workflow"}
    output = json.dumps({"decision": decision, "note": note, "effects": effects or [], **by}, ensure_ascii=False)
    states.add_response("send_task_success", {}, {"taskToken": f"token of {NOON}", "output": output})


def asking(stack: Stack) -> None:
    """Store an agent whose recovery waits for its operator."""
    put(stack, standing("WAITING_FOR_OPERATOR", owner=f"{RECOVERY}#{NOON}", error="States.Runtime"))
    put(stack, question())


def described(arn: str, status: str, **fields: Any) -> dict[str, Any]:
    machine = OUTPUTS["AgentRecoveryArn"]
    return {"executionArn": arn, "stateMachineArn": machine, "status": status, "startDate": 0, "input": "{}", **fields}


def owner_is(states: Stubber, arn: str, status: str, **fields: Any) -> None:
    states.add_response("describe_execution", described(arn, status, **fields), {"executionArn": arn})


# ---- decide


def test_a_decision_answers_the_task_that_waits(stack: Stack, states: Stubber) -> None:
    asking(stack)
    answer(states, "ABORT", "zu spät")
    before = decide(stack, "a-1", OperatorDecision.ABORT, "zu spät")
    assert before == Position(agent_id="a-1", step=1, updated=NOON, asked=NOON, execution=RECOVERY)


def uncertain(stack: Stack) -> None:
    """Store an agent whose recovery waits for its operator, with two uncertain effects."""
    asking(stack)
    for key, tool in ((BOOKED, "book"), (MAILED, "mail")):
        put(stack, {"agentId": "a-1", **effect(key, "UNCERTAIN", tool)})


def test_a_decision_names_what_happened_and_what_did_not(stack: Stack, states: Stubber) -> None:
    uncertain(stack)
    heard = [
        {"key": BOOKED, "happened": True, "result": {"id": "B=7"}},
        {"key": MAILED, "happened": False, "result": None},
    ]
    answer(states, "REPLAN", effects=heard)
    options = ["--happened", f'{BOOKED}={{"id": "B=7"}}', "--not", MAILED]
    assert CliRunner().invoke(cli.app, ["decide", "a-1", "REPLAN", "--no-wait", *options]).exit_code == 0
    heard = [{"key": BOOKED, "happened": True, "result": None}, {"key": MAILED, "happened": True, "result": None}]
    answer(states, "RETRY", effects=heard)
    options = ["--happened", BOOKED, "--happened", MAILED]
    assert CliRunner().invoke(cli.app, ["decide", "a-1", "RETRY", "--no-wait", *options]).exit_code == 0


@pytest.mark.parametrize("decision", ["RETRY", "REPLAN", "COMPENSATE"])
def test_without_it_the_error_says_what_is_missing(stack: Stack, decision: str) -> None:
    uncertain(stack)
    result = CliRunner().invoke(cli.app, ["decide", "a-1", decision, "--not", BOOKED])
    assert result.exit_code == 1
    assert f'Missing: {MAILED}, mail {{"city": "Paris"}}, since 2026-01-01T00:00:00.000Z. Look in' in result.stderr
    assert f"`turnstile decide a-1 {decision} --not '{BOOKED}' --not '{MAILED}'`" in result.stderr


def test_an_agent_may_be_ended_without_it(stack: Stack, states: Stubber) -> None:
    uncertain(stack)
    answer(states, "ABORT")
    decide(stack, "a-1", OperatorDecision.ABORT)


def test_a_decision_about_an_unknown_effect(stack: Stack) -> None:
    asking(stack)
    nothing = [EffectAnswer(key="EFFECT#000007#0", happened=False)]
    with pytest.raises(StackError, match="this agent has no effect EFFECT#000007#0$"):
        decide(stack, "a-1", OperatorDecision.RETRY, effects=nothing)


def test_a_result_that_is_no_json(stack: Stack) -> None:
    uncertain(stack)
    result = CliRunner().invoke(cli.app, ["decide", "a-1", "RETRY", "--happened", f"{BOOKED}=B-7"])
    assert result.exit_code == 2
    assert "is no JSON" in result.stderr


def test_a_note_that_is_too_long(stack: Stack) -> None:
    asking(stack)
    with pytest.raises(StackError, match="note: String should have at most 4000 characters"):
        decide(stack, "a-1", OperatorDecision.RETRY, "x" * 4001)


def test_nothing_to_decide(stack: Stack) -> None:
    put(stack, question())
    instead = {
        "WAITING_FOR_INPUT": '. `turnstile input a-1 "…"` answers it',
        "WAITING_FOR_APPROVAL": ". `turnstile approve a-1` decides about its calls",
        "WAITING_FOR_AGENT": ". `turnstile show a-1` names the agents that it waits for",
    }
    for status in set(Status) - {Status.WAITING_FOR_OPERATOR}:
        put(stack, standing(status))
        with pytest.raises(StackError) as raised:
            decide(stack, "a-1", OperatorDecision.RETRY)
        told = f"Agent a-1 is {status} and waits for no operator; nothing was changed{instead.get(status, '')}"
        assert str(raised.value) == told


def test_a_question_that_is_about_to_be_asked(stack: Stack) -> None:
    put(stack, standing("WAITING_FOR_OPERATOR"))
    with pytest.raises(StackError, match="just about to ask its operator; decide again in a moment"):
        decide(stack, "a-1", OperatorDecision.RETRY)


def test_a_decision_without_an_open_question(stack: Stack, states: Stubber) -> None:
    asking(stack)
    for code in ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken"):
        states.add_client_error("send_task_success", code, "gone")
        result = CliRunner().invoke(cli.app, ["decide", "a-1", "RETRY"])
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert result.stderr.startswith("turnstile: No recovery waits for a decision on agent a-1: a decision was ")


def test_waiting_until_the_decision_is_in_the_journal(stack: Stack, states: Stubber) -> None:
    before = Position("a-1", step=1, updated=NOON, asked=NOON, execution=RECOVERY)
    asking(stack)
    for _ in range(2):
        owner_is(states, RECOVERY, "RUNNING")
    looks = iter([None, None, standing("PLANNING", step="2", nextAction="PLANNING")])
    look = stack.table.state

    def state_of(agent_id: str) -> AgentState | None:
        if now := next(looks):
            put(stack, now)
        return look(agent_id)

    stack.table.state = state_of  # type: ignore[method-assign]
    wait_for_decision(stack, before)
    assert next(looks, "none left") == "none left"


def test_an_operator_is_asked_again(stack: Stack) -> None:
    asking(stack)
    put(stack, question(LATER))
    wait_for_decision(stack, Position("a-1", step=1, updated=NOON, asked=NOON, execution=RECOVERY))


def test_a_recovery_that_dies_of_the_decision(stack: Stack, states: Stubber) -> None:
    asking(stack)
    owner_is(states, RECOVERY, "FAILED", error="States.Runtime", cause="no path")
    with pytest.raises(
        StackError, match=r"^Agent a-1 has not changed; its recovery arn:recovery failed. States.Runtime: no path$"
    ):
        wait_for_decision(stack, Position("a-1", step=1, updated=NOON, asked=NOON, execution=RECOVERY))


def test_waiting_is_bounded(stack: Stack, states: Stubber) -> None:
    asking(stack)
    owner_is(states, RECOVERY, "RUNNING")
    with pytest.raises(StackError, match="Recovery has not moved agent a-1 in 0 seconds; `turnstile trace a-1`"):
        wait_for_decision(stack, Position("a-1", step=1, updated=NOON, asked=NOON, execution=RECOVERY), timeout=0)


def test_the_command_follows_the_agent(stack: Stack, states: Stubber, monkeypatch: pytest.MonkeyPatch) -> None:
    put(stack, standing("WAITING_FOR_OPERATOR", step="0", owner=f"{RECOVERY}#{NOON}"))
    put(stack, question())
    answer(states, "RETRY")
    send = stack.stepfunctions.send_task_success

    def send_and_move(**sent: Any) -> Any:
        put(stack, standing("FAILED", step="1", error="GivenUp"))
        return send(**sent)

    monkeypatch.setattr(stack.stepfunctions, "send_task_success", send_and_move)
    result = CliRunner().invoke(cli.app, ["decide", "a-1", "RETRY", "--json"])
    assert (result.exit_code, json.loads(result.stdout)["status"]) == (1, "FAILED")


def test_the_command_without_waiting(stack: Stack, states: Stubber) -> None:
    for options, told in (([], "Decided for agent a-1: RETRY.\n"), (["--json"], '"decision": "RETRY"}\n')):
        asking(stack)
        answer(states, "RETRY")
        result = CliRunner().invoke(cli.app, ["decide", "a-1", "RETRY", "--no-wait", *options])
        assert result.exit_code == 0
        assert result.stdout.endswith(told)
    assert CliRunner().invoke(cli.app, ["decide", "a-1", "MAYBE"]).exit_code == 2


# ---- resume


def expect(events: Stubber, **detail: Any) -> None:
    """Let the bus accept an AgentError with these fields."""
    common = {"agentId": "a-1", "step": 1, "error": "TurnDied"}
    sent = AgentError.model_validate({**common, **detail})
    entry = {
        "Source": "com.agent.workflow",
        "DetailType": "AgentError",
        "EventBusName": "AgentWorkflowBus",
        "Detail": sent.model_dump_json(by_alias=True),
    }
    events.add_response("put_events", {"FailedEntryCount": 0, "Entries": [{"EventId": "e-1"}]}, {"Entries": [entry]})


def test_taking_over_from_an_owner_that_has_ended(stack: Stack, states: Stubber, events: Stubber) -> None:
    for status in ("PLANNING", "TOOL_EXECUTION_PENDING", "WAITING_FOR_OPERATOR", "PLANNING_FAILED"):
        put(stack, standing(status, owner=f"arn:dead#{NOON}"))
        owner_is(states, "arn:dead", "ABORTED")
        message = "arn:dead has ended; an operator sent it to recovery."
        expect(events, errorMessage=message, currentState=status, executionArn="arn:dead")
        before, sent = resume(stack, "a-1")
        assert (before.step, before.execution) == (1, "arn:dead")
        assert (sent.event_id, sent.machine) == ("e-1", OUTPUTS["AgentRecoveryArn"])


def test_an_owner_that_step_functions_has_forgotten(stack: Stack, states: Stubber, events: Stubber) -> None:
    put(stack, standing("PLANNING", owner=f"arn:dead#{NOON}"))
    states.add_client_error("describe_execution", "ExecutionDoesNotExist")
    message = "arn:dead has ended; an operator sent it to recovery."
    expect(events, errorMessage=message, currentState="PLANNING", executionArn="arn:dead")
    assert resume(stack, "a-1")[1].event_id == "e-1"


def test_an_agent_without_an_owner(stack: Stack, events: Stubber) -> None:
    put(stack, standing("PLANNING_FAILED", error="States.Timeout"))
    message = "No execution works on it; an operator sent it to recovery."
    expect(events, errorMessage=message, currentState="PLANNING_FAILED", executionArn=TURN)
    assert resume(stack, "a-1")[0].execution == "NONE"


def test_nothing_to_resume(stack: Stack) -> None:
    for status, message in {
        "COMPLETED": "Agent a-1 is COMPLETED: it is finished and cannot be resumed",
        "FAILED": "Agent a-1 is FAILED: it is finished",
        "CANCELLED": "Agent a-1 is CANCELLED: it is finished",
        "WAITING_FOR_INPUT": "Agent a-1 is WAITING_FOR_INPUT, and cannot be resumed before it gets what it waits for.",
        "WAITING_FOR_APPROVAL": "Agent a-1 is WAITING_FOR_APPROVAL, and cannot be resumed before it gets",
        "WAITING_FOR_AGENT": "Agent a-1 is WAITING_FOR_AGENT, and cannot be resumed before it gets what it waits for",
    }.items():
        put(stack, standing(status))
        with pytest.raises(StackError) as raised:
            resume(stack, "a-1")
        assert str(raised.value).startswith(message)


def test_the_lease_is_never_taken_from_a_running_execution(stack: Stack, states: Stubber) -> None:
    for status, message in {
        "PLANNING": "works on agent a-1: arn:turn is RUNNING. If it hangs, stop that execution, then resume",
        "WAITING_FOR_OPERATOR": "waits for its operator: `turnstile decide a-1 RETRY|REPLAN|COMPENSATE|ABORT`",
    }.items():
        put(stack, standing(status, owner=f"{TURN}#{NOON}"))
        owner_is(states, TURN, "RUNNING")
        with pytest.raises(StackError) as raised:
            resume(stack, "a-1")
        assert str(raised.value).endswith(message)


def test_an_unknown_agent(stack: Stack, states: Stubber) -> None:
    for act in (lambda: resume(stack, "b"), lambda: decide(stack, "b", OperatorDecision.RETRY)):
        states.add_response("list_executions", {"executions": []})
        with pytest.raises(UnknownAgent):
            act()


def died(stack: Stack, events: Stubber) -> None:
    """Store a failed agent, and expect the event that sends it to recovery."""
    put(stack, standing("PLANNING_FAILED", error="States.Timeout"))
    message = "No execution works on it; an operator sent it to recovery."
    expect(events, errorMessage=message, currentState="PLANNING_FAILED", executionArn=TURN)


def runs(states: Stubber, event_id: str, status: str, **fields: Any) -> None:
    """Let the machine's list hold a recovery that this event has started, and an older recovery."""
    listed = {"executionArn": RECOVERY, "stateMachineArn": "arn:m", "name": "r", "status": status}
    now = dt.datetime.now(dt.UTC)
    old = {**listed, "executionArn": "arn:old", "startDate": now - dt.timedelta(hours=1)}
    states.add_response("list_executions", {"executions": [{**listed, "startDate": now}, old]})
    owner_is(states, RECOVERY, status, input=json.dumps({"id": event_id}), **fields)


def test_waiting_for_the_recovery_that_the_event_starts(stack: Stack, states: Stubber, events: Stubber) -> None:
    died(stack, events)
    before, sent = resume(stack, "a-1")
    states.add_response("list_executions", {"executions": []})
    runs(states, "another event", "SUCCEEDED")
    runs(states, "e-1", "SUCCEEDED")
    owner_is(states, RECOVERY, "SUCCEEDED")
    with pytest.raises(
        StackError,
        match=r"^Agent a-1 has not changed; its recovery arn:recovery is SUCCEEDED: it found nothing to do. `turn",
    ):
        wait_for_recovery(stack, before, sent)


def test_an_agent_that_has_moved_meanwhile(stack: Stack, states: Stubber, events: Stubber) -> None:
    died(stack, events)
    before, sent = resume(stack, "a-1")
    put(stack, standing("PLANNING", owner="arn:other#t", lastUpdated=LATER))
    runs(states, "e-1", "SUCCEEDED")
    owner_is(states, RECOVERY, "SUCCEEDED")
    wait_for_recovery(stack, before, sent)


def test_an_event_that_starts_nothing(
    stack: Stack, states: Stubber, events: Stubber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator, "UNANSWERED", 0)
    died(stack, events)
    before, sent = resume(stack, "a-1")
    states.add_response("list_executions", {"executions": []})
    with pytest.raises(
        StackError, match=r"^The event e-1 was put on the bus and started no recovery in 0 seconds; look"
    ):
        wait_for_recovery(stack, before, sent)


def test_the_command_resumes(stack: Stack, states: Stubber, events: Stubber, monkeypatch: pytest.MonkeyPatch) -> None:
    died(stack, events)
    result = CliRunner().invoke(cli.app, ["resume", "a-1", "--no-wait"])
    assert (result.exit_code, result.stdout) == (0, "Asked recovery to take over agent a-1.\n")
    died(stack, events)
    result = CliRunner().invoke(cli.app, ["resume", "a-1", "--no-wait", "--json"])
    assert json.loads(result.stdout) == {"agentId": "a-1", "eventId": "e-1"}
    died(stack, events)
    runs(states, "e-1", "RUNNING")
    owner_is(states, RECOVERY, "RUNNING")
    describe = stack.stepfunctions.describe_execution

    def describe_and_move(**which: Any) -> Any:
        put(stack, standing("FAILED", step="2", error="GivenUp"))
        return describe(**which)

    put(stack, {**user(), "agentId": "a-1", "record": "STEP#000002", "at": NOON, "execution": RECOVERY})
    monkeypatch.setattr(stack.stepfunctions, "describe_execution", describe_and_move)
    result = CliRunner().invoke(cli.app, ["resume", "a-1", "--json"])
    assert (result.exit_code, json.loads(result.stdout)["status"]) == (1, "FAILED")
