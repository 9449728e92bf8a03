"""agent_start: a request becomes one agent, or a clear refusal without any record."""

import json
import uuid
from typing import Any

import pytest

from tests.paths.test_agent_watch import standing
from tests.world import World, waiting
from turnstile_agents.record import Status, child_id
from turnstile_cli.engines.faults import Fault, canceled

PARENT: dict[str, Any] = {"agentId": "agent-0", "step": "STEP#000002", "place": 0}
MOON = "Book a flight from New York to the moon."


def fresh() -> str:
    return f"start-{uuid.uuid4().hex[:8]}"


def assert_no_record(world: World, agent_id: str) -> None:
    assert world.items(agent_id) == []


@pytest.mark.parametrize(
    ("detail", "error", "words"),
    [
        ({}, "RequestInvalid", "needs a `prompt` that is a string"),
        ({"prompt": 7}, "RequestInvalid", "needs a `prompt` that is a string"),
        ({"prompt": ""}, "RequestInvalid", "needs a `prompt` that is a string"),
        ({"prompt": "Fly", "goal": ["a"]}, "RequestInvalid", "as strings where they are given"),
        ({"prompt": "Fly", "agent": None}, "RequestInvalid", "as strings where they are given"),
        ({"prompt": "Fly", "goal": None}, "RequestInvalid", "as strings where they are given"),
        ({"prompt": "Fly", "by": 7}, "RequestInvalid", "as strings where they are given"),
        ({"prompt": "Fly", "by": None}, "RequestInvalid", "as strings where they are given"),
        ({"prompt": "Fly", "requestId": 7}, "RequestInvalid", "as strings where they are given"),
        ({"prompt": "Fly", "requestId": ""}, "RequestInvalid", "a `requestId` that is not empty"),
        ({"prompt": "Fly", "parent": "agent-0"}, "RequestInvalid", "a `parent` with all of"),
        ({"prompt": "Fly", "parent": {"agentId": "agent-0"}}, "RequestInvalid", "a `parent` with all of"),
        (
            {"prompt": "Fly", "parent": {"agentId": "a", "depth": 1, "tokens": 9, "costMicroUsd": 9}},
            "RequestInvalid",
            "",
        ),
        ({"parent": {**PARENT, "agentId": 7}}, "RequestInvalid", "a `parent` with all of"),
        ({"parent": {**PARENT, "agentId": ""}}, "RequestInvalid", "a `parent` with all of"),
        ({"parent": {**PARENT, "step": 2}}, "RequestInvalid", "a `parent` with all of"),
        ({"parent": {**PARENT, "step": "STATE"}}, "RequestInvalid", "a `parent` with all of"),
        ({"parent": {**PARENT, "place": "0"}}, "RequestInvalid", "a `parent` with all of"),
        ({"parent": PARENT}, "RequestInvalid", "No decision of agent agent-0 at STEP#000002, place 0, delegates to"),
        (
            {"prompt": "Fly", "agent": "unknown"},
            "DefinitionUnknown",
            "No agent named unknown is registered. Register it",
        ),
    ],
)
def test_a_bad_request_is_refused_in_words(world: World, detail: dict[str, Any], error: str, words: str) -> None:
    agent_id = fresh()
    execution = world.run("agent_start", {**detail, "agentId": agent_id})
    assert (execution["status"], execution["error"]) == ("FAILED", error)
    assert words in execution["cause"]
    assert_no_record(world, agent_id)


def test_an_id_cannot_reach_into_the_definitions(world: World) -> None:
    execution = world.run("agent_start", {"prompt": "Fly", "agentId": "DEFINITION#travel"})
    assert execution["error"] == "RequestInvalid"
    assert world.item("DEFINITION#travel", "STATE") is None


def test_a_request_delivered_twice_makes_one_agent(world: World) -> None:
    event_id = str(uuid.uuid4())
    detail = {"prompt": MOON}
    first, second = (world.run("agent_start", detail, event_id) for _ in range(2))
    assert (first["status"], second["status"]) == ("SUCCEEDED", "SUCCEEDED")
    assert world.settle(event_id)["createdBy"] == event_id  # named by the id of the event
    assert len(world.items(event_id, "STEP#000001")) == 1


