"""How a kept agent comes into a stack of this version, and what happens to it there."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.asl.template import pipe_filters, pipe_takes
from tests.kept.files import AGENTS, Kept, RawItem, is_state
from tests.kept.stage import partition
from tests.world import World
from turnstile_agents.items import OPERATOR
from turnstile_agents.operator import EffectAnswer, OperatorDecision
from turnstile_agents.record import Status, Verdict
from turnstile_cli.engines.faults import Delivery, met_at
from turnstile_cli.stack.operator import decide, resume

Act = Mapping[str, Any]


def put_items(world: World, table: str, items: Iterable[RawItem]) -> None:
    """Write items into a table."""
    for item in items:
        world.stack.dynamodb.put_item(TableName=table, Item=item)


def put(world: World, kept: Kept) -> None:
    """Write all items of a kept agent into the tables.

    The stream tells of STATE as of a new item. What STATE announces was published long ago, so this event is lost,
    unless the file says that it is still on its way.
    """
    for table, items in kept.tables.items():
        put_items(world, table, (item for item in items if not is_state(item)))
    states = [*filter(is_state, kept.tables[AGENTS])]
    on_its_way, filters = {"tell": True} in kept.then, pipe_filters()
    announced = [state["agentId"]["S"] for state in states if not on_its_way and pipe_takes(filters, state)]
    lost = [world.faults.put(Delivery(agent_id=each, machine="AgentPublish", how="lost")) for each in announced]
    put_items(world, AGENTS, states)
    until_met(world, lost)


def until_met(world: World, faults: Iterable[Path]) -> None:
    """Wait until each of these faults was met."""
    world.until(lambda: all(met_at(file) for file in faults))


def act(world: World, kept: Kept, given: Act) -> None:
    """Do what a file says must happen next."""
    [do] = given.keys() & ACTS.keys()
    ACTS[do](world, kept, given.get("agent", kept.agent), given)


def asked_anew(world: World, kept: Kept, agent_id: str) -> bool:
    """Return True if a recovery of this stack has asked the operator about an agent."""
    return bool(_tokens(partition(world, agent_id)) - _tokens(kept.tables[AGENTS]))


def _watch(world: World, _kept: Kept, _agent_id: str, _given: Act) -> None:
    """Run agent_watch: it makes every agent go on that stands still."""
    assert world.run("agent_watch", {})["status"] == "SUCCEEDED"


def _tell(*_: Any) -> None:
    """Do nothing: the announcement that was on its way has been published."""


def _input(world: World, _kept: Kept, agent_id: str, given: Act) -> None:
    """Send the user's words, once the agent asks for them."""
    world.wait(agent_id, lambda state: state["status"] == Status.WAITING_FOR_INPUT)
    world.stack.wait_for(world.stack.send_input(agent_id, given["input"]))


def _decision(world: World, _kept: Kept, agent_id: str, given: Act) -> None:
    """Decide about the calls that wait for an approval."""
    state = world.wait(agent_id, lambda state: state["status"] == Status.WAITING_FOR_APPROVAL)
    world.stack.wait_for(world.stack.decide_approval(agent_id, state["waitsFor"], Verdict(given["decision"])))


def _operator(world: World, kept: Kept, agent_id: str, given: Act) -> None:
    """Answer the operator's question, once a recovery of this stack has asked it."""
    world.until(lambda: asked_anew(world, kept, agent_id))
    effects = [EffectAnswer(key=key, happened=True) for key in given.get("happened", [])]
    decide(world.stack, agent_id, OperatorDecision(given["operator"]), effects=effects)
    world.wait(agent_id, lambda state: state["status"] != Status.WAITING_FOR_OPERATOR)


def _tokens(items: Iterable[RawItem]) -> set[str]:
    return {item["token"]["S"] for item in items if item["record"] == {"S": OPERATOR}}


def _resume(world: World, _kept: Kept, agent_id: str, _given: Act) -> None:
    """Send the agent to recovery by hand."""
    resume(world.stack, agent_id)


def _died(world: World, _kept: Kept, _agent_id: str, given: Act) -> None:
    """Deliver the event with which Step Functions tells of the dead turn."""
    ended = world.run(
        "agent_recovery", given["died"], kind="Step Functions Execution Status Change", source="aws.states"
    )
    assert ended["status"] == "SUCCEEDED"


ACTS: Mapping[str, Callable[[World, Kept, str, Act], None]] = {
    "watch": _watch,
    "tell": _tell,
    "input": _input,
    "decision": _decision,
    "operator": _operator,
    "resume": _resume,
    "died": _died,
}
