"""A stack from outside: events sent, data read, and messages when something is wrong."""

import datetime as dt
import getpass
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from tests.unit.records import (
    COMMITTED,
    answered,
    call,
    came,
    decided,
    decision,
    definition,
    record,
    ruled,
    said,
    state,
    use,
    user,
)
from tests.unit.stacks import OUTPUTS, mock_stack, put
from turnstile_agents.events import AgentRequested
from turnstile_agents.items import AgentState, Attributes
from turnstile_agents.record import Decision, Status, Verdict
from turnstile_cli.stack import client
from turnstile_cli.stack.client import RequestRefused, Stack, StackError, TurnDied, UnknownAgent

DEFINITION = definition().model_dump_json(by_alias=True)
TIMES = {
    **dict.fromkeys(("createdAt", "lastPlanGeneratedAt", "lastToolExecutionAt"), "2026-01-01T00:00:00Z"),
    **dict.fromkeys(("invocationCount", "errorCount", "toolCalls"), "1"),
}
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
START, TURN = "arn:aws:states:us-east-1:123456789012:execution:turnstile-AgentStart:", "arn:execution"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "INTERVAL", 0.01)
    monkeypatch.setattr(client, "CHECK_INTERVAL", 0.01)


@pytest.fixture
def states() -> Iterator[Stubber]:
    """Yield a stub of Step Functions that gives a test's answers in their order."""
    with Stubber(_client("stepfunctions")) as stubber:
        yield stubber


@pytest.fixture
def stack(states: Stubber) -> Iterator[Stack]:
    with mock_stack(clients={"stepfunctions": states.client}) as stack:
        yield stack


def _client(service: Any) -> Any:
    return boto3.client(service, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")


def described(arn: str, status: str, started: dt.datetime = NOON, **fields: Any) -> dict[str, Any]:
    return {
        "executionArn": arn,
        "stateMachineArn": OUTPUTS["AgentStartArn"],
        "status": status,
        "startDate": started,
        "input": "{}",
        **fields,
    }


def refuse(states: Stubber, event: dict[str, Any], error: str, cause: str) -> None:
    """Let AgentStart or AgentInput fail for this event, just now."""
    now = dt.datetime.now(dt.UTC)
    listed = {
        "executionArn": START + "1",
        "stateMachineArn": OUTPUTS["AgentStartArn"],
        "name": "1",
        "status": "FAILED",
        "startDate": now,
    }
    states.add_response("list_executions", {"executions": [listed]})
    failed = described(START + "1", "FAILED", now, input=json.dumps(event), error=error, cause=cause)
    states.add_response("describe_execution", failed)


def journal(item: Attributes, execution: str = TURN) -> Attributes:
    """Return a journal's item with the attributes of every entry."""
    usage = json.dumps({"inputTokens": 1, "outputTokens": 1, "costMicroUsd": 1, "modelId": "m"})
    return {**item, "execution": execution, "usage": usage}


def standing(**fields: str) -> Attributes:
    return state(**{"lastUpdated": "2026-01-01T00:00:00Z", "lastUpdatedBy": TURN, "createdBy": "e-1", **fields})


def test_a_stack_without_an_output() -> None:
    with pytest.raises(StackError, match="The stack old has no output BusName, ModelId"):
        Stack("old", {name: OUTPUTS[name] for name in OUTPUTS.keys() - {"BusName", "ModelId"}}, _client)


def test_a_stack_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stubber(_client("cloudformation")) as cloudformation:
        message = "Stack with id nope does not exist"
        cloudformation.add_client_error("describe_stacks", "ValidationError", message)
        monkeypatch.setattr(boto3, "Session", lambda: SimpleNamespace(client=lambda _: cloudformation.client))
        with pytest.raises(StackError, match=f"The stack nope cannot be read: {message}"):
            Stack.named("nope")


def test_aws_without_a_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StackError, match=r"You must specify a region. Set AWS_PROFILE and AWS_DEFAULT_REGION"):
        Stack.named("turnstile")


# ---- Events


