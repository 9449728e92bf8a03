"""Any value of a model, a tool or a sender, also larger than a state carries: the agent goes on, or the sender is
told."""

import json
from typing import Any

import pytest

from tests.paths.test_agent_start import assert_no_record
from tests.paths.test_agent_turn import fresh
from tests.world import World, scenario, waiting
from turnstile_agents.record import Status
from turnstile_cli.engines.faults import Fault

HALF = "\ud83d"
"""Half of a surrogate pair: JSON can write it in plain ASCII, and UTF-8 cannot hold it."""
LONG = "x" * 100_000
TOO_LARGE = "States.DataLimitExceeded"


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def answer_of(payload: Any) -> str:
    """Return Lambda's answer for a function."""
    return json.dumps({"StatusCode": 200, "Payload": payload})


def replied(*blocks: Any) -> str:
    """Return Bedrock's answer."""
    usage = {"InputTokens": 1, "OutputTokens": 1, "TotalTokens": 2}
    message = {"Role": "assistant", "Content": [*blocks]}
    return json.dumps({"Output": {"Message": message}, "StopReason": "tool_use", "Usage": usage})


def conversation(world: World, agent_id: str) -> str:
    """Return the messages of the agent's last request to the model, as JSON."""
    requests = [visit.input["request"] for visit in world.visited(agent_id) if visit.state == "AskModel"]
    return json.dumps(requests[-1]["Messages"], ensure_ascii=False)


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({HALF: HALF}, '{"\ufffd": "\ufffd"}'),
        ({"deep": nested(300)}, "[[[[[["),
        ({"pages": "x" * 80_000}, "80013 bytes, too many to be read in full"),
        ("just words", '{"value": "just words"}'),
    ],
)
def test_a_look_up_may_answer_anything(world: World, payload: Any, told: str) -> None:
    name = fresh("answer")
    world.faults.put(Fault(agent_id=name, state="CallReadTool", when="after", answer=answer_of(payload)))
    world.start(scenario("look_up"), name)
    assert world.settle(name)["status"] == Status.COMPLETED
    assert told in conversation(world, name)
    json.dumps(world.stack.view(name).dump(), ensure_ascii=False).encode()


@pytest.mark.parametrize("payload", [{HALF: HALF}, {"deep": nested(300)}, {"pages": "x" * 80_000}])
def test_a_call_that_writes_may_answer_anything(world: World, payload: Any) -> None:
    name = fresh("answer")
    world.faults.put(Fault(agent_id=name, state="CallWriteTool", when="after", answer=answer_of(payload)))
    world.start(scenario("straight_booking"), name)
    assert world.settle(name)["status"] == Status.COMPLETED
    assert [item["status"] for item in world.items(name, "EFFECT#")] == ["COMMITTED"]
    json.dumps(world.stack.view(name).dump(), ensure_ascii=False).encode()


@pytest.mark.parametrize("value", [HALF, nested(400)])
def test_a_reply_may_hold_anything(world: World, value: Any) -> None:
    name = fresh("reply")
    use = {"ToolUse": {"ToolUseId": "u0", "Name": "get_flight_info", "Input": {"from_city": value, HALF: value}}}
    redacted = {"ReasoningContent": {"RedactedContent": "/w=="}}
    reply = replied(redacted, {"Text": HALF}, use)
    world.faults.put(Fault(agent_id=name, state="AskModel", when="after", answer=reply))
    world.start(scenario("look_up"), name)
    world.settle(name, Status.COMPLETED)
    decisions = [json.loads(item["decision"]) for item in world.items(name, "STEP#") if item["who"] == "MODEL"]
    assert decisions[0]["action"] == "INVALID"
    json.dumps(world.stack.view(name).dump(), ensure_ascii=False).encode()


def test_words_may_hold_anything(world: World) -> None:
    agent_id = waiting(world)
    assert world.run("agent_input", {"agentId": agent_id, "text": f"Tomorrow. {HALF}"})["status"] == "SUCCEEDED"
    assert world.settle(agent_id, Status.COMPLETED)
    assert "Tomorrow. \ufffd" in conversation(world, agent_id)
    json.dumps(world.stack.view(agent_id).dump(), ensure_ascii=False).encode()


# ---- Larger than a state carries


