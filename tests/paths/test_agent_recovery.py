"""agent_recovery: an agent goes on, is undone, waits for an operator after a message, or is FAILED with its reasons."""

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from tests.asl.support import MACHINES
from tests.limits import within_limits
from tests.paths.conftest import TWO_WRITES
from tests.paths.test_agent_notify import operator
from tests.paths.test_agent_watch import set_state, standing
from tests.world import TRAVEL, World, scenario
from turnstile_agents.conversation import fold
from turnstile_agents.events import AgentRequested
from turnstile_agents.record import SETTLED, Status
from turnstile_cli.chaos.plays import write_clerk
from turnstile_cli.chaos.tools import acts, deploy_note, shorten
from turnstile_cli.engines.embedded import Embedded
from turnstile_cli.engines.faults import FOLDER, Fault, Faults
from turnstile_cli.files import TEMPLATE
from turnstile_cli.models.scenarios import Scenario, load_scenarios
from turnstile_cli.models.scripted import ScriptedModel
from turnstile_cli.stack.client import Stack
from turnstile_cli.stack.registry import register
from turnstile_cli.verify import findings

told = operator
"""A function that returns the message about an agent from the operators' topic."""
THROTTLED = "BedrockRuntime.ThrottlingException"


def fresh() -> str:
    return f"recovery-{uuid.uuid4().hex[:8]}"


def decisions(world: World, agent_id: str) -> list[tuple[str, str]]:
    """Return the decisions of an agent's recoveries, each with its error."""
    return [(i["action"], i["reason"]) for i in world.items(agent_id, "STEP#") if i["who"] == "RECOVERY"]


def ledger(world: World, agent_id: str) -> list[tuple[str, str, str]]:
    return [(i["record"].partition("#")[2], i["tool"], i["status"]) for i in world.items(agent_id, "EFFECT#")]


def decide(world: World, agent_id: str, decision: str, note: str = "", effects: Sequence[Any] = ()) -> None:
    """Answer as an operator."""
    answer(world, agent_id, {"decision": decision, "note": note, "effects": [*effects], "by": "ada", "source": "s"})
    world.wait(agent_id, lambda state: state["status"] != Status.WAITING_FOR_OPERATOR)


def answer(world: World, agent_id: str, output: Any) -> None:
    """Answer the operator's question with any value."""
    state = world.item(agent_id, "STATE")
    question = world.item(agent_id, "OPERATOR")
    assert state and state["status"] == Status.WAITING_FOR_OPERATOR
    assert question
    world.stack.stepfunctions.send_task_success(taskToken=question["token"], output=json.dumps(output))


def refused(world: World, agent_id: str, output: Any) -> str:
    """Give an answer that is refused; return the next question."""
    before = world.item(agent_id, "OPERATOR")
    assert before
    answer(world, agent_id, output)
    world.wait(agent_id, lambda _: world.item(agent_id, "OPERATOR") != before)
    after = world.item(agent_id, "OPERATOR")
    assert after
    assert int(after["questionId"]) == int(before["questionId"]) + 1
    return after["question"]


def asked(world: World, agent_id: str) -> str:
    """Wait until an operator is asked; return the question."""
    world.settle(agent_id, Status.WAITING_FOR_OPERATOR)
    world.wait(agent_id, lambda _: world.item(agent_id, "OPERATOR") is not None)
    question = world.item(agent_id, "OPERATOR")
    assert question
    return question["question"]


# ---- The next attempt succeeds


def test_a_throttled_model_is_asked_again_later(world: World) -> None:
    name = fresh()
    world.faults.put(
        Fault(agent_id=name, state="AskModel", error=THROTTLED, times=25)
    )  # more than the attempts of two turns
    world.play(scenario("straight_booking"), name)
    assert world.settle(name)["status"] == Status.COMPLETED
    assert decisions(world, name) == [("RETRY", THROTTLED)] * 2
    world.assert_sound(name)


