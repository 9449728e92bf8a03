"""agent_input: nothing that a user says is lost, heard twice or heard out of order."""

import uuid
from typing import Any

import pytest

from agent.record import Status
from tests.paths.conftest import World, scenario, waiting
from workflows.engines.faults import Fault


@pytest.mark.parametrize(
    ("detail", "error", "words"),
    [
        ({"text": "Hello"}, "InputInvalid", "needs `agentId` and `text`"),
        ({"agentId": "nobody"}, "InputInvalid", "needs `agentId` and `text`"),
        ({"agentId": "nobody", "text": ""}, "InputInvalid", "needs `agentId` and `text`"),
        ({"agentId": "nobody", "text": 7}, "InputInvalid", "needs `agentId` and `text`"),
        ({"agentId": "nobody", "text": "Hello"}, "AgentUnknown", "There is no agent nobody."),
    ],
)
def test_a_bad_input_is_refused_in_words(world: World, detail: dict[str, Any], error: str, words: str) -> None:
    execution = world.run("agent_input", detail)
    assert (execution["status"], execution["error"]) == ("FAILED", error)
    assert words in execution["cause"]


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
    assert world.run("agent_input", detail, event_id)["status"] == "SUCCEEDED"  # and after the end
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
    assert states[7:9] == ["CloseTurn", "LoadTurn"]  # refused, because the turn had not seen everything
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
    assert state["error"] == "BedrockRuntime.ValidationException"  # asked once more, and the scenario has no more
    states = [visit.state for visit in world.visited(name)]
    assert states[states.index("RecordFailure") :][:4] == ["RecordFailure", "RouteUnrecorded", "LoadTurn", "RouteEntry"]
