"""agent_turn: the rules of the record. One turn at a time, one effect per decision, and no write twice."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.world import TRAVEL, World, scenario, waiting
from turnstile_agents.events import AgentRequested
from turnstile_agents.record import SETTLED, Status
from turnstile_cli.engines import template
from turnstile_cli.engines.embedded import Embedded
from turnstile_cli.engines.faults import Fault, Faults, canceled
from turnstile_cli.files import TEMPLATE
from turnstile_cli.models.scenarios import load_scenarios
from turnstile_cli.models.scripted import ScriptedModel
from turnstile_cli.stack.client import Stack
from turnstile_cli.stack.registry import register

WRITES = ["ClaimTurn", "CheckpointDecision", "ReserveEffect", "CommitEffect", "CheckpointResults", "CloseTurn"]
BUSY = "DynamoDb.ProvisionedThroughputExceededException"


def fresh(name: str = "turn") -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def set_state(world: World, agent_id: str, **values: str) -> None:
    """Change STATE as an execution does that takes the agent over."""
    world.stack.dynamodb.update_item(
        TableName=world.stack.outputs.table_name,
        Key={"agentId": {"S": agent_id}, "record": {"S": "STATE"}},
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values) + " REMOVE announce",
        ExpressionAttributeNames={f"#{name}": name for name in values},
        ExpressionAttributeValues={f":{name}": {"S": value} for name, value in values.items()},
    )


def turn_of(world: World, agent_id: str) -> str:
    """Return the execution that works on the agent."""
    state = world.wait(agent_id, lambda state: state["owner"] != "NONE")
    return state["owner"].split("#")[0]


# ---- A redrive


def test_a_redriven_execution_calls_no_tool_that_writes(tmp_path: Path) -> None:
    """Let this engine say of every execution that it was redriven once: no engine here can redrive."""
    with pytest.MonkeyPatch.context() as patch, ScriptedModel(load_scenarios()) as model:
        patch.setattr(template, "NO_REDRIVE", (template.NO_REDRIVE[0], "1"))
        with Embedded.start(model=model.url, folder=tmp_path / "engine", wait_scale=0) as engine:
            engine.deploy(TEMPLATE)
            world = World(Stack.embedded(engine), Faults(tmp_path), engine.client)
            agent_id = world.start(scenario("straight_booking"), fresh())
            world.until(lambda: world.items(agent_id, "EFFECT#"), seconds=60)
            world.wait(agent_id, lambda state: int(state["errorCount"]) > 0 or state["status"] in SETTLED, seconds=60)
            assert [visit.error for visit in world.visited(agent_id) if visit.state == "CallWriteTool"] != []
            assert world.bookings(agent_id) == []
            assert [item["status"] for item in world.items(agent_id, "EFFECT#")].count("COMMITTED") == 0


# ---- The claim


@pytest.mark.parametrize(
    ("detail", "error"),
    [
        ({"step": 99}, "StepAhead"),
        ({"step": 3}, "AgentFinished"),
        ({"step": 3, "nextAction": "NONE"}, "AgentFinished"),
        ({"agentId": "unknown", "step": 1}, "AgentUnknown"),
        ({"step": "two"}, "DynamoDb.DynamoDbException"),
    ],
)
def test_an_event_that_cannot_be_is_refused(world: World, detail: dict[str, Any], error: str) -> None:
    agent_id = world.play(scenario("give_up"))  # its journal ends at step 3
    before = world.items(agent_id)
    execution = world.run("agent_turn", {"agentId": agent_id, "nextAction": "PLANNING", **detail})
    assert (execution["status"], execution["error"]) == ("FAILED", error)
    assert world.items(agent_id) == before


def test_an_event_that_comes_late_does_nothing(world: World) -> None:
    agent_id = world.play(scenario("straight_booking"))
    before = world.items(agent_id)
    execution = world.run("agent_turn", {"agentId": agent_id, "step": 1, "nextAction": "PLANNING"})
    assert execution["status"] == "SUCCEEDED"
    assert world.items(agent_id) == before


def test_an_event_delivered_many_times_at_once_does_the_work_once(world: World) -> None:
    agent_id = waiting(world)
    # Wake the agent without an event, so that the test makes all deliveries.
    world.faults.put(Fault(agent_id=agent_id, state="PublishNextAction", when="before", error="Lost", times=100))
    world.run("agent_input", {"agentId": agent_id, "text": "Tomorrow."})
    detail = {"agentId": agent_id, "step": 2, "status": "PLANNING", "nextAction": "PLANNING"}
    arns = [world.deliver("agent_turn", detail) for _ in range(4)]
    assert [world.ended(arn)["status"] for arn in arns] == ["SUCCEEDED"] * 4
    assert world.settle(agent_id)["status"] == Status.COMPLETED
    assert world.items(agent_id, "STATE")[0]["invocationCount"] == "2"  # the first turn, and one of the four deliveries
    assert len(world.bookings(agent_id)) == 1
    world.assert_sound(agent_id)


def test_the_lease_is_not_taken_from_a_running_turn(world: World) -> None:
    name = fresh()
    with world.faults.held(name, "AskModel") as until_held:
        world.start(scenario("straight_booking"), name)
        until_held()
        other = world.run("agent_turn", {"agentId": name, "step": 1, "nextAction": "PLANNING"})
        assert other["status"] == "SUCCEEDED"  # it ends in TurnAlreadyTaken
    assert world.settle(name)["invocationCount"] == "1"


# ---- Retries


@pytest.mark.parametrize("state", WRITES)
@pytest.mark.parametrize(("when", "error"), [("before", BUSY), ("after", "States.Timeout")])
def test_a_write_that_is_retried_is_done_once(world: World, state: str, when: Any, error: str) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state=state, when=when, error=error))
    agent_id = world.play(scenario("straight_booking"), name)
    assert world.items(agent_id, "STATE")[0]["status"] == Status.COMPLETED
    assert any(visit.state == state and visit.attempts == 2 for visit in world.visited(agent_id))
    assert world.items(agent_id, "STATE")[0]["invocationCount"] == "1"
    assert len(world.bookings(agent_id)) == 1
    world.assert_inventory_agrees()
    world.assert_sound(agent_id)


def test_a_tool_that_promises_that_nothing_happened_is_called_again(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CallWriteTool", error="ToolUnavailable", times=2))
    world.play(scenario("straight_booking"), name)
    assert [item["status"] for item in world.items(name, "EFFECT#")] == ["COMMITTED"]
    assert len(world.bookings(name)) == 1


# ---- What cannot be retried


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_call_whose_outcome_is_unknown_is_looked_up_and_not_made_again(world: World, when: Any) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CallWriteTool", when=when, error="Lambda.Unknown"))
    world.start(scenario("straight_booking"), name)
    world.settle(name)
    happened = when == "after"
    assert [item["status"] for item in world.items(name, "EFFECT#")] == ["COMMITTED" if happened else "FAILED"]
    assert len(world.bookings(name)) == int(happened)
    states = [visit.state for visit in world.visited(name)]
    assert (states.count("CallWriteTool"), states.count("DoubtEffect"), states.count("ToolsFailed")) == (1, 1, 1)


def test_a_result_that_cannot_be_written_down_is_looked_up(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CommitEffect", error="DynamoDb.ResourceNotFoundException"))
    world.start(scenario("straight_booking"), name)
    assert world.settle(name)["status"] == Status.COMPLETED
    assert [item["status"] for item in world.items(name, "EFFECT#")] == ["COMMITTED"]
    assert len(world.bookings(name)) == 1


@pytest.mark.parametrize("state", ["AskModel", "ReadReply"])
def test_a_permanent_error_is_recorded_and_a_person_is_asked(world: World, state: str) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state=state, error="AccessDenied"))
    world.start(scenario("straight_booking"), name)
    settled = world.settle(name)
    assert (settled["status"], settled["error"]) == (Status.WAITING_FOR_OPERATOR, "AccessDenied")
    [turn] = {step["execution"] for step in world.items(name, "STEP#") if step["who"] == "MODEL"} or [None]
    assert turn is None or world.ended(turn)["error"] == "AccessDenied"


def test_a_scenario_that_runs_out_says_so(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="CloseTurn", **canceled("ConditionalCheckFailed")))
    # The model is sent back once, then the turn closes all the same; but an input makes it ask the model once more.
    with world.faults.held(name, "CloseTurn") as until_held:
        world.start(scenario("straight_booking"), name)
        until_held()
        world.run("agent_input", {"agentId": name, "text": "And a hotel?"})
    state = world.settle(name)
    assert (state["status"], state["error"]) == (Status.WAITING_FOR_OPERATOR, "BedrockRuntime.ValidationException")
    assert "scenario straight_booking has no reply number 2" in state["errorMessage"]


# ---- The fence


@pytest.mark.parametrize("state", ["CheckpointDecision", "ReserveEffect", "CheckpointResults", "CloseTurn"])
def test_a_turn_that_was_taken_over_writes_nothing_more(world: World, state: str) -> None:
    name = fresh()
    with world.faults.held(name, state) as until_held:
        world.start(scenario("straight_booking"), name)
        until_held()
        turn = turn_of(world, name)
        set_state(world, name, owner="another")
        before = world.items(name)
    execution = world.ended(turn)
    assert (execution["status"], execution["error"]) == ("FAILED", "LeaseLost")
    assert world.items(name) == before
    assert len(world.bookings(name)) == (0 if state in ("CheckpointDecision", "ReserveEffect") else 1)


def test_the_truth_of_a_call_may_come_late(world: World) -> None:
    name = fresh()
    with world.faults.held(name, "CommitEffect") as until_held:
        world.start(scenario("straight_booking"), name)
        until_held()
        turn = turn_of(world, name)
        set_state(world, name, owner="another")
        key = {"agentId": {"S": name}, "record": {"S": "EFFECT#000002#0"}}
        world.stack.dynamodb.update_item(
            TableName=world.stack.outputs.table_name,
            Key=key,
            UpdateExpression="SET #status = :uncertain",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":uncertain": {"S": "UNCERTAIN"}},
        )
    assert world.ended(turn)["error"] == "LeaseLost"
    assert [item["status"] for item in world.items(name, "EFFECT#")] == ["COMMITTED"]


def test_a_failure_whose_record_is_written_and_not_confirmed_is_that_failure(world: World) -> None:
    name = fresh()
    world.faults.put(Fault(agent_id=name, state="RecordFailure", when="after", error="States.Timeout"))
    with world.faults.held(name, "AskModel", error="AccessDenied") as until_held:
        world.start(scenario("straight_booking"), name)
        until_held()
        turn = turn_of(world, name)
    assert world.settle(name)["errorCount"] == "1"
    assert world.ended(turn)["error"] == "AccessDenied"


# ---- A resume is not a replay


@pytest.mark.parametrize("state", ["AskModel", "ReserveEffect", "CommitEffect", "CheckpointResults", "CloseTurn"])
def test_a_turn_that_died_is_gone_on_with(world: World, state: str) -> None:
    name = fresh()
    with world.faults.held(name, state, error="Stopped") as until_held:
        world.start(scenario("straight_booking"), name)
        until_held()
        world.stack.stepfunctions.stop_execution(executionArn=turn_of(world, name))
    assert world.settle(name)["status"] == Status.COMPLETED
    assert [step["action"] for step in world.items(name, "STEP#") if step["who"] == "RECOVERY"] == ["RETRY"]
    assert len(world.bookings(name)) == 1
    world.assert_inventory_agrees()
    world.assert_sound(name)


# ---- The bounds


def test_a_long_run_goes_on_in_a_fresh_execution(world: World) -> None:
    long = scenario("look_up_then_book").model_copy(update={"limits": {"stepsPerTurn": 2}})
    agent_id = world.play(long)
    state = world.items(agent_id, "STATE")[0]
    assert (state["status"], state["invocationCount"]) == (Status.COMPLETED, "3")
    assert "HandOver" in [visit.state for visit in world.visited(agent_id)]
    assert len(world.bookings(agent_id)) == 1


def test_long_messages_are_heard_and_undo_nothing(world: World) -> None:
    patient = scenario("look_up_then_book")
    name = fresh("long")
    with world.faults.held(name, "CheckpointResults") as until_held:
        world.start(patient, name)
        until_held()
        for letter in "ab":
            assert world.run("agent_input", {"agentId": name, "text": letter * 58_000})["status"] == "SUCCEEDED"
        assert world.run("agent_input", {"agentId": name, "text": "c" * 200_000})["status"] == "SUCCEEDED"
    state = world.settle(name)
    assert (state["status"], state["error"], state["inbox"]) == (Status.COMPLETED, "", "3")
    entries = [item for item in world.items(name, "STEP#") if item["who"] == "MODEL"]
    assert [len(json.loads(entry["inputs"])) for entry in entries].count(1) == 3
    journal = "".join(entry["messages"] for entry in entries)
    assert ("a" * 58_000 in journal, "b" * 58_000 in journal) == (True, True)
    assert "A message of 200000 bytes, too many to be read here. It begins: ccc" in journal
    assert [item["status"] for item in world.items(name, "EFFECT#")] == ["COMMITTED"]
    world.assert_sound(name)


def test_a_conversation_that_outgrows_the_payload_asks_the_operator_if_something_stands(world: World) -> None:
    name = fresh("outgrown")
    world.faults.put(Fault(agent_id=name, state="LoadTurn", error="ContextTooLarge", skip=1))
    world.start(scenario("straight_booking"), name)
    state = world.settle(name, Status.WAITING_FOR_OPERATOR)
    assert state["error"] == "ContextTooLarge"
    assert [item["status"] for item in world.items(name, "EFFECT#")] == ["COMMITTED"]


def test_an_agent_keeps_the_definition_that_it_began_with(world: World) -> None:
    agent_id = waiting(world)
    version = world.items(agent_id, "STATE")[0]["definitionVersion"]
    world.play(scenario("out_of_tokens"))  # registers another version
    latest = world.item("DEFINITION#travel", "LATEST")
    assert latest and latest["version"] != version
    world.run("agent_input", {"agentId": agent_id, "text": "Tomorrow."})
    assert world.settle(agent_id, Status.COMPLETED)["definitionVersion"] == version


def test_a_model_without_tool_use_is_asked_without_tools(world: World, tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(TRAVEL.read_text("utf-8").replace("model:\n", "model:\n  protocol: json\n"), "utf-8")
    register(world.stack, file)
    requested = AgentRequested(prompt=scenario("invalid_json").prompt, agent_id=fresh("json"))
    world.stack.wait_for(world.stack.request(requested))
    assert requested.agent_id
    assert world.settle(requested.agent_id)["status"] == Status.COMPLETED
    states = [visit.state for visit in world.visited(requested.agent_id)]
    assert (states.count("AskModelWithoutTools"), states.count("AskModel")) == (3, 0)


def test_another_model_is_asked_when_the_first_refuses(world: World, tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    text = TRAVEL.read_text("utf-8").replace("model:\n", "model:\n  fallbacks: [second-model, third-model]\n")
    file.write_text(text, "utf-8")
    register(world.stack, file)
    name = fresh("fallback")
    world.faults.put(Fault(agent_id=name, state="AskModel", error="BedrockRuntime.AccessDeniedException", times=2))
    requested = AgentRequested(prompt=scenario("straight_booking").prompt, agent_id=name)
    world.stack.wait_for(world.stack.request(requested))
    assert world.settle(name)["status"] == Status.COMPLETED
    models = [json.loads(i["usage"])["modelId"] for i in world.items(name, "STEP#") if i["who"] == "MODEL"]
    assert models[0] == "third-model"
    assert models[1] not in ("second-model", "third-model")  # each round begins with the first model
    states = [visit.state for visit in world.visited(name)]
    assert states.count("UseFallback") == 2


def test_the_journal_holds_what_was_said_and_done(world: World) -> None:
    agent_id = world.play(scenario("two_tools_at_once"))
    entries = [
        (step["who"], json.loads(step.get("decision", "{}")).get("action")) for step in world.items(agent_id, "STEP#")
    ]
    assert entries == [("USER", None), ("MODEL", "TOOL_USE"), ("TOOLS", None), ("MODEL", "COMPLETE")]