@pytest.mark.parametrize("state", ["CallWriteTool", "CommitEffect"])
def test_an_effect_whose_answer_is_too_large_stands(world: World, state: str) -> None:
    name = fresh("large")
    when: Any = "after" if state == "CallWriteTool" else "before"
    world.faults.put(Fault(agent_id=name, state=state, when=when, error=TOO_LARGE))
    world.start(scenario("straight_booking"), name)
    assert world.settle(name)["status"] == Status.COMPLETED
    [effect] = world.items(name, "EFFECT#")
    assert effect["status"] == "COMMITTED"
    assert json.loads(effect["result"])["truncated"] is True
    assert "Its answer is too large to be kept." in conversation(world, name)
    assert len(world.bookings(name)) == 1
    world.assert_sound(name)


def test_the_answer_of_a_look_up_that_is_too_large_is_told(world: World) -> None:
    name = fresh("large")
    world.faults.put(Fault(agent_id=name, state="CallReadTool", when="after", error=TOO_LARGE))
    world.start(scenario("look_up"), name)
    assert world.settle(name)["status"] == Status.COMPLETED
    assert "too large to be kept; ask for less" in conversation(world, name)


@pytest.mark.parametrize(("play", "told"), [("look_up", "or call one at a time"), ("straight_booking", "booking_id")])
def test_answers_that_are_too_large_together_are_told_from_the_ledger(world: World, play: str, told: str) -> None:
    name = fresh("large")
    world.faults.put(Fault(agent_id=name, state="CheckpointResults", error=TOO_LARGE))
    world.start(scenario(play), name)
    assert world.settle(name)["status"] == Status.COMPLETED
    assert told in conversation(world, name)
    world.assert_sound(name)


def test_a_checkpoint_that_is_too_large_is_planned_again(world: World) -> None:
    name = fresh("large")
    world.faults.put(Fault(agent_id=name, state="CheckpointDecision", error=TOO_LARGE))
    world.start(scenario("straight_booking"), name)
    assert world.settle(name, Status.COMPLETED)
    assert [item["action"] for item in world.items(name, "STEP#") if item["who"] == "RECOVERY"] == ["REPLAN"]
    assert "Answer in fewer words" in conversation(world, name)
    assert [item["status"] for item in world.items(name, "EFFECT#")] == ["COMMITTED"]


def test_an_input_that_is_too_large_to_be_kept_is_refused(world: World) -> None:
    agent_id = waiting(world)
    world.faults.put(Fault(agent_id=agent_id, state="WakeAgent", error=TOO_LARGE))
    execution = world.run("agent_input", {"agentId": agent_id, "text": "Tomorrow."})
    assert (execution["status"], execution["error"]) == ("FAILED", "InputInvalid")
    assert world.items(agent_id, "INPUT#") == []


# ---- Ids longer than a key


@pytest.mark.parametrize(
    "detail", [{"agentId": "a" * 3000, "text": "Hi."}, {"text": "Hi.", "inputId": "i" * 1100}], ids=["agent", "input"]
)
def test_an_input_with_an_id_that_is_too_long_is_refused(world: World, detail: dict[str, Any]) -> None:
    agent_id = waiting(world)
    execution = world.run("agent_input", {"agentId": agent_id, **detail})
    assert (execution["status"], execution["error"]) == ("FAILED", "InputInvalid")
    assert "longer than a key" in execution["cause"]
    assert world.items(agent_id, "INPUT#") == []


@pytest.mark.parametrize("name", ["agentId", "agent"])
def test_a_request_with_an_id_that_is_too_long_is_refused(world: World, name: str) -> None:
    agent_id = fresh("long")
    execution = world.run("agent_start", {"prompt": "Fly.", "agentId": agent_id, name: "a" * 3000})
    assert (execution["status"], execution["error"]) == ("FAILED", "RequestInvalid")
    assert "longer than a key" in execution["cause"]
    assert_no_record(world, agent_id)


@pytest.mark.parametrize(
    ("machine", "kind", "detail", "error"),
    [
        ("agent_start", None, {"prompt": "Fly", "agentId": f"child-{LONG}"}, "RequestInvalid"),
        ("agent_input", "AgentDecisionGiven", {"approvalId": LONG, "decision": "REFUSE"}, "DecisionRefused"),
        ("agent_input", "AgentStateUpdated", {"parent": LONG}, "InputInvalid"),
        ("agent_turn", None, {"step": "x" * 40_000, "nextAction": "PLANNING"}, "DynamoDb.DynamoDbException"),
    ],
)
def test_a_refusal_does_not_repeat_a_long_text(
    world: World, machine: str, kind: str | None, detail: dict[str, Any], error: str
) -> None:
    agent_id = waiting(world)
    execution = world.run(machine, {"agentId": agent_id, **detail}, **({"kind": kind} if kind else {}))
    assert (execution["status"], execution["error"]) == ("FAILED", error)
    assert len(execution["cause"]) < 1000