def test_recoveries_without_a_step_forward_are_bounded(world: World) -> None:
    name = fresh()
    fault = world.faults.put(Fault(agent_id=name, state="AskModel", error=THROTTLED, times=10_000))
    world.start(scenario("straight_booking"), name)
    question = asked(world, name)
    assert f"Agent {name} needs a decision" in question
    assert THROTTLED in question
    assert decisions(world, name) == [("RETRY", THROTTLED)] * 4
    fault.unlink()
    decide(world, name, "RETRY", note="The quota was raised.")
    assert world.settle(name, Status.COMPLETED)
    [entry] = world.items(name, "STEP#000006")
    assert (entry["note"], entry["by"], entry["source"]) == ("The quota was raised.", "ada", "s")
    world.assert_sound(name)


def test_two_errors_of_one_agent_are_recovered_from_once(world: World) -> None:
    name = fresh()
    world.play(scenario("undo_then_another"), name)  # AgentError and the execution's status report its failure
    assert decisions(world, name) == [("COMPENSATE", "GivenUp")]
    assert [entry[1:] for entry in ledger(world, name)].count(("cancel_flight", "COMMITTED")) == 1


# ---- Another tool


def test_an_unavailable_tool_is_replaced_by_its_alternative(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CallWriteTool", error="ToolUnavailable", times=4))  # and its retries
    world.play(scenario("straight_booking"), name)
    assert ledger(world, name) == [
        ("000002#0", "book_flight", "FAILED"),
        ("000002#0#ALT1", "book_flight_partner", "COMMITTED"),
    ]
    assert [booking["carrier"] for booking in world.bookings(name)] == ["partner"]
    world.assert_sound(name)


# ---- Called again by its key


@pytest.fixture(scope="module")
def by_key(shared_world: World, tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """Return a booking by an agent whose file has no onUnknown and no look-up."""
    return registered_as("travel-by-key", shared_world, tmp_path_factory.mktemp("agent"), look_up=False)


@pytest.fixture(scope="module")
def by_key_or_look_up(shared_world: World, tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """Return the same booking, with a look-up."""
    return registered_as("travel-by-key-or-look-up", shared_world, tmp_path_factory.mktemp("agent"), look_up=True)


def registered_as(name: str, world: World, folder: Path, look_up: bool) -> Scenario:
    content = yaml.safe_load(TRAVEL.read_text("utf-8")) | {"name": name}
    for tool in content["tools"]:
        tool.pop("onUnknown", None)
        if not look_up:
            tool.pop("reconcile", None)
    file = folder / "agent.yaml"
    file.write_text(yaml.safe_dump(content), "utf-8")
    register(world.stack, file)
    return scenario("straight_booking").model_copy(update={"agent": name})


def lives(world: World, by: Scenario, *faults: dict[str, Any]) -> str:
    """Start an agent that meets faults around its call; return its name."""
    name = fresh()
    for fault in faults:
        world.faults.put(Fault(agent_id=name, **fault))
    request = AgentRequested(prompt=by.prompt, agent=by.agent, agent_id=name)
    world.stack.wait_for(world.stack.request(request))
    return name


@pytest.mark.parametrize(
    "fault",
    [
        {"state": "ReserveEffect", "dies": "stopped", "when": "left"},  # the call was never made
        {"state": "CallWriteTool", "dies": "worker"},
        {"state": "CallWriteTool", "error": "States.Timeout", "when": "after"},
        {"state": "CallWriteTool", "dies": "stopped", "when": "left"},
    ],
    ids=["stopped-before", "worker-before", "timeout-after", "stopped-after"],
)
def test_a_tool_that_knows_its_calls_by_key_needs_no_operator(
    world: World, by_key: Scenario, fault: dict[str, Any]
) -> None:
    name = lives(world, by_key, fault)
    assert world.settle(name)["status"] == Status.COMPLETED
    assert ledger(world, name) == [("000002#0", "book_flight", "COMMITTED")]
    assert len(world.bookings(name)) == 1
    world.assert_sound(name)


ANSWER_LOST = {"state": "CallWriteTool", "error": "States.Timeout", "when": "after"}


def test_an_attempt_that_is_open_in_the_guard_is_asked_about(world: World, by_key: Scenario) -> None:
    name = lives(world, by_key, ANSWER_LOST, {"state": "CallAgain", "error": "ToolOutcomeUnknown"})
    assert "book_flight" in asked(world, name)
    assert ledger(world, name) == [("000002#0", "book_flight", "UNCERTAIN")]


def test_an_attempt_that_is_open_in_the_guard_is_looked_up_if_it_can_be(
    world: World, by_key_or_look_up: Scenario
) -> None:
    name = lives(world, by_key_or_look_up, ANSWER_LOST, {"state": "CallAgain", "error": "ToolOutcomeUnknown"})
    assert world.settle(name)["status"] == Status.COMPLETED
    assert ledger(world, name) == [("000002#0", "book_flight", "COMMITTED")]
    assert len(world.bookings(name)) == 1
    world.assert_sound(name)


def test_nothing_is_looked_up_while_the_second_call_may_still_run(world: World, by_key_or_look_up: Scenario) -> None:
    name = lives(world, by_key_or_look_up, ANSWER_LOST, {"state": "CallAgain", "error": "Lambda.Unknown"})
    assert "book_flight" in asked(world, name)


def test_a_second_call_that_is_rejected_is_told_in_the_tools_own_words(world: World, by_key: Scenario) -> None:
    name = lives(
        world,
        by_key,
        {"state": "CallWriteTool", "error": "States.Timeout"},
        {"state": "CallAgain", "error": "ToolRejected"},
    )
    world.settle(name)
    [entry] = [item for item in world.items(name, "EFFECT#") if item["record"] == KEY]
    assert (entry["status"], entry["error"]) == ("FAILED", "ToolRejected")
    assert "The call was refused and nothing happened: A fault on purpose" in told_the_model(world, name)


def test_nothing_is_called_again_once_the_turns_failure_is_recorded(world: World, by_key: Scenario) -> None:
    name = fresh()
    with recovery_held(world, by_key, name, "ClaimEffect"):
        late_failure(world, name)
    world.settle(name)
    assert (ledger(world, name), world.bookings(name)) == ([("000002#0", "book_flight", "FAILED")], [])
    world.assert_sound(name)


def test_the_turns_failure_counts_no_more_once_the_call_is_made_again(world: World, by_key: Scenario) -> None:
    name = fresh()
    refused = world.stack.dynamodb.exceptions.ConditionalCheckFailedException
    with recovery_held(world, by_key, name, "CallAgain"), pytest.raises(refused):
        late_failure(world, name)
    world.settle(name, Status.COMPLETED)
    assert ledger(world, name) == [("000002#0", "book_flight", "COMMITTED")]
    assert len(world.bookings(name)) == 1
    world.assert_sound(name)


@contextmanager
def recovery_held(world: World, by: Scenario, name: str, state: str) -> Iterator[None]:
    """Hold the recovery of an agent whose call timed out without effect at a state, while the context lasts."""
    world.faults.put(Fault(agent_id=name, state="CallWriteTool", error="States.Timeout"))
    with world.faults.held(name, state) as until_held:
        world.stack.request(AgentRequested(prompt=by.prompt, agent=by.agent, agent_id=name))
        until_held()
        yield


def late_failure(world: World, name: str) -> None:
    """Land the request of the turn's FailEffect, with its own condition, after a recovery has taken over."""
    [decision] = world.items(name, "STEP#000002")
    [write] = [each for each in MACHINES["agent_turn"].states() if each.path == "CallTools/FailEffect"]
    request = write.fields["Parameters"]
    given = {":me": decision["owner"], ":error": "ToolUnavailable", ":message": "away", ":now": decision["at"]}
    world.stack.dynamodb.update_item(
        TableName=world.stack.outputs.table_name,
        Key={"agentId": {"S": name}, "record": {"S": KEY}},
        UpdateExpression=request["UpdateExpression"],
        ConditionExpression=request["ConditionExpression"],
        ExpressionAttributeNames=request["ExpressionAttributeNames"],
        ExpressionAttributeValues={
            placeholder: {"S": given.get(placeholder, value.get("S", ""))}
            for placeholder, value in request["ExpressionAttributeValues"].items()
        },
    )


# ---- Two writes in one reply; the turn stops while the slow write still runs


@pytest.fixture(scope="module")
def _clerk(shared_world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Register an agent whose tool is from elsewhere and acts at every call, with a look-up."""
    deploy_note(shared_world.stack, shared_world.client)
    register(shared_world.stack, write_clerk(tmp_path_factory.mktemp("clerk")))


@pytest.mark.usefixtures("_clerk")
def test_the_ledger_denies_no_call_that_acts_afterwards(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CommitEffect", when="left", dies="stopped"))
    request = AgentRequested(prompt=TWO_WRITES.prompt, agent="clerk", agent_id=name)
    world.stack.wait_for(world.stack.request(request))
    state = world.wait(name, lambda state: state["status"] in SETTLED)
    assert ledger(world, name) == [("000002#0", "note", "COMMITTED"), ("000002#1", "note", "COMMITTED")]
    assert acts(world.client, name) == [f"{name}#EFFECT#000002#{place}" for place in (0, 1)]
    assert state["status"] == Status.COMPLETED
    world.assert_sound(name)


def test_nothing_is_waited_for_if_the_end_of_the_call_was_seen(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CallWriteTool", when="after", error="States.Timeout"))
    world.play(scenario("straight_booking"), name)
    [recovery] = [
        e for e in world.stack.executions(world.stack.table.record(name)) if e.machine.endswith("AgentRecovery")
    ]
    [wait] = [visit for visit in world.history(recovery.arn) if visit.state == "WaitForCalls"]
    assert datetime.fromisoformat(wait.input["callsEndBy"]) <= wait.entered + timedelta(seconds=1)


# ---- Compensations


def compensating(world: World, name: str) -> None:
    """Start an agent that books, gives up and is undone."""
    world.start(scenario("undo_then_another"), name)


def test_an_undo_whose_answer_is_lost_is_made_once(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CommitUndo", when="after", error="States.Timeout"))
    compensating(world, name)
    world.settle(name, Status.WAITING_FOR_INPUT)
    assert ledger(world, name) == [
        ("000002#0", "book_flight", "COMPENSATED"),
        ("000002#0#UNDO#1", "cancel_flight", "COMMITTED"),
    ]
    assert [booking["status"] for booking in world.bookings(name)] == ["CANCELLED"]
    world.assert_inventory_agrees()


@pytest.mark.parametrize(("state", "attempts"), [("ReserveUndo", ["FAILED", "COMMITTED"]), ("CallUndo", ["COMMITTED"])])
def test_an_undo_that_dies_half_way_is_settled_with_its_effect(world: World, state: str, attempts: list[str]) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, machine="AgentRecovery", state=state, when="left", dies="stopped"))
    compensating(world, name)
    entries = world.until(lambda: [entry for entry in ledger(world, name) if "UNDO" in entry[0]])
    assert entries == [("000002#0#UNDO#1", "cancel_flight", "RESERVED")]
    world.ended(world.items(name, "STATE")[0]["owner"].partition("#")[0])
    set_state(world, name)
    assert world.run("agent_watch", {})["status"] == "SUCCEEDED"
    world.settle(name, Status.WAITING_FOR_INPUT)
    assert ledger(world, name) == [
        ("000002#0", "book_flight", "COMPENSATED"),
        *((f"000002#0#UNDO#{number}", "cancel_flight", status) for number, status in enumerate(attempts, 1)),
    ]
    assert [booking["status"] for booking in world.bookings(name)] == ["CANCELLED"]
    assert findings(world.items(name)) == []
    world.assert_inventory_agrees()
    world.assert_sound(name)


def test_an_undo_whose_end_is_not_known_says_why(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CallUndo", error="AccessDenied"))
    world.faults.put(Fault(agent_id=name, state="LookUp", error="AccessDenied"))
    compensating(world, name)
    asked(world, name)
    [_, undo] = world.items(name, "EFFECT#")
    assert (undo["status"], undo["error"]) == ("UNCERTAIN", "AccessDenied")
    assert findings(world.items(name)) == []


def test_the_user_is_told_what_was_undone(world: World) -> None:
    name = fresh()
    compensating(world, name)
    world.settle(name, Status.WAITING_FOR_INPUT)
    entry = world.items(name, "STEP#")[-1]
    assert "There is no hotel at the sea on that day." in entry["question"]
    assert "What was done is undone: book_flight." in entry["question"]
    assert world.stack.view(name).question == entry["question"]


def test_an_undo_that_fails_goes_to_the_operator_with_what_stands(world: World) -> None:
    name = fresh()
    fault = world.faults.put(Fault(agent_id=name, state="CallUndo", error="AccessDenied", times=100))
    compensating(world, name)
    question = asked(world, name)
    # The look-up has settled that the attempt did nothing.
    assert "COMMITTED    book_flight" in question
    assert "FAILED       cancel_flight" in question
    fault.unlink()
    decide(world, name, "COMPENSATE")
    world.settle(name, Status.WAITING_FOR_INPUT)
    assert [booking["status"] for booking in world.bookings(name)] == ["CANCELLED"]
    world.assert_inventory_agrees()
    world.assert_sound(name)


def test_an_undo_whose_end_is_unknown_is_looked_up_and_needs_no_operator(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CallUndo", when="after", error="Lambda.Unknown"))
    compensating(world, name)
    world.settle(name, Status.WAITING_FOR_INPUT)
    assert ledger(world, name) == [
        ("000002#0", "book_flight", "COMPENSATED"),
        ("000002#0#UNDO#1", "cancel_flight", "COMMITTED"),
    ]
    assert "What was done is undone: book_flight." in world.items(name, "STEP#")[-1]["question"]
    assert [booking["status"] for booking in world.bookings(name)] == ["CANCELLED"]
    world.assert_sound(name)


@pytest.mark.parametrize("undone", [True, False])
def test_an_operator_says_what_became_of_an_undo(world: World, undone: bool) -> None:
    name = fresh()
    world.faults.put(
        Fault(agent_id=name, state="CallUndo", when="after" if undone else "before", error="Lambda.Unknown")
    )
    world.faults.put(Fault(agent_id=name, state="LookUp", error="AccessDenied"))
    compensating(world, name)
    key = f"{KEY}#UNDO#1"
    assert f"--not '{key}'" in asked(world, name)
    assert f"Missing: {key}, cancel_flight" in refused(world, name, {"decision": "COMPENSATE"})
    decide(world, name, "COMPENSATE", effects=[happened(key) if undone else did_not(key)])
    world.settle(name, Status.WAITING_FOR_INPUT)
    attempts = [("000002#0#UNDO#1", "COMMITTED")]
    if not undone:
        attempts = [("000002#0#UNDO#1", "FAILED"), ("000002#0#UNDO#2", "COMMITTED")]
    assert [(record, status) for record, _, status in ledger(world, name)] == [("000002#0", "COMPENSATED"), *attempts]
    assert [booking["status"] for booking in world.bookings(name)] == ["CANCELLED"]
    world.assert_inventory_agrees()
    world.assert_sound(name)


def test_a_child_that_was_undone_fails_and_says_what_a_user_would_be_asked(world: World) -> None:
    world.register("travel", {})
    request = world.delegate(standing(world, Status.WAITING_FOR_AGENT), scenario("undo_then_another").prompt)
    name = request["agentId"]
    assert world.run("agent_start", request)["status"] == "SUCCEEDED"
    assert world.settle(name)["status"] == Status.FAILED
    assert decisions(world, name) == [("COMPENSATE", "GivenUp")]
    entry = world.items(name, "STEP#")[-1]
    assert "There is no hotel at the sea on that day." in entry["question"]
    assert "What was done is undone: book_flight." in entry["text"]
    assert [booking["status"] for booking in world.bookings(name)] == ["CANCELLED"]
    world.assert_inventory_agrees()
    world.assert_sound(name)


# ---- An operator


KEY = "EFFECT#000002#0"


def happened(key: str, **result: Any) -> dict[str, Any]:
    return {"key": key, "happened": True, **result}


def did_not(key: str) -> dict[str, Any]:
    return {"key": key, "happened": False}


def uncertain(world: World, when: Literal["before", "after"], journaled: bool = True) -> str:
    """Start an agent whose booking has an unknown outcome, and wait until an operator is asked about it.

    `when` its call was cut off: "before" it acted, or "after". `journaled`: whether its result is in the journal.
    """
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CallWriteTool", when=when, error="States.Timeout"))
    world.faults.put(Fault(agent_id=name, state="LookUp", error="AccessDenied"))
    if not journaled:
        world.faults.put(Fault(agent_id=name, state="CheckpointResults", error="AccessDenied"))
    world.start(scenario("straight_booking"), name)
    question = asked(world, name)
    assert f"{KEY}, book_flight " in question
    assert f"RETRY|REPLAN|COMPENSATE|ABORT --not '{KEY}'" in question
    return name


def booked(world: World, name: str) -> dict[str, Any]:
    """Return the booking that an operator finds for the agent's call."""
    [booking] = world.bookings(name)
    return {"booking_id": booking["bookingId"], "flight_id": booking["flightId"]}


def told_the_model(world: World, name: str) -> str:
    """Return the conversation as the model reads it."""
    record = world.stack.table.record(name)
    return json.dumps(fold(record.steps, record.effects).messages)


def calls(world: World, name: str) -> int:
    return [visit.state for visit in world.visited(name)].count("CallWriteTool")


@pytest.mark.parametrize("journaled", [True, False])
@pytest.mark.parametrize("order", ["RETRY", "REPLAN"])
def test_what_happened_as_the_operator_says_is_told_and_not_done_again(
    world: World, journaled: bool, order: str
) -> None:
    name = uncertain(world, "after", journaled)
    decide(world, name, order, effects=[happened(KEY, result=booked(world, name))])
    assert world.settle(name)["status"] == Status.COMPLETED
    assert ledger(world, name) == [("000002#0", "book_flight", "COMMITTED")]
    assert booked(world, name)["booking_id"] in told_the_model(world, name)
    assert calls(world, name) == 1
    world.assert_inventory_agrees()
    world.assert_sound(name)


def test_a_result_that_the_operator_does_not_know_is_told_as_that(world: World) -> None:
    name = uncertain(world, "after")
    decide(world, name, "RETRY", effects=[happened(KEY)])
    assert world.settle(name)["status"] == Status.COMPLETED
    assert "its result is not known" in told_the_model(world, name)


def test_what_did_not_happen_as_the_operator_says_is_done(world: World) -> None:
    name = uncertain(world, "before", journaled=False)
    decide(world, name, "RETRY", effects=[did_not(KEY)])
    assert world.settle(name)["status"] == Status.COMPLETED
    assert ledger(world, name) == [
        ("000002#0", "book_flight", "FAILED"),
        ("000002#0#ALT1", "book_flight_partner", "COMMITTED"),
    ]
    assert (len(world.bookings(name)), calls(world, name)) == (1, 2)
    world.assert_sound(name)


@pytest.mark.parametrize("order", ["RETRY", "REPLAN", "COMPENSATE"])
def test_an_order_without_what_is_uncertain_is_refused_and_asked_for_again(world: World, order: str) -> None:
    name = uncertain(world, "after")
    question = refused(world, name, {"decision": order})
    assert question.startswith("The last answer was refused, and nothing was done: ")
    assert f"Missing: {KEY}, book_flight" in question.splitlines()[0]
    assert ledger(world, name) == [("000002#0", "book_flight", "UNCERTAIN")]
    assert decisions(world, name) == []
    decide(world, name, "ABORT", effects=[happened(KEY)])
    world.settle(name, Status.FAILED)


def test_what_happened_as_the_operator_says_is_undone(world: World) -> None:
    name = uncertain(world, "after")
    question = refused(world, name, {"decision": "COMPENSATE", "effects": [happened(KEY)]})
    assert f"COMPENSATE can undo {KEY} only with booking_id of its result" in question
    decide(world, name, "COMPENSATE", effects=[happened(KEY, result=booked(world, name))])
    world.settle(name, Status.WAITING_FOR_INPUT)
    assert [entry[1:] for entry in ledger(world, name)] == [
        ("book_flight", "COMPENSATED"),
        ("cancel_flight", "COMMITTED"),
    ]
    assert [booking["status"] for booking in world.bookings(name)] == ["CANCELLED"]
    assert "What was done is undone: book_flight." in world.items(name, "STEP#")[-1]["question"]
    world.assert_inventory_agrees()
    world.assert_sound(name)


@pytest.mark.parametrize(
    ("effects", "status"), [([], "UNCERTAIN"), ([happened(KEY)], "COMMITTED"), ([did_not(KEY)], "FAILED")]
)
def test_an_agent_ends_with_its_ledger_as_the_operator_says(world: World, effects: list[Any], status: str) -> None:
    name = uncertain(world, "after")
    decide(world, name, "ABORT", effects=effects)
    world.settle(name, Status.FAILED)
    assert ledger(world, name) == [("000002#0", "book_flight", status)]
    assert "LookUp" not in [visit.state for visit in world.history(world.items(name, "STATE")[0]["lastUpdatedBy"])][-9:]


def test_a_truth_that_comes_before_the_operators_answer_stays(world: World) -> None:
    name = uncertain(world, "after")
    with world.faults.held(name, "SettleFailed") as until_held:
        answer(world, name, {"decision": "RETRY", "effects": [did_not(KEY)]})
        until_held()
        late = json.dumps(booked(world, name))
        set_effect(world, name, status="COMMITTED", result=late)
    world.settle(name, Status.COMPLETED)
    assert world.items(name, "EFFECT#")[0]["result"] == late
    assert calls(world, name) == 1


def set_effect(world: World, name: str, **fields: str) -> None:
    """Change the agent's effect, as a call of the former turn does."""
    world.stack.dynamodb.update_item(
        TableName=world.stack.outputs.table_name,
        Key={"agentId": {"S": name}, "record": {"S": KEY}},
        UpdateExpression="SET " + ", ".join(f"#{field} = :{field}" for field in fields),
        ExpressionAttributeNames={f"#{field}": field for field in fields},
        ExpressionAttributeValues={f":{field}": {"S": value} for field, value in fields.items()},
    )


def test_an_answer_that_is_lost_on_its_way_is_asked_for_again(world: World) -> None:
    name = uncertain(world, "after")
    world.faults.put(Fault(agent_id=name, state="LoadRecoveryWithAnswer", error="AccessDenied"))
    question = refused_by_fault(world, name)
    assert question.startswith("The answer could not be read (AccessDenied). Please answer again. Agent ")
    decide(world, name, "RETRY", effects=[happened(KEY)])
    assert world.settle(name)["status"] == Status.COMPLETED


def refused_by_fault(world: World, name: str) -> str:
    """Answer, and return the question that is asked again because the answer could not be read."""
    before = world.item(name, "OPERATOR")
    answer(world, name, {"decision": "RETRY", "effects": [happened(KEY)]})
    world.wait(name, lambda _: world.item(name, "OPERATOR") != before)
    after = world.item(name, "OPERATOR")
    assert after
    return after["question"]


@pytest.mark.parametrize(
    "output", ['"RETRY"', "[1]", "7", "null", '{"decision": 7}', '{"decision": "RETRY", "note": 7}']
)
def test_an_invalid_answer_is_asked_for_again(world: World, output: str) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="ReadReply", error="AccessDenied"))
    world.start(scenario("straight_booking"), name)
    asked(world, name)
    first = world.item(name, "OPERATOR")
    assert first
    world.stack.stepfunctions.send_task_success(taskToken=first["token"], output=output)
    world.wait(name, lambda _: world.item(name, "OPERATOR") != first)
    decide(world, name, "RETRY")
    assert world.settle(name)["status"] == Status.COMPLETED
    assert decisions(world, name) == [("RETRY", "AccessDenied")]


def test_no_operator_is_asked_about_an_agent_with_a_cancellation(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="ReadReply", error="AccessDenied"))
    with world.faults.held(name, "MarkWaiting") as until_held:
        world.start(scenario("straight_booking"), name)
        until_held()
        cancel = world.run("agent_input", {"agentId": name}, kind="AgentCancelRequested")
        assert cancel["status"] == "SUCCEEDED"
    assert world.settle(name)["status"] == Status.CANCELLED
    assert decisions(world, name) == [("CANCEL", "AccessDenied")]
    assert world.item(name, "OPERATOR") is None
    world.assert_sound(name)


def test_a_record_that_cannot_be_read_is_told_of_and_tried_again(
    world: World, told: Callable[[str], dict[str, Any]]
) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="AskModel", error="AccessDenied"))
    world.faults.put(Fault(agent_id=name, state="LoadRecovery", error="InvalidRecord"))
    world.start(scenario("straight_booking"), name)
    message = told(name)
    assert message["Subject"] == "Turnstile: an agent cannot be recovered"
    assert f"Agent {name} cannot be recovered: InvalidRecord. Open the execution" in message["Message"]
    owner = world.wait(name, lambda state: state["owner"] != "NONE")["owner"].split("#")[0]
    assert owner in message["Message"]
    assert world.ended(owner)["error"] == "InvalidRecord"
    set_state(world, name)
    assert world.run("agent_watch", {})["status"] == "SUCCEEDED"
    asked(world, name)
    decide(world, name, "RETRY")
    assert world.settle(name)["status"] == Status.COMPLETED


