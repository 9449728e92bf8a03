"""agent_input: no input from outside is lost, heard twice or heard out of order."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.paths.test_agent_watch import change, fresh, standing
from tests.world import World, scenario, waiting
from turnstile_agents.events import SOURCE, AgentStateUpdated
from turnstile_agents.items import Attributes
from turnstile_agents.record import FINISHED, Status, Verdict
from turnstile_cli.engines.faults import Fault

WORKING = [Status.INITIATED, Status.PLANNING, Status.TOOL_EXECUTION_PENDING, Status.PLANNING_FAILED]
WAITING = [status for status in Status if status.startswith("WAITING_")]


def decision(agent_id: str, **more: Any) -> dict[str, Any]:
    return {"agentId": agent_id, "approvalId": "4", "decision": "APPROVE", **more}


def news(child: str, parent: str) -> dict[str, Any]:
    return {"agentId": child, "step": 3, "status": "COMPLETED", "parent": parent, "children": 0}


def heard(world: World, child: str) -> dict[str, Any]:
    """Return the stored report of a child's end: from the child's record, and not from the event."""
    state = state_of(world, child)
    told = {name: state[name] for name in ("agentId", "status", "parent")}
    return {**told, "step": int(state["step"])}


def child_of(world: World, parent: str, status: Status = Status.COMPLETED) -> str:
    """Put a child that has used tokens and money."""
    used = {"inputTokens": 700, "outputTokens": 80, "costMicroUsd": 9}
    return standing(world, status, fresh("below"), parent=parent, **used)


def state_of(world: World, agent_id: str) -> Attributes:
    return world.items(agent_id, "STATE")[0]


def assert_kept(world: World, agent_id: str, kind: str, detail: dict[str, Any]) -> Attributes:
    """Check that this is the only input."""
    [item] = world.items(agent_id, "INPUT#")
    assert (item["type"], json.loads(item["detail"])) == (kind, detail)
    assert state_of(world, agent_id)["inbox"] == "1"
    return item


def assert_woken(world: World, agent_id: str) -> None:
    state = state_of(world, agent_id)
    assert (state["status"], state["nextAction"], state["announce"]) == ("PLANNING", "PLANNING", "AgentStateUpdated")


NO_WORDS = "AgentInputReceived needs `agentId` and `text`"
NO_DECISION = "AgentDecisionGiven needs `agentId` and `approvalId`"
NO_CANCEL = "AgentCancelRequested needs `agentId`"
NO_NEWS = "AgentStateUpdated needs `agentId` and `parent`"


@pytest.mark.parametrize(
    ("kind", "detail", "error", "words"),
    [
        ("AgentInputReceived", {"text": "Hello"}, "InputInvalid", NO_WORDS),
        ("AgentInputReceived", {"agentId": "unknown"}, "InputInvalid", NO_WORDS),
        ("AgentInputReceived", {"agentId": "", "text": "Hello"}, "InputInvalid", NO_WORDS),
        ("AgentDecisionGiven", decision(""), "InputInvalid", NO_DECISION),
        ("AgentCancelRequested", {"agentId": ""}, "InputInvalid", NO_CANCEL),
        ("AgentStateUpdated", {"agentId": "", "parent": "unknown"}, "InputInvalid", NO_NEWS),
        ("AgentInputReceived", {"agentId": "unknown", "text": ""}, "InputInvalid", NO_WORDS),
        ("AgentInputReceived", {"agentId": "unknown", "text": 7}, "InputInvalid", NO_WORDS),
        ("AgentInputReceived", {"agentId": "unknown", "text": "x", "by": 7}, "InputInvalid", "a `by` that is a string"),
        ("AgentDecisionGiven", decision("unknown", by=["x"]), "InputInvalid", "a `by` that are strings"),
        ("AgentCancelRequested", {"agentId": "unknown", "by": {}}, "InputInvalid", "a `by` that are strings"),
        ("AgentInputReceived", {"agentId": "unknown", "text": "x", "inputId": 7}, "InputInvalid", "An `inputId` is"),
        ("AgentInputReceived", {"agentId": "unknown", "text": "x", "inputId": ""}, "InputInvalid", "An `inputId` is"),
        ("AgentInputReceived", {"agentId": "unknown", "text": "x", "inputId": "child-1"}, "InputInvalid", "child-"),
        ("AgentInputReceived", {"agentId": "unknown", "text": "x", "inputId": "expire-4"}, "InputInvalid", "expire-"),
        ("AgentInputReceived", {"agentId": "unknown", "text": "x", "inputId": "cancel-1"}, "InputInvalid", "cancel-"),
        ("AgentDecisionGiven", decision("unknown", inputId="child-1"), "InputInvalid", "child-"),
        ("AgentDecisionGiven", decision("unknown", inputId="expire-4"), "InputInvalid", "expire-"),
        ("AgentDecisionGiven", decision("unknown", inputId="cancel-1"), "InputInvalid", "cancel-"),
        ("AgentDecisionGiven", decision("unknown", decision="EXPIRE", inputId="expire-4"), "AgentUnknown", "no agent"),
        ("AgentCancelRequested", {"agentId": "unknown", "inputId": "expire-4"}, "InputInvalid", "expire-"),
        ("AgentCancelRequested", {"agentId": "unknown", "inputId": "cancel-1"}, "AgentUnknown", "no agent"),
        ("AgentInputReceived", {"agentId": "unknown", "text": "Hello"}, "AgentUnknown", "There is no agent unknown."),
        ("AgentDecisionGiven", {"approvalId": "4", "decision": "APPROVE"}, "InputInvalid", NO_DECISION),
        ("AgentDecisionGiven", {"agentId": "unknown", "decision": "APPROVE"}, "InputInvalid", NO_DECISION),
        ("AgentDecisionGiven", decision("unknown", approvalId=""), "InputInvalid", NO_DECISION),
        ("AgentDecisionGiven", decision("unknown", approvalId=4), "InputInvalid", NO_DECISION),
        ("AgentDecisionGiven", decision("unknown", decision="YES"), "InputInvalid", "APPROVE, REFUSE or EXPIRE"),
        ("AgentDecisionGiven", decision("unknown", note=7), "InputInvalid", "a `note` and a `by` that are strings"),
        ("AgentDecisionGiven", decision("unknown"), "AgentUnknown", "There is no agent unknown."),
        ("AgentCancelRequested", {}, "InputInvalid", NO_CANCEL),
        ("AgentCancelRequested", {"agentId": "unknown", "note": ["x"]}, "InputInvalid", "a `note` and a `by` that"),
        ("AgentCancelRequested", {"agentId": "unknown"}, "AgentUnknown", "There is no agent unknown."),
        ("AgentStateUpdated", {"agentId": "unknown", "status": "COMPLETED"}, "InputInvalid", NO_NEWS),
        ("AgentStateUpdated", {"agentId": "unknown", "parent": ""}, "InputInvalid", NO_NEWS),
        ("AgentStateUpdated", {"agentId": "unknown", "parent": "a"}, "AgentUnknown", "no agent unknown, whose end"),
    ],
)
def test_a_bad_input_is_refused_in_words(
    world: World, kind: str, detail: dict[str, Any], error: str, words: str
) -> None:
    execution = world.run("agent_input", detail, kind=kind)
    assert (execution["status"], execution["error"]) == ("FAILED", error)
    assert words in execution["cause"]


# ---- The caller


@pytest.mark.parametrize(
    ("status", "kind", "more"),
    [
        (Status.WAITING_FOR_INPUT, "AgentInputReceived", {"text": "Hello"}),
        (Status.PLANNING, "AgentInputReceived", {"text": "Hello"}),
        (Status.WAITING_FOR_APPROVAL, "AgentDecisionGiven", {"approvalId": "4", "decision": "REFUSE"}),
        (Status.WAITING_FOR_APPROVAL, "AgentCancelRequested", {"note": "Enough."}),
        (Status.PLANNING, "AgentCancelRequested", {"note": "Enough."}),
    ],
)
def test_the_record_keeps_the_caller_and_the_source(
    world: World, status: Status, kind: str, more: dict[str, str]
) -> None:
    agent_id = standing(world, status, waitsFor="4")
    # A source in an event's own detail is ignored.
    detail = {"agentId": agent_id, "by": "ana", "source": "com.agent.api", **more}
    execution = world.run("agent_input", detail, kind=kind, source="com.example.desk")
    assert execution["status"] == "SUCCEEDED"
    assert assert_kept(world, agent_id, kind, detail)["source"] == "com.example.desk"


def test_half_a_character_in_a_callers_name_does_no_harm(world: World) -> None:
    agent_id = waiting(world)
    said = {"agentId": agent_id, "text": "Tomorrow.", "by": "ana \ud83d"}
    assert world.run("agent_input", said, source="com.example.desk")["status"] == "SUCCEEDED"
    world.settle(agent_id, Status.COMPLETED)
    [caller] = [m.caller for m in world.stack.view(agent_id).context.conversation_history if m.content == "Tomorrow."]
    assert caller
    assert (caller.by[:4], caller.verified) == ("ana ", False)


# ---- Words


def test_words_wake_an_agent_that_waits_for_them(world: World) -> None:
    agent_id = standing(world, Status.WAITING_FOR_INPUT)
    detail = {"agentId": agent_id, "text": 'Say "hello".\nTwice.'}
    assert world.run("agent_input", detail)["status"] == "SUCCEEDED"
    assert_woken(world, agent_id)
    item = assert_kept(world, agent_id, "AgentInputReceived", detail)
    assert [item[name] for name in ("inputTokens", "outputTokens", "costMicroUsd")] == ["0", "0", "0"]
    assert state_of(world, agent_id)["cancels"] == "0"


@pytest.mark.parametrize("status", [*WORKING, *(status for status in WAITING if status != Status.WAITING_FOR_INPUT)])
def test_words_are_kept_for_an_agent_that_does_something_else(world: World, status: Status) -> None:
    agent_id = standing(world, status, waitsFor="4")
    detail = {"agentId": agent_id, "text": "A window seat!"}
    assert world.run("agent_input", detail)["status"] == "SUCCEEDED"
    assert_kept(world, agent_id, "AgentInputReceived", detail)
    assert (state_of(world, agent_id)["status"], state_of(world, agent_id)["nextAction"]) == (status, "NONE")


def test_words_of_one_name_are_kept_once(world: World) -> None:
    agent_id = standing(world, Status.PLANNING)
    detail = {"agentId": agent_id, "text": "A window seat!", "inputId": "click-1"}
    for _ in range(2):  # two events
        assert world.run("agent_input", detail)["status"] == "SUCCEEDED"
    assert assert_kept(world, agent_id, "AgentInputReceived", detail)["record"] == "INPUT#click-1"


def test_a_finished_agent_takes_no_input(world: World) -> None:
    agent_id = world.play(scenario("give_up"))
    before = world.items(agent_id)
    execution = world.run("agent_input", {"agentId": agent_id, "text": "Hello?"})
    assert (execution["error"], execution["cause"]) == (
        "AgentFinished",
        f"Agent {agent_id} is FAILED and takes no more input.",
    )
    assert world.items(agent_id) == before


def test_an_input_delivered_twice_is_heard_once(world: World) -> None:
    agent_id, event_id = waiting(world), str(uuid.uuid4())
    for _ in range(2):
        detail = {"agentId": agent_id, "text": "Tomorrow, please."}
        assert world.run("agent_input", detail, event_id)["status"] == "SUCCEEDED"
    assert world.settle(agent_id, Status.COMPLETED)["inbox"] == "1"
    assert world.run("agent_input", detail, event_id)["status"] == "SUCCEEDED"  # and also after the end
    assert len(world.items(agent_id, "INPUT#")) == 1
    assert len(world.bookings(agent_id)) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_wake_up_whose_answer_is_lost_wakes_once(world: World, when: Any) -> None:
    agent_id = waiting(world)
    world.faults.put(Fault(agent_id=agent_id, state="WakeAgent", when=when, error="States.Timeout"))
    assert world.run("agent_input", {"agentId": agent_id, "text": "Tomorrow."})["status"] == "SUCCEEDED"
    assert world.settle(agent_id, Status.COMPLETED)["inbox"] == "1"
    world.assert_sound(agent_id)


def test_inputs_that_come_together_are_all_kept(world: World) -> None:
    agent_id = waiting(world)
    arns = [world.deliver("agent_input", {"agentId": agent_id, "text": f"Tomorrow, {n}."}) for n in range(4)]
    assert [world.ended(arn)["status"] for arn in arns] == ["SUCCEEDED"] * 4
    assert world.settle(agent_id, Status.COMPLETED)["inbox"] == "4"
    texts = "".join(step.get("messages", "") for step in world.items(agent_id, "STEP#"))
    assert all(f"Tomorrow, {n}." in texts for n in range(4))
    world.assert_sound(agent_id)


def test_an_input_in_the_middle_of_a_turn_is_in_the_next_request(world: World) -> None:
    name = f"middle-{uuid.uuid4().hex[:8]}"
    with world.faults.held(name, "CallWriteTool") as until_held:
        world.start(scenario("straight_booking"), name)
        until_held()
        assert world.run("agent_input", {"agentId": name, "text": "A window seat!"})["status"] == "SUCCEEDED"
    world.settle(name, Status.COMPLETED)
    last = world.items(name, "STEP#")[-1]
    assert "A window seat!" in last["messages"]
    world.assert_sound(name)


def test_an_input_that_comes_as_the_turn_closes_is_not_left_lying(world: World) -> None:
    name = f"closing-{uuid.uuid4().hex[:8]}"
    with world.faults.held(name, "CloseTurn") as until_held:
        world.start(scenario("ask_the_user"), name)
        until_held()
        assert world.run("agent_input", {"agentId": name, "text": "Tomorrow."})["status"] == "SUCCEEDED"
    world.settle(name, Status.COMPLETED)
    states = [visit.state for visit in world.visited(name)]
    # Refused, because the turn had not seen every input.
    assert states[7:10] == ["CloseTurn", "RouteUnclosed", "LoadTurn"]
    assert states.count("ClaimTurn") == 1
    world.assert_sound(name)


def test_an_input_that_loses_the_race_with_the_end_is_refused(world: World) -> None:
    name = f"race-{uuid.uuid4().hex[:8]}"
    with world.faults.held(name, "StoreInput") as until_held:
        with world.faults.held(name, "AskModel") as until_asked:
            world.start(scenario("give_up"), name)
            until_asked()
            arn = world.deliver("agent_input", {"agentId": name, "text": "Mars will do."})
            until_held()
        world.settle(name)
    assert world.ended(arn)["error"] == "AgentFinished"
    assert world.items(name, "INPUT#") == []


def test_an_agent_does_not_give_up_before_it_has_heard_everything(world: World) -> None:
    name = f"giving-up-{uuid.uuid4().hex[:8]}"
    with world.faults.held(name, "AskModel") as until_held:
        world.start(scenario("give_up"), name)
        until_held()
        assert world.run("agent_input", {"agentId": name, "text": "Mars will do."})["status"] == "SUCCEEDED"
    state = world.settle(name)
    assert state["error"] == "BedrockRuntime.ValidationException"  # asked once more, and no reply is left
    states = [visit.state for visit in world.visited(name)]
    assert states[states.index("RecordFailure") :][:4] == ["RecordFailure", "RouteUnrecorded", "LoadTurn", "RouteEntry"]


def test_words_that_lose_the_race_with_a_question_answer_it(world: World) -> None:
    agent_id = standing(world, Status.PLANNING)
    with world.faults.held(agent_id, "StoreInput") as until_held:
        arn = world.deliver("agent_input", {"agentId": agent_id, "text": "Tomorrow."})
        until_held()
        change(world, agent_id, status=Status.WAITING_FOR_INPUT)
    assert world.ended(arn)["status"] == "SUCCEEDED"
    states = [visit.state for visit in world.history(arn)]
    assert states[-7:] == ["ReadInput", "RouteRefusal", "Pause", "LookAgain", "ReadAgent", "RouteInput", "WakeAgent"]
    assert_woken(world, agent_id)
    assert len(world.items(agent_id, "INPUT#")) == 1


# ---- Decisions


@pytest.mark.parametrize("verdict", Verdict)
def test_a_decision_wakes_an_agent_that_waits_for_it(world: World, verdict: Verdict) -> None:
    agent_id = standing(world, Status.WAITING_FOR_APPROVAL, waitsFor="4")
    detail = decision(agent_id, decision=verdict.value, note="As you say.")
    assert world.run("agent_input", detail, kind="AgentDecisionGiven")["status"] == "SUCCEEDED"
    assert_woken(world, agent_id)
    assert_kept(world, agent_id, "AgentDecisionGiven", detail)


@pytest.mark.parametrize(
    ("status", "waits_for"), [(Status.WAITING_FOR_APPROVAL, "3"), *((s, "4") for s in (*WORKING, *sorted(FINISHED)))]
)
def test_a_decision_that_the_agent_does_not_wait_for_is_refused(world: World, status: Status, waits_for: str) -> None:
    agent_id = standing(world, status, waitsFor=waits_for)
    before = world.items(agent_id)
    execution = world.run("agent_input", decision(agent_id), kind="AgentDecisionGiven")
    assert execution["error"] == "DecisionRefused"
    assert f"Agent {agent_id} is {status} and does not wait for a decision on this approval" in execution["cause"]
    assert world.items(agent_id) == before


def test_a_decision_delivered_twice_is_taken_once(world: World) -> None:
    agent_id, event_id = standing(world, Status.WAITING_FOR_APPROVAL, waitsFor="4"), str(uuid.uuid4())
    for _ in range(2):
        execution = world.run("agent_input", decision(agent_id), event_id, kind="AgentDecisionGiven")
        assert execution["status"] == "SUCCEEDED"
    assert_kept(world, agent_id, "AgentDecisionGiven", decision(agent_id))
    other = world.run("agent_input", decision(agent_id, decision="REFUSE"), kind="AgentDecisionGiven")
    assert other["error"] == "DecisionRefused"


def test_a_decision_that_loses_the_race_with_another_is_refused(world: World) -> None:
    agent_id = standing(world, Status.WAITING_FOR_APPROVAL, waitsFor="4")
    with world.faults.held(agent_id, "WakeAgent") as until_held:
        arn = world.deliver("agent_input", decision(agent_id), kind="AgentDecisionGiven")
        until_held()
        # The other decision has come, and the agent now asks for another approval.
        change(world, agent_id, waitsFor="6")
    assert world.ended(arn)["error"] == "DecisionRefused"
    assert world.items(agent_id, "INPUT#") == []


# ---- Children


def test_the_end_of_a_child_wakes_its_parent_and_is_counted(world: World) -> None:
    parent = standing(world, Status.WAITING_FOR_AGENT, waitsFor="4", inputTokens=1000)
    child = child_of(world, parent)
    assert world.run("agent_input", news(child, parent), kind="AgentStateUpdated")["status"] == "SUCCEEDED"
    assert_woken(world, parent)
    assert assert_kept(world, parent, "AgentStateUpdated", heard(world, child))["record"] == f"INPUT#{child}"
    state = state_of(world, parent)
    assert [state[name] for name in ("inputTokens", "outputTokens", "costMicroUsd")] == ["1700", "80", "9"]


@pytest.mark.parametrize("status", [*WORKING, *(status for status in WAITING if status != Status.WAITING_FOR_AGENT)])
def test_the_end_of_a_child_is_kept_for_a_parent_that_does_something_else(world: World, status: Status) -> None:
    parent = standing(world, status)
    child = child_of(world, parent, Status.FAILED)
    assert world.run("agent_input", news(child, parent), kind="AgentStateUpdated")["status"] == "SUCCEEDED"
    assert_kept(world, parent, "AgentStateUpdated", heard(world, child))
    assert (state_of(world, parent)["status"], state_of(world, parent)["inputTokens"]) == (status, "700")


def test_the_end_of_a_child_told_twice_counts_once(world: World) -> None:
    parent = standing(world, Status.WAITING_FOR_AGENT)
    child = child_of(world, parent)
    for _ in range(2):  # two events: the end was announced again
        assert world.run("agent_input", news(child, parent), kind="AgentStateUpdated")["status"] == "SUCCEEDED"
    assert_kept(world, parent, "AgentStateUpdated", heard(world, child))
    assert state_of(world, parent)["inputTokens"] == "700"


def test_a_report_of_an_end_that_has_not_come_is_refused(world: World) -> None:
    parent = standing(world, Status.WAITING_FOR_AGENT, waitsFor="4")
    running, another = child_of(world, parent, Status.PLANNING), child_of(world, "another")
    for child in (running, another):
        execution = world.run("agent_input", news(child, parent), kind="AgentStateUpdated")
        assert execution["error"] == "InputInvalid"
        assert (
            execution["cause"] == f"Agent {child} is not a child of the agent that the event names, or has not ended."
        )
    assert world.items(parent, "INPUT#") == []
    assert state_of(world, parent)["inputTokens"] == "0"


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_a_finished_parent_is_told_nothing(world: World, status: Status) -> None:
    parent = standing(world, status)
    child = child_of(world, parent)
    before = world.items(parent)
    execution = world.run("agent_input", news(child, parent), kind="AgentStateUpdated")
    assert execution["status"] == "SUCCEEDED"
    assert world.history(execution["executionArn"])[-1].state == "NothingToTell"
    assert world.items(parent) == before


def test_the_end_of_a_child_comes_by_the_bus(world: World) -> None:
    parent = standing(world, Status.WAITING_FOR_AGENT)
    child = child_of(world, parent)
    change(world, child, lastUpdated="2026-11-01T00:00:00Z")
    world.stack.put("AgentStateUpdated", AgentStateUpdated.model_validate(news(child, parent)))
    world.wait(parent, lambda state: state["inbox"] == "1")
    assert_kept(world, parent, "AgentStateUpdated", heard(world, child))


@pytest.mark.parametrize(
    ("kind", "change_of", "taken"),
    [
        ("AgentStateUpdated", {}, True),
        ("AgentStateUpdated", {"status": "FAILED"}, True),
        ("AgentStateUpdated", {"status": "CANCELLED"}, True),
        ("AgentStateUpdated", {"parent": ""}, False),
        ("AgentStateUpdated", {"status": "WAITING_FOR_INPUT"}, False),
        ("AgentDecisionGiven", {}, True),
        ("AgentCancelRequested", {}, True),
        ("AgentInputReceived", {}, True),
        ("AgentRequested", {}, False),
    ],
)
def test_its_rules_let_pass_what_it_takes(world: World, kind: str, change_of: dict[str, str], taken: bool) -> None:
    events, bus = world.stack.events, world.stack.outputs.bus_name
    rules = events.list_rules(EventBusName=bus)["Rules"]
    mine = [
        rule["EventPattern"]
        for rule in rules
        for target in events.list_targets_by_rule(Rule=rule["Name"], EventBusName=bus)["Targets"]
        if target["Arn"] == world.stack.outputs.agent_input_arn
    ]
    event = {
        "id": "1",
        "account": "000000000000",
        "source": SOURCE,
        "time": "2026-01-01T00:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail-type": kind,
        "detail": news("child-1", "agent-0") | change_of,
    }
    matched = [events.test_event_pattern(EventPattern=pattern, Event=json.dumps(event))["Result"] for pattern in mine]
    assert matched.count(True) == int(taken)  # by one rule, so that it comes once


# ---- Cancellations


@pytest.mark.parametrize("status", [Status.WAITING_FOR_INPUT, Status.WAITING_FOR_APPROVAL, Status.WAITING_FOR_AGENT])
def test_a_waiting_agent_is_woken_to_be_cancelled(world: World, status: Status) -> None:
    agent_id = standing(world, status, waitsFor="4")
    detail = {"agentId": agent_id, "note": "Not needed any more."}
    assert world.run("agent_input", detail, kind="AgentCancelRequested")["status"] == "SUCCEEDED"
    assert_woken(world, agent_id)
    assert_kept(world, agent_id, "AgentCancelRequested", detail)
    assert state_of(world, agent_id)["cancels"] == "1"


@pytest.mark.parametrize("status", WORKING)
def test_a_working_agent_finds_its_cancellation(world: World, status: Status) -> None:
    agent_id, event_id = standing(world, status), str(uuid.uuid4())
    for _ in range(2):
        execution = world.run("agent_input", {"agentId": agent_id}, event_id, kind="AgentCancelRequested")
        assert execution["status"] == "SUCCEEDED"
    assert_kept(world, agent_id, "AgentCancelRequested", {"agentId": agent_id})
    assert (state_of(world, agent_id)["cancels"], state_of(world, agent_id)["status"]) == ("1", status)


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_a_finished_agent_is_not_cancelled(world: World, status: Status) -> None:
    agent_id = standing(world, status)
    before = world.items(agent_id)
    execution = world.run("agent_input", {"agentId": agent_id}, kind="AgentCancelRequested")
    assert execution["status"] == "SUCCEEDED"
    assert world.history(execution["executionArn"])[-1].state == "NothingToCancel"
    assert world.items(agent_id) == before


def test_a_cancel_that_loses_the_race_with_a_question_wakes(world: World) -> None:
    agent_id = standing(world, Status.PLANNING)
    with world.faults.held(agent_id, "StoreInput") as until_held:
        arn = world.deliver("agent_input", {"agentId": agent_id}, kind="AgentCancelRequested")
        until_held()
        change(world, agent_id, status=Status.WAITING_FOR_APPROVAL, waitsFor="4")
    assert world.ended(arn)["status"] == "SUCCEEDED"
    assert_woken(world, agent_id)
    assert state_of(world, agent_id)["cancels"] == "1"


@pytest.fixture
def asking(world: World) -> Callable[[], str]:
    """Return a function that makes agents whose recovery asks an operator."""

    def make() -> str:
        name = fresh("asking")
        world.faults.put(Fault(agent_id=name, state="AskModel", error="AccessDenied"))
        world.start(scenario("straight_booking"), name)
        world.settle(name, Status.WAITING_FOR_OPERATOR)
        return name

    return make


def assert_cancelled_by_recovery(world: World, agent_id: str, note: str = "") -> None:
    state = world.settle(agent_id, *FINISHED)
    assert (state["status"], state["cancels"]) == (Status.CANCELLED, "1")
    last = world.items(agent_id, "STEP#")[-1]
    assert (last["who"], last["action"], last["reason"], last["note"]) == ("RECOVERY", "CANCEL", "AccessDenied", note)
    assert world.bookings(agent_id) == []
    world.assert_sound(agent_id)


def test_an_agent_that_waits_for_an_operator_is_cancelled_instead(world: World, asking: Callable[[], str]) -> None:
    agent_id = asking()
    detail = {"agentId": agent_id, "note": "Not needed any more.", "decision": "RETRY"}
    execution = world.run("agent_input", detail, kind="AgentCancelRequested")
    assert execution["status"] == "SUCCEEDED"
    assert_cancelled_by_recovery(world, agent_id, "Not needed any more.")


def test_a_question_that_is_being_asked_again_is_answered_then(world: World, asking: Callable[[], str]) -> None:
    agent_id = asking()
    stale = Fault(agent_id=agent_id, state="AnswerQuestion", error="Sfn.TaskTimedOutException", times=2)
    world.faults.put(stale)
    execution = world.run("agent_input", {"agentId": agent_id}, kind="AgentCancelRequested")
    assert execution["status"] == "SUCCEEDED"
    states = [visit.state for visit in world.history(execution["executionArn"])]
    assert states.count("AnswerQuestion") == 3
    assert_cancelled_by_recovery(world, agent_id)


def test_a_question_that_was_answered_meanwhile_is_left_alone(world: World, asking: Callable[[], str]) -> None:
    agent_id = asking()
    with world.faults.held(agent_id, "AnswerQuestion") as until_held:
        arn = world.deliver("agent_input", {"agentId": agent_id}, kind="AgentCancelRequested")
        until_held()
        token = world.items(agent_id, "OPERATOR")[0]["token"]
        world.stack.stepfunctions.send_task_success(taskToken=token, output='{"decision": "RETRY"}')
        state = world.settle(agent_id, *FINISHED)
    assert world.ended(arn)["status"] == "SUCCEEDED"
    states = [visit.state for visit in world.history(arn)]
    assert (states.count("AnswerQuestion"), states[-1]) == (1, "NothingToCancel")
    assert "Pause" in states
    assert (state["status"], state["cancels"]) == (Status.CANCELLED, "1")
    assert world.bookings(agent_id) == []


def test_a_question_that_could_not_be_answered_is_answered_by_the_next_delivery(
    world: World, asking: Callable[[], str]
) -> None:
    agent_id = asking()
    world.faults.put(Fault(agent_id=agent_id, state="AnswerQuestion", error="AccessDenied"))
    execution = world.run("agent_input", {"agentId": agent_id}, kind="AgentCancelRequested")
    assert execution["error"] == "AccessDenied"
    assert_cancelled_by_recovery(world, agent_id)  # agent_redeliver has heard of it and delivered it again
