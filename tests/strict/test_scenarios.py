"""Every scenario on the strict engine too: the same states with the same data, and the same records as on the embedded.

Two independent interpreters must agree on the meaning of a definition.
"""

import pytest

from tests.strict.conftest import Both, await_question
from tests.strict.telling import await_change_of_status, differences, told
from tests.world import scenario
from turnstile_agents.events import AgentRequested
from turnstile_agents.operator import OperatorDecision
from turnstile_agents.record import Status
from turnstile_cli.engines.faults import Fault, canceled
from turnstile_cli.models.scenarios import Scenario, load_scenarios
from turnstile_cli.stack import republish
from turnstile_cli.stack.operator import decide, wait_for_decision

pytestmark = pytest.mark.xdist_group("strict")


@pytest.mark.parametrize("played", load_scenarios(), ids=lambda each: each.name)
def test_both_engines_do_the_same(both: Both, played: Scenario) -> None:
    agent_id = both.play(played.name)
    for member in both.strictly.family(agent_id):
        found = list(differences(list(told(both.embedded, member)), list(told(both.strictly, member))))
        assert found == []
        both.strictly.assert_sound(member)
    assert [visit.state for visit in both.strictly.visited(agent_id)] == played.expect.states


def test_a_change_of_status_comes_back_to_the_bus(both: Both) -> None:
    await_change_of_status(both.strictly)


def test_a_cancelled_close_is_told_by_its_reasons(both: Both) -> None:
    world = both.strictly
    name = "strict-conflict"
    world.faults.put(Fault(agent_id=name, state="CloseTurn", **canceled("TransactionConflict")))
    with world.faults.held(name, "CloseTurn") as until_held:
        world.start(scenario("ask_the_user"), name)
        until_held()
        world.stack.wait_for(world.stack.send_input(name, "Tomorrow."))
    assert world.settle(name, Status.COMPLETED)["inbox"] == "1"
    closing = [visit.state for visit in world.visited(name) if visit.state.startswith(("Close", "RouteUnclosed"))]
    assert closing == ["CloseTurn", "RouteUnclosed", "CloseLater", "CloseTurn", "RouteUnclosed", "CloseTurn"]
    world.assert_sound(name)


def test_a_record_is_kept_delivered_again_given_up_and_announced(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    world = both.strictly
    poison, lost = "strict-poison", "strict-lost"
    refused = {"error": "EventBridge.FailedEntry", "cause": '{"Entries": [{"ErrorCode": "MalformedDetail"}]}'}
    world.faults.put(Fault(agent_id=poison, state="PublishNextAction", times=5, **refused))
    world.faults.put(Fault(agent_id=lost, state="PublishNextAction", error="Unknown", times=21))
    world.register("travel", {})
    for name in (poison, lost):
        request = AgentRequested(prompt=scenario("answer_only").prompt, agent="travel", agent_id=name)
        world.stack.wait_for(world.stack.request(request))
    monkeypatch.setattr(republish, "WAIT", 0)
    announced: set[str] = set()

    def both_announced() -> bool:
        announced.update(name for done in republish.republish(world.stack) for name in done.announced)
        return {poison, lost} <= announced

    world.until(both_announced)
    for name in (poison, lost):
        world.settle(name, Status.COMPLETED)


def test_a_person_is_asked_and_decides(both: Both) -> None:
    world = both.strictly
    agent_id = world.play(scenario("done_in_words_only"))
    await_question(world, agent_id)
    before = decide(world.stack, agent_id, OperatorDecision.ABORT, "Enough of it.")
    wait_for_decision(world.stack, before)
    assert world.settle(agent_id)["status"] == Status.FAILED
