"""A stack whose agents are at work is halted: nothing runs any more, nothing starts again, and it can be deleted."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.world import World
from turnstile_agents.record import Status
from turnstile_cli.cli import app, common
from turnstile_cli.engines.faults import FOLDER, Faults
from turnstile_cli.local.stack import local_stack
from turnstile_cli.models.scenarios import load_scenarios
from turnstile_cli.stack import halt
from turnstile_cli.stack.halt import find_parts, running_executions

SCENARIOS = {scenario.name: scenario for scenario in load_scenarios()}


def test_no_execution_is_left_and_none_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setattr(halt, "INTERVAL", 0.1)
    monkeypatch.setattr(halt, "QUIET", 0.5)
    with local_stack([*SCENARIOS.values()], tmp_path, "travel", {}, lambda _: None, wait_scale=0) as local:
        stack, client = local.stack, local.engine.client
        world = World(stack, Faults(tmp_path), client)
        asking = world.start(SCENARIOS["done_in_words_only"])
        world.settle(asking, Status.WAITING_FOR_OPERATOR)
        with world.faults.held("works", "AskModel") as until_held:
            world.start(SCENARIOS["straight_booking"], "works")
            until_held()
            before = started(world)
            parts = find_parts(stack.name, client)
            assert len(running_executions(parts, client)) == 2
            monkeypatch.setattr(common, "clients", lambda _: (stack.name, client))
            result = CliRunner().invoke(app, ["halt", "--yes"])
        told = f"The stack turnstile is halted: {len(parts.rules)} rules are disabled, 2 executions were stopped.\n"
        assert (result.exit_code, result.stdout) == (0, told)
        # The stopped turn would have started a recovery by now, and the input AgentInput.
        stack.send_input("works", "Go on.")
        assert (started(world), running_executions(parts, client)) == (before, [])
        assert client("pipes").describe_pipe(Name=f"{stack.name}-outbox")["CurrentState"] == "STOPPED"
        rules = [rule for bus in parts.buses for rule in client("events").list_rules(EventBusName=bus)["Rules"]]
        assert {rule["Name"]: rule["State"] for rule in rules} == dict.fromkeys(parts.rules, "DISABLED")


def started(world: World) -> set[str]:
    """Return the executions that answer what happens: a stopped execution, or an input."""
    outputs = world.stack.outputs
    machines = (outputs.agent_recovery_arn, outputs.agent_input_arn, outputs.agent_redeliver_arn)
    return {arn for machine in machines for arn in world.stack.execution_arns(machine)}