def test_a_request_holds_only_what_was_given() -> None:
    entry = {
        "Source": "com.agent.workflow",
        "DetailType": "AgentRequested",
        "EventBusName": "AgentWorkflowBus",
        "Detail": '{"prompt":"Fly","agentId":"mine","by":"ana"}',
    }
    with Stubber(_client("events")) as events, mock_stack(clients={"events": _with_bus(events)}) as stack:
        events.add_response(
            "put_events", {"FailedEntryCount": 0, "Entries": [{"EventId": "e-1"}]}, {"Entries": [entry]}
        )
        sent = stack.request(AgentRequested(prompt="Fly", agent_id="mine"))
    assert (sent.event_id, sent.agent_id, sent.machine) == ("e-1", "mine", OUTPUTS["AgentStartArn"])


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def fail() -> str:
        raise error("no name")

    monkeypatch.setattr(getpass, "getuser", fail)
    assert client.user_name() == ""
    monkeypatch.setattr(getpass, "getuser", lambda: "x" * 300)
    assert client.user_name() == "x" * 256


def test_an_event_that_the_bus_does_not_take() -> None:
    failed = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"}]}
    with Stubber(_client("events")) as events, mock_stack(clients={"events": _with_bus(events)}) as stack:
        events.add_response("put_events", failed, {"Entries": ANY})
        with pytest.raises(StackError, match=r"did not take AgentInputReceived. ThrottlingException: slow down"):
            stack.send_input("a-1", "hello")


def _with_bus(events: Stubber) -> Any:
    events.add_response("create_event_bus", {})
    return events.client


def test_a_goal_that_is_too_long(stack: Stack) -> None:
    with pytest.raises(StackError, match="more than 4096 bytes; give a short goal"):
        stack.request(AgentRequested(prompt="ü" * 2049))


def test_a_request_without_an_id_names_the_agent_after_the_event(stack: Stack) -> None:
    sent = stack.request(AgentRequested(prompt="Fly"))
    assert sent.agent_id == sent.event_id
    put(stack, standing(agentId=sent.agent_id, createdBy=sent.event_id))
    stack.wait_for(sent)


def test_a_refused_request(stack: Stack, states: Stubber) -> None:
    sent = stack.request(AgentRequested(prompt="Fly", agent_id="a-1"))
    put(stack, standing(createdBy="another event"))
    refuse(states, {"id": sent.event_id}, "AgentExists", "Agent a-1 exists already.")
    with pytest.raises(RequestRefused, match=r"The request was refused. AgentExists: Agent a-1 exists") as raised:
        stack.wait_for(sent)
    assert (raised.value.error, raised.value.execution) == ("AgentExists", START + "1")


def test_an_input_has_arrived_once_it_is_kept(stack: Stack) -> None:
    sent = stack.send_input("a-1", "hello")
    put(stack, came(sent.event_id, "AgentInputReceived", text="hello"))
    stack.wait_for(sent)


def test_a_request_with_an_id_of_its_own_is_known_by_it(stack: Stack) -> None:
    sent = stack.request(AgentRequested(prompt="Fly", agent_id="a-1", request_id="order-7"))
    put(stack, standing(createdBy="order-7"))
    stack.wait_for(sent)


def test_decisions_and_cancellations_hold_only_what_is_theirs() -> None:
    details = {
        "AgentDecisionGiven": '{"agentId":"a-1","approvalId":"2","decision":"REFUSE","note":"Too dear.","by":"ana"}',
        "AgentCancelRequested": '{"agentId":"a-1","note":"","by":"ana"}',
    }
    with Stubber(_client("events")) as events, mock_stack(clients={"events": _with_bus(events)}) as stack:
        for kind, detail in details.items():
            entry = {
                "Source": "com.agent.workflow",
                "DetailType": kind,
                "EventBusName": "AgentWorkflowBus",
                "Detail": detail,
            }
            taken = {"FailedEntryCount": 0, "Entries": [{"EventId": "e-1"}]}
            events.add_response("put_events", taken, {"Entries": [entry]})
        for sent in (stack.decide_approval("a-1", "2", Verdict.REFUSE, "Too dear."), stack.cancel("a-1")):
            assert (sent.event_id, sent.agent_id, sent.machine) == ("e-1", "a-1", OUTPUTS["AgentInputArn"])