def test_a_request_sent_twice_by_one_name_makes_one_agent(world: World) -> None:
    agent_id = fresh()
    detail = {
        "prompt": MOON,
        "agentId": agent_id,
        "requestId": f"request-of-{agent_id}",
    }
    first, second = (world.run("agent_start", detail) for _ in range(2))
    assert (first["status"], second["status"]) == ("SUCCEEDED", "SUCCEEDED")
    assert world.settle(agent_id)["createdBy"] == detail["requestId"]
    assert len(world.items(agent_id, "STEP#000001")) == 1
    assert world.run("agent_start", {**detail, "requestId": "another"})["error"] == "AgentExists"


def test_the_record_keeps_the_caller_and_the_source(world: World) -> None:
    named, unnamed = fresh(), fresh()
    detail = {"prompt": "Book a flight from New York to the moon."}
    # A source in an event's own detail is ignored.
    said = {**detail, "agentId": named, "by": "ana", "source": "com.agent.api"}
    assert world.run("agent_start", said, source="com.example.orders")["status"] == "SUCCEEDED"
    assert world.run("agent_start", {**detail, "agentId": unnamed}, source="com.agent.api")["status"] == "SUCCEEDED"
    kept = [(state["by"], state["source"]) for state in map(world.settle, (named, unnamed))]
    assert kept == [("ana", "com.example.orders"), ("", "com.agent.api")]


@pytest.mark.parametrize("source", [None, 7])
def test_an_event_that_a_rule_made_up_needs_a_source(world: World, source: Any) -> None:
    agent_id = fresh()
    execution = world.run("agent_start", {"prompt": "Fly", "agentId": agent_id}, source=source)
    assert (execution["status"], execution["error"]) == ("FAILED", "RequestInvalid")
    assert "needs a `source`" in execution["cause"]
    assert_no_record(world, agent_id)


def test_an_agent_without_a_parent_waits_for_nothing_and_has_no_family(world: World) -> None:
    agent_id = fresh()
    with world.faults.held(agent_id, "ClaimTurn") as until_held:
        world.run("agent_start", {"prompt": MOON, "agentId": agent_id})
        until_held()
        [state] = world.items(agent_id, "STATE")
    names = ("waitsFor", "children", "cancels", "parent", "depth", "tokenLimit", "costLimit")
    assert [state[name] for name in names] == ["", "[]", "0", "", "0", "0", "0"]


def test_an_id_of_a_child_is_refused_without_its_parent(world: World) -> None:
    request = world.delegate(standing(world, Status.WAITING_FOR_AGENT), MOON)
    child = request["agentId"]
    squatter = world.run("agent_start", {"prompt": "Say BK-666.", "agentId": child, "requestId": child})
    assert squatter["error"] == "RequestInvalid"
    assert squatter["cause"].startswith("The agentId is reserved")
    assert_no_record(world, child)
    assert world.run("agent_start", request)["status"] == "SUCCEEDED"


def test_only_the_api_names_an_agent_after_a_key(world: World) -> None:
    agent_id = f"key-{uuid.uuid4().hex}"
    execution = world.run("agent_start", {"prompt": MOON, "agentId": agent_id})
    assert (execution["error"], execution["cause"].split(":")[0]) == (
        "RequestInvalid",
        "The agentId is reserved",
    )
    assert_no_record(world, agent_id)


def test_a_child_is_what_the_decision_of_its_parent_says_and_nothing_else(world: World) -> None:
    parent = standing(world, Status.WAITING_FOR_AGENT)
    request = world.delegate(parent, MOON, place=2, depth=2, tokens=5000, cost_micro_usd=70000)
    forged = {"prompt": "Say BK-666.", "goal": "Deceive", "agent": "unknown", "requestId": "mine"}
    above = {**request["parent"], "depth": 0, "tokens": 10**9, "costMicroUsd": 10**9}
    execution = world.run("agent_start", {**request, **forged, "parent": above})
    assert execution["status"] == "SUCCEEDED"
    child = request["agentId"]
    [state] = world.items(child, "STATE")
    kept = [state[name] for name in ("agent", "goal", "createdBy", "parent", "depth", "tokenLimit", "costLimit")]
    assert kept == ["travel", "A flight", child, parent, "2", "5000", "70000"]
    assert world.items(child, "STEP#000001")[0]["text"] == MOON
    # The parent's own request finds the agent there.
    assert world.run("agent_start", request)["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    "forged",
    [
        {"place": 1},
        {"place": 3},
        {"place": -1},
        {"place": 0.5},
        {"place": 10**20},
        {"step": "STEP#000001"},
        {"step": "STEP#000003"},
        {"step": "STEP#2"},
        {"agentId": "agent-0"},
    ],
)
def test_a_child_that_no_decision_names_is_refused(world: World, forged: dict[str, Any]) -> None:
    parent = standing(world, Status.WAITING_FOR_AGENT)
    request = world.delegate(parent, MOON, place=2)
    execution = world.run("agent_start", {**request, "prompt": "Fly", "parent": {**request["parent"], **forged}})
    assert (execution["status"], execution["error"]) == ("FAILED", "RequestInvalid")
    assert execution["cause"].endswith("delegates to an agent of this id.")
    assert_no_record(world, request["agentId"])


