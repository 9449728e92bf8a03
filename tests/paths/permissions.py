"""What each permission of the stack is for. `python -m tests.paths.permissions` prints it as a table.

The situations here and the scenarios together use every permission that the engine can ask for.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from tests.paths.test_agent_publish import publish, record
from tests.paths.test_agent_watch import fresh, not_started, set_state, stopped, watch
from tests.paths.test_api import Door
from tests.world import World, scenario, waiting
from turnstile_agents.record import Status
from turnstile_cli.chaos.tools import shorten
from turnstile_cli.engines.faults import FOLDER, Fault, Faults
from turnstile_cli.engines.iam import Asked
from turnstile_cli.local.permissions import NOT_ASKED, WILDCARDS, Grant, explain, needs, read_grants
from turnstile_cli.local.stack import local_stack
from turnstile_cli.models.scenarios import load_scenarios

TRIP = {"from_city": "New York", "to_city": "San Francisco"}


def request_over_the_api(world: World) -> None:
    """Start, list and read agents, and answer one, over the HTTP API."""
    door, agent_id = Door.of(world), waiting(world)
    assert door.send("POST", "/agents", {"prompt": scenario("answer_only").prompt}).status == 202
    for path in ("/agents", "/agents?status=COMPLETED", f"/agents/{agent_id}", f"/agents/{agent_id}/journal"):
        door.get(path)
    assert door.send("POST", f"/agents/{agent_id}/input", {"text": "Tomorrow"}).status == 202
    world.settle(agent_id, Status.COMPLETED)


def decide_over_the_api(world: World) -> None:
    """Let a recovery ask an operator; the operator ends the agent over the HTTP API."""
    door, agent_id = Door.of(world), _asks(world)
    question = door.get(f"/agents/{agent_id}")["operator"]["questionId"]
    decision = {"questionId": question, "decision": "ABORT"}
    assert door.send("POST", f"/agents/{agent_id}/decisions", decision).status == 202
    world.settle(agent_id, Status.FAILED)


def cancel_a_question(world: World) -> None:
    """Let a recovery ask an operator; a cancellation answers the question."""
    agent_id = _asks(world)
    world.run("agent_input", {"agentId": agent_id}, kind="AgentCancelRequested")
    world.settle(agent_id, Status.CANCELLED)


def watch_agents(world: World) -> None:
    """Lose the event that starts one agent's turn, and stop the turn of another; agent_watch finds both."""
    agents = [not_started(world), stopped(world)]
    assert watch(world)[0] == "SUCCEEDED"
    for agent_id in agents:
        world.settle(agent_id, Status.COMPLETED)


def watch_a_question(world: World) -> None:
    """Stop the recovery that asks an operator, without an event of it; agent_watch finds the agent."""
    agent_id = _asks(world)
    [state] = world.items(agent_id, "STATE")
    owner = state["owner"].partition("#")[0]
    world.stack.stepfunctions.stop_execution(executionArn=owner)
    set_state(world, agent_id)
    assert watch(world)[0] == "SUCCEEDED"
    world.wait(agent_id, lambda state: not state["owner"].startswith(owner))


def deliver_again(world: World) -> None:
    """Let the start of an agent die; agent_redeliver starts it again."""
    name = fresh("again")
    world.faults.put(Fault(agent_id=name, state="ReadDefinition", error="AccessDenied"))
    world.deliver("agent_start", {"prompt": scenario("answer_only").prompt, "agentId": name})
    world.settle(name, Status.COMPLETED)


def keep_a_record(world: World) -> None:
    """Publish a record that no machine writes; agent_publish keeps it for an operator."""
    assert publish(world, [record(fresh("unknown"), announce="Anything")]) == {"missed": False, "failures": [[]]}


def see_a_reservation(world: World) -> None:
    """Stop a turn between the reservation of an effect and its call; the next turn reads the effect."""
    name = fresh("reserved")
    world.faults.put(Fault(agent_id=name, state="ReserveEffect", when="after", error="States.Timeout"))
    world.play(scenario("straight_booking"), name)