@pytest.mark.parametrize("what", ["decision", "cancellation"])
def test_a_decision_or_a_cancellation_has_arrived_once_it_is_kept(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(client, "CHECK_INTERVAL", 60)
    put(stack, standing(status="WAITING_FOR_APPROVAL"))
    sent = stack.decide_approval("a-1", "2", Verdict.APPROVE) if what == "decision" else stack.cancel("a-1")
    with pytest.raises(StackError, match="had no result within"):
        stack.wait_for(sent, timeout=0)
    put(stack, came(sent.event_id, "AgentCancelRequested"))
    stack.wait_for(sent)


def test_what_has_ended_meanwhile_is_not_cancelled_and_not_waited_for(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CHECK_INTERVAL", 60)
    put(stack, standing(status="COMPLETED"))
    stack.wait_for(stack.cancel("a-1"))
    with pytest.raises(StackError, match="had no result within"):
        stack.wait_for(stack.decide_approval("a-1", "2", Verdict.APPROVE), timeout=0)


def test_a_refused_decision(stack: Stack, states: Stubber) -> None:
    sent = stack.decide_approval("a-1", "2", Verdict.APPROVE)
    refuse(states, {"id": sent.event_id}, "DecisionRefused", "Agent a-1 waits for no approval 2.")
    with pytest.raises(RequestRefused, match=r"The decision was refused. DecisionRefused: Agent a-1 waits for no appr"):
        stack.wait_for(sent)


def test_the_refusal_of_another_event_is_ignored(stack: Stack, states: Stubber) -> None:
    sent = stack.send_input("a-1", "hello")
    for _ in range(10):
        refuse(states, {"id": "another event"}, "AgentUnknown", "There is no agent b.")
    with pytest.raises(StackError, match="had no result within"):
        stack.wait_for(sent, timeout=0.03)


def test_an_event_that_nothing_comes_of(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnstile_cli.stack.client.CHECK_INTERVAL", 60)
    sent = stack.send_input("a-1", "hello")
    with pytest.raises(StackError, match=r"had no result within 0 seconds; look at the executions of .*AgentInput"):
        stack.wait_for(sent, timeout=0)


# ---- Agents


def test_agents_by_status(stack: Stack) -> None:
    put(stack, standing(agentId="old", status="COMPLETED", lastUpdated="2026-01-01T00:00:00Z"))
    put(stack, standing(agentId="new", status="COMPLETED", lastUpdated="2026-01-03T00:00:00Z"))
    put(stack, standing(agentId="busy", status="PLANNING", lastUpdated="2026-01-02T00:00:00Z"))
    assert [agent.agent_id for agent in stack.agents()] == ["new", "busy", "old"]
    assert [agent.agent_id for agent in stack.agents(Status.COMPLETED)] == ["new", "old"]
    assert stack.agents(Status.FAILED) == []


def test_an_unknown_agent(stack: Stack, states: Stubber) -> None:
    states.add_response("list_executions", {"executions": []})
    with pytest.raises(UnknownAgent, match="There is no agent unknown in the stack turnstile"):
        stack.read_agent("unknown")
    refuse(states, {"id": "e-1", "detail": {"agentId": "mine"}}, "DefinitionUnknown", "No agent named x is registered.")
    with pytest.raises(UnknownAgent, match=r"its request was refused. DefinitionUnknown: No agent named x"):
        stack.read_agent("mine")


def test_executions_in_order_of_their_start(stack: Stack, states: Stubber) -> None:
    starts = {"first": NOON, "second": NOON + dt.timedelta(minutes=1)}
    items = [
        standing(lastUpdatedBy="second"),
        journal(user(), execution="first"),
        journal(answered(2, COMMITTED), execution="second"),
        journal(answered(3, COMMITTED), execution="gone"),
    ]
    for arn in sorted({"first", "second", "gone"}):
        if arn == "gone":
            states.add_client_error(
                "describe_execution", "ExecutionDoesNotExist", expected_params={"executionArn": arn}
            )
        else:
            states.add_response("describe_execution", described(arn, "SUCCEEDED", starts[arn]), {"executionArn": arn})
    assert [execution.arn for execution in stack.executions(record(items))] == ["first", "second"]


def test_the_trail_has_the_turns_that_failed_before_they_wrote_anything(stack: Stack, states: Stubber) -> None:
    """Check their order and numbers, a recovery that failed itself, and events that name anything else."""

    def arn(machine: str, name: str) -> str:
        return f"{OUTPUTS[machine].replace('stateMachine', 'execution')}:{name}"

    def failed(named: Any) -> dict[str, Any]:
        return {"input": json.dumps({"detail": {"executionArn": named}})}

    first, lost = arn("AgentTurnArn", "1"), arn("AgentTurnArn", "2")
    gone, again = arn("AgentRecoveryArn", "3"), arn("AgentRecoveryArn", "4")
    foreign = arn("AgentRecoveryArn", "5")
    told = {
        first: ("AgentTurnArn", 1, {}),
        again: ("AgentRecoveryArn", 4, failed(gone)),
        foreign: ("AgentRecoveryArn", 5, failed("arn:aws:states:us-east-1:1:execution:other-AgentTurn:x")),
        arn("AgentStartArn", "0"): ("AgentStartArn", 0, failed(lost)),
        arn("AgentRecoveryArn", "6"): ("AgentRecoveryArn", 6, failed(first)),
        gone: ("AgentRecoveryArn", 3, failed(lost)),
        lost: ("AgentTurnArn", 2, {}),
    }
    written = sorted(told.keys() - {gone, lost})
    for each in (*written, gone, lost):
        machine, minute, fields = told[each]
        answer = described(each, "SUCCEEDED", NOON + dt.timedelta(minutes=minute), **fields)
        states.add_response(
            "describe_execution", {**answer, "stateMachineArn": OUTPUTS[machine]}, {"executionArn": each}
        )
    items = [standing(lastUpdatedBy=first), *(journal(user(), execution=each) for each in written)]
    numbers = [(each.arn.rpartition(":")[2], each.turn) for each in stack.trail(record(items))]
    assert numbers == [("0", None), ("1", 1), ("2", 2), ("3", None), ("4", None), ("5", None), ("6", None)]
    states.assert_no_pending_responses()


def test_watching_until_it_is_settled(stack: Stack) -> None:
    """Check that each entry is reported once, in order, and that watching ends at the settled status."""
    decided_ = decided(2, decision("TOOL_USE", calls=[call("u1")]), said({"Text": "I look."}, use("u1", "look")))
    put(stack, journal(user()))
    put(stack, standing(status="INITIATED"))
    put(stack, journal(decided_))
    put(stack, journal(answered(3, COMMITTED)))
    moves = iter([("TOOL_EXECUTION_PENDING", "2"), ("TOOL_EXECUTION_SUCCESS", "3"), ("COMPLETED", "3")])
    told = []
    for change in stack.watch("a-1"):
        told.append((change.status.value, [entry.step for entry in change.entries]))
        for status, step in [next(moves)] if change.status is not Status.COMPLETED else []:
            put(stack, standing(status=status, step=step))
    assert told == [
        ("INITIATED", [1]),
        ("TOOL_EXECUTION_PENDING", [2]),
        ("TOOL_EXECUTION_SUCCESS", [3]),
        ("COMPLETED", []),
    ]
    assert [entry.step for change in stack.watch("a-1", since=1) for entry in change.entries] == [2, 3]


def test_watching_goes_on_while_children_work(stack: Stack) -> None:
    """Check that watching ends once both children have ended or wait for a person."""
    put(stack, journal(user()))
    moves = iter([("WAITING_FOR_INPUT", "PLANNING"), ("COMPLETED", "PLANNING"), ("COMPLETED", "WAITING_FOR_APPROVAL")])
    looks = 0
    look = stack._stands

    def stands(state: AgentState) -> bool:
        nonlocal looks
        if state.agent_id == "a-1":
            looks += 1
            for child, status in zip(("b-1", "b-2"), next(moves), strict=True):
                put(stack, standing(agentId=child, status=status))
        return look(state)

    stack._stands = stands  # type: ignore[method-assign]
    put(stack, standing(status="WAITING_FOR_AGENT", owner="NONE", children='["b-1", "b-2"]'))
    assert [change.status for change in stack.watch("a-1")] == ["WAITING_FOR_AGENT"]
    assert looks == 3


def test_children_that_have_all_ended_are_about_to_be_heard(stack: Stack) -> None:
    put(stack, journal(user()))
    put(stack, standing(agentId="b-1", status="COMPLETED"))
    put(stack, standing(status="WAITING_FOR_AGENT", owner="NONE", children='["b-1"]'))
    with pytest.raises(StackError, match="still WAITING_FOR_AGENT"):
        list(stack.watch("a-1", timeout=0.1))


def test_watching_to_the_end(stack: Stack) -> None:
    put(stack, journal(user()))
    put(stack, standing(status="WAITING_FOR_APPROVAL", owner="NONE"))
    statuses = []
    for change in stack.watch("a-1", to_the_end=True):
        statuses.append(change.status.value)
        put(stack, standing(status="CANCELLED", owner="NONE"))
    assert statuses == ["WAITING_FOR_APPROVAL", "CANCELLED"]


def test_a_decision_is_told_with_what_followed_from_it(stack: Stack) -> None:
    held = decision("ASK_APPROVAL", calls=[call("u1")], waits_for="2")
    items = [user(), decided(2, held, said(use("u1", "look"))), answered(3, COMMITTED)]
    for item in (*map(journal, items), {**ruled("2", "APPROVE", note="Go."), "agentId": "a-1"}):
        put(stack, item)
    put(stack, standing(status="COMPLETED", step="3"))
    [change] = stack.watch("a-1", since=2)
    [entry] = change.entries
    assert (entry.step, entry.ruling and entry.ruling.text) == (3, "APPROVE: Go.")


def test_watching_all(stack: Stack) -> None:
    """Check that each change of an unfinished agent is reported, also when it ends."""
    put(stack, standing(agentId="old", status="COMPLETED"))
    put(stack, standing(agentId="busy", status="PLANNING", step="1"))
    put(stack, standing(agentId="asks", status="WAITING_FOR_AGENT", children='["busy"]', step="4", **TIMES))
    put(stack, {"agentId": "DEFINITION#travel", "record": "VERSION#000001", "definition": DEFINITION})
    seen = []
    for agents in stack.watch_all():
        seen.append([(agent.agent_id, agent.status.value, agent.step, agent.waits_for) for agent in agents])
        if len(seen) == 2:
            break
        put(stack, standing(agentId="busy", status="COMPLETED", step="2", lastUpdated="2999-01-01T00:00:00Z"))
    waits = ("asks", "WAITING_FOR_AGENT", 4, "busy")
    assert sorted(seen[0]) == [waits, ("busy", "PLANNING", 1, "")]
    assert seen[1] == [("busy", "COMPLETED", 2, ""), waits]


@pytest.mark.parametrize(
    ("status", "fields", "item", "told"),
    [
        ("WAITING_FOR_INPUT", {}, decision("ASK_USER", message="When?"), "When?"),
        (
            "WAITING_FOR_APPROVAL",
            {"waitsFor": "2"},
            decision("ASK_APPROVAL", calls=[call("u1"), call("u2", "book").model_copy(update={"approval": True})]),
            "approval 2: book",
        ),
        ("FAILED", {"error": "GivenUp", "errorMessage": "No."}, decision("GIVE_UP"), "GivenUp: No."),
        ("WAITING_FOR_OPERATOR", {"error": "Misaligned", "errorMessage": "?"}, decision("PLAN"), "Misaligned: ?"),
        ("PLANNING", {"error": "GivenUp", "errorMessage": "No."}, decision("PLAN"), ""),
    ],
)
def test_what_an_agent_waits_for(stack: Stack, status: str, fields: dict[str, str], item: Decision, told: str) -> None:
    put(stack, {"agentId": "DEFINITION#travel", "record": "VERSION#000001", "definition": DEFINITION})
    put(stack, journal(user()))
    put(stack, journal(decided(2, item, said({"Text": "Hm."}))))
    put(stack, standing(status=status, step="2", **{**TIMES, "lastUpdated": "2999-01-01T00:00:00Z"}, **fields))
    [agent] = next(stack.watch_all())
    assert agent.waits_for == told


def test_watching_an_agent_whose_turn_has_died(stack: Stack, states: Stubber) -> None:
    put(stack, standing(owner=f"{TURN}#2026-01-01T00:00:00Z"))
    put(stack, journal(user()))
    states.add_response("describe_execution", described(TURN, "RUNNING"))
    states.add_response("describe_execution", described(TURN, "FAILED", error="States.Runtime", cause="no path"))
    with pytest.raises(
        TurnDied, match=r"is PLANNING, but no execution works on it: its turn .* is FAILED. States.Runtime: no path"
    ):
        list(stack.watch("a-1"))


def test_watching_is_bounded(stack: Stack) -> None:
    put(stack, standing(owner="NONE"))
    put(stack, journal(user()))
    with pytest.raises(StackError, match="Agent a-1 is still PLANNING after 0 seconds"):
        list(stack.watch("a-1", timeout=0))


def test_watching_an_unknown_agent(stack: Stack, states: Stubber) -> None:
    states.add_response("list_executions", {"executions": []})
    with pytest.raises(UnknownAgent):
        list(stack.watch("unknown"))