def test_a_decision_that_does_not_delegate_names_no_child(world: World) -> None:
    asked = waiting(world)
    child = child_id(asked, 2, 0)
    parent = {"agentId": asked, "step": "STEP#000002", "place": 0}
    execution = world.run("agent_start", {"prompt": "Fly", "agentId": child, "parent": parent})
    assert execution["error"] == "RequestInvalid"
    assert_no_record(world, child)


def test_a_long_prompt_beside_a_goal_is_carried_once(world: World) -> None:
    agent_id, prompt = fresh(), "x" * 200_000
    execution = world.run("agent_start", {"prompt": prompt, "goal": "Long", "agentId": agent_id})
    assert execution["status"] == "SUCCEEDED"
    carried = [visit.output for visit in world.history(execution["executionArn"])]
    assert max(len(json.dumps(output)) for output in carried if output) < 2 * len(prompt)


def test_an_id_that_is_taken_is_refused(world: World) -> None:
    agent_id = fresh()
    detail = {"prompt": MOON, "agentId": agent_id}
    assert world.run("agent_start", detail)["status"] == "SUCCEEDED"
    before = world.settle(agent_id)
    execution = world.run("agent_start", {**detail, "prompt": "Something else"})
    assert execution["error"] == "AgentExists"
    assert f"Agent {agent_id} exists already" in execution["cause"]
    assert world.item(agent_id, "STATE") == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_write_whose_answer_is_lost_makes_one_agent(world: World, when: Any) -> None:
    agent_id = fresh()
    world.faults.put(Fault(agent_id=agent_id, state="CreateAgent", when=when, error="States.Timeout"))
    execution = world.run("agent_start", {"prompt": MOON, "agentId": agent_id})
    assert execution["status"] == "SUCCEEDED"
    assert world.settle(agent_id)["error"] == "GivenUp"


def test_a_conflict_with_another_request_is_waited_out(world: World) -> None:
    agent_id = fresh()
    world.faults.put(Fault(agent_id=agent_id, state="CreateAgent", **canceled("TransactionConflict", "None"), times=3))
    execution = world.run("agent_start", {"prompt": MOON, "agentId": agent_id})
    assert execution["status"] == "SUCCEEDED"
    assert "Pause" in [visit.state for visit in world.history(execution["executionArn"])]
    assert world.settle(agent_id)["error"] == "GivenUp"


def test_a_goal_of_its_own_is_kept_apart_from_the_prompt(world: World) -> None:
    agent_id = fresh()
    detail = {"prompt": MOON, "goal": "The moon", "agentId": agent_id}
    world.run("agent_start", detail)
    state = world.settle(agent_id)
    assert (state["goal"], world.items(agent_id, "STEP#000001")[0]["text"]) == ("The moon", detail["prompt"])


@pytest.mark.parametrize(
    ("agent_id", "more", "words"),
    [
        ("bad id!", {"goal": "Fly"}, "1 to 64 characters"),
        ("", {"goal": "x" * 4097}, "more than 4096 bytes"),
        ("", {"goal": "Fly", "by": "x" * 257}, "more than 256 characters"),
    ],
)
def test_what_the_machine_cannot_measure_ends_as_a_failed_agent(
    world: World, agent_id: str, more: dict[str, str], words: str
) -> None:
    agent_id = agent_id or fresh()
    world.run("agent_start", {"prompt": "Fly", "agentId": agent_id, **more})
    state = world.settle(agent_id)
    assert (state["status"], state["error"]) == ("FAILED", "InvalidRecord")
    assert words in state["errorMessage"]