def test_an_operator_may_let_it_be(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="ReadReply", error="AccessDenied"))
    world.start(scenario("straight_booking"), name)
    asked(world, name)
    decide(world, name, "ABORT", note="Not worth it.")
    assert world.settle(name)["status"] == Status.FAILED
    assert decisions(world, name) == [("ABORT", "AccessDenied")]


def test_an_operator_may_have_the_model_plan_again(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="ReadReply", error="AccessDenied"))
    world.start(scenario("straight_booking"), name)
    asked(world, name)
    decide(world, name, "REPLAN")
    assert world.settle(name)["status"] == Status.COMPLETED
    assert world.items(name, "STATE")[0]["replans"] == "1"


def test_a_question_goes_out_by_the_topic_and_without_the_token(
    world: World, told: Callable[[str], dict[str, Any]]
) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="ReadReply", error="AccessDenied"))
    world.start(scenario("straight_booking"), name)
    asked(world, name)
    message = told(name)
    attributes = {key: value["Value"] for key, value in message["MessageAttributes"].items()}
    assert attributes == {"agentId": name, "error": "AccessDenied"}
    token = world.item(name, "OPERATOR")
    assert token and token["token"] not in json.dumps(message)


def test_an_operator_without_an_answer_is_reminded_and_then_the_agent_fails(tmp_path: Path) -> None:
    folder = tmp_path / "faults"
    folder.mkdir()
    with (
        pytest.MonkeyPatch.context() as environment,
        ScriptedModel(load_scenarios()) as model,
    ):
        environment.setenv(FOLDER, str(folder))
        with Embedded.start(model=model.url, folder=tmp_path / "engine", wait_scale=0) as engine:
            engine.deploy(TEMPLATE, parameters={"OperatorReminderSeconds": "1", "OperatorReminders": "1"})
            shorten(Stack.embedded(engine))
            world = World(Stack.embedded(engine), Faults(folder), engine.client, short=True)
            name = fresh()
            world.faults.put(Fault(agent_id=name, state="ReadReply", error="AccessDenied"))
            with within_limits(world.stack.stepfunctions):
                world.start(scenario("straight_booking"), name)
                first = asked(world, name)
                state = world.settle(name, Status.FAILED)
            visited = [visit.state for visit in world.history(state["lastUpdatedBy"])]
    assert "needs a decision" in first
    assert visited.count("NotifyOperator") == 2
    assert visited[-2:] == ["OperatorTimedOut", "RecordRecovery"]


# ---- Never another execution's lease


def test_the_lease_is_not_taken_from_a_running_turn(world: World) -> None:
    name = fresh()
    with world.faults.held(name, "AskModel") as until_held:
        world.start(scenario("straight_booking"), name)
        until_held()
        state = world.wait(name, lambda state: state["owner"] != "NONE")
        detail = {
            "agentId": name,
            "step": 1,
            "error": "TurnDied",
            "errorMessage": "A forged report.",
            "currentState": "PLANNING",
            "executionArn": state["owner"].split("#")[0],
        }
        execution = world.run("agent_recovery", detail)
        assert execution["status"] == "SUCCEEDED"
        assert world.item(name, "STATE") == state
    assert world.settle(name)["status"] == Status.COMPLETED
    assert decisions(world, name) == []