def call_tools(world: World) -> None:
    """Call each tool that the scenarios call seldom: with success, with a refusal, and for a call that never came."""
    [flight, *_] = world.scan("flights")
    trip = {**TRIP, "date": flight["date"], "passengers": 1}
    key = fresh("tools")
    booked = _call(world, "book_flight_partner", f"{key}#1", trip)
    assert booked["status"] == "BOOKED"
    for tool, arguments in (
        ("book_flight_partner", {**trip, "to_city": "Atlantis"}),
        ("cancel_flight", {"booking_id": "BK-AAAAAAAAAAAAAAAA"}),
    ):
        assert _call(world, tool, f"{key}#{tool}", arguments)["errorType"] == "ToolRejected"
    call = {"key": f"{key}#2", "tool": "book_flight", "input": trip}
    assert _call(world, "find_booking", f"{key}#3", call)["happened"] is False


SITUATIONS: dict[str, Callable[[World], None]] = {
    made.__name__: made
    for made in (
        request_over_the_api,
        decide_over_the_api,
        cancel_a_question,
        watch_agents,
        watch_a_question,
        deliver_again,
        keep_a_record,
        see_a_reservation,
        call_tools,
    )
}


def unexplained(grants: list[Grant], asked: list[Asked]) -> list[str]:
    """Return the permissions that no call needs, and that no reason explains."""
    unneeded = [grant for grant in grants if not needs(grant, asked) and not explain(grant, NOT_ASKED)]
    return [f"{grant.role} {grant.action} {', '.join(grant.resources)}" for grant in unneeded]


def _asks(world: World) -> str:
    agent_id = world.play(scenario("done_in_words_only"))
    world.settle(agent_id, Status.WAITING_FOR_OPERATOR)
    world.wait(agent_id, lambda _: world.item(agent_id, "OPERATOR") is not None)
    return agent_id


def _call(world: World, tool: str, key: str, arguments: Any) -> Any:
    payload = json.dumps({"agentId": key.partition("#")[0], "key": key, "input": arguments})
    answer = world.stack.lambdas.invoke(FunctionName=f"{world.stack.name}-tool-{tool}", Payload=payload)
    return json.loads(answer["Payload"].read())


def show(grants: list[Grant], asked: dict[str, list[Asked]], console: Console) -> None:
    """Print each permission with the situations that fail without it, then those without any, and the wildcards."""
    table = Table("role", "action", "resource", "fails without it")
    quiet: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    wide: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for grant in grants:
        resources = [resource.split(":", 5)[-1] for resource in grant.resources]
        if any("*" in resource for resource in resources):
            wide[explain(grant, WILDCARDS)][f"{grant.action} on {', '.join(resources)}"].append(grant.role)
        failing = [name for name, calls in asked.items() if needs(grant, calls)]
        if failing:
            more = f" and {len(failing) - 2} more" if len(failing) > 2 else ""
            table.add_row(grant.role, grant.action, "\n".join(resources), ", ".join(failing[:2]) + more)
        else:
            quiet[explain(grant, NOT_ASKED)][grant.action].append(grant.role)
    console.print(table)
    for title, reasons in (("Granted and never asked for", quiet), ("Resources with a wildcard", wide)):
        console.print(f"\n{title}:")
        for why, of_actions in reasons.items():
            console.print(f"  {why or 'NO REASON IS KNOWN'}:")
            for action, roles in of_actions.items():
                console.print(f"    {action}: {', '.join(roles)}")


def main() -> None:
    """Play every scenario and every situation, one by one, on one engine."""
    argparse.ArgumentParser(prog="python -m tests.paths.permissions", description=__doc__).parse_args()
    scenarios = load_scenarios()
    asked: dict[str, list[Asked]] = {}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as environment:
        faults = Path(folder) / "faults"
        faults.mkdir()
        environment.setenv(FOLDER, str(faults))
        with local_stack(scenarios, Path(folder), "travel", {}, lambda _: None, wait_scale=0) as local:
            shorten(local.stack)
            world = World(local.stack, Faults(faults), local.engine.client, short=True)
            plays = {each.name: lambda world, each=each: world.play(each) for each in scenarios}
            for name, play in (plays | SITUATIONS).items():
                local.engine.forget_asked()
                play(world)
                asked[name] = local.engine.asked()
            show(read_grants(local.engine), asked, Console(width=150, highlight=False))


if __name__ == "__main__":
    main()
