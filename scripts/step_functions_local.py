"""Play a scenario on Step Functions Local, from the event to the end, or every path on its mocks.

    .venv/bin/python scripts/step_functions_local.py [--scenario NAME]
    .venv/bin/python scripts/step_functions_local.py --mocks

Docker runs the image. With --url, the script uses a Step Functions Local that you start, for example from its jar:
start it first, or with --mocks when the script asks for it. Exits with 1 unless the agent completes, or with --mocks
unless every path is the same as on the embedded engine.
"""

import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import boto3
import typer
from botocore.exceptions import BotoCoreError, ClientError

from turnstile_agents.events import AgentRequested
from turnstile_agents.record import Status
from turnstile_cli.cli.console import Screen
from turnstile_cli.cli.demo import play, show_report
from turnstile_cli.engines import step_functions_local as sfn_local
from turnstile_cli.engines.elsewhere import Registered, create, read_machines
from turnstile_cli.engines.embedded import FOLDER, REGION
from turnstile_cli.engines.errors import EngineError
from turnstile_cli.engines.process import HOST, free_port
from turnstile_cli.engines.start import STARTS, Engine
from turnstile_cli.files import AGENTS
from turnstile_cli.local.mocks import MockedCase, cases, mock_config, on_mocks, run_mocked
from turnstile_cli.local.stack import local_stack
from turnstile_cli.models.scenarios import Scenario, ScenarioError, load_scenarios
from turnstile_cli.stack.client import Stack, StackError
from turnstile_cli.stack.registry import read_agent_file, register

MOCKS = FOLDER / "mocks"
FILE = "MockConfigFile.json"


def main(
    scenario: Annotated[str, typer.Option(metavar="NAME", help="Which scenario to play.")] = "straight_booking",
    url: Annotated[str | None, typer.Option(metavar="URL", help="A Step Functions Local of your own.")] = None,
    port: Annotated[
        int, typer.Option(metavar="PORT", help="With --url: the embedded engine's port in that program's settings.")
    ] = sfn_local.EMBEDDED_PORT,
    mocks: Annotated[bool, typer.Option("--mocks", help=f"Write {MOCKS / FILE}, and run every path on it.")] = False,
) -> None:
    """Play a scenario on Step Functions Local, or every path on its mocks."""
    try:
        survived = run_on_mocks(url) if mocks else run(scenario, url, port)
    except (EngineError, ScenarioError, StackError) as error:
        typer.echo(f"step_functions_local: {error}", err=True)
        survived = False
    except (BotoCoreError, ClientError) as error:
        typer.echo(f"step_functions_local: AWS: {error}", err=True)
        survived = False
    if not survived:
        raise typer.Exit(1)


def run(scenario: str, url: str | None, port: int) -> bool:
    """Play a scenario. Return True if the agent completes."""
    start = partial(sfn_local.attach, url, port) if url else STARTS[Engine.STEP_FUNCTIONS_LOCAL]
    screen = Screen()
    report = play(scenario, screen, start)
    show_report(report, screen)
    return report.agent.status is Status.COMPLETED


def run_on_mocks(url: str | None) -> bool:
    """Record every path on the embedded engine, write the mocks, and run each path on them.

    Return True if every path is as recorded.
    """
    screen = Screen()
    if url:
        sfn_local.check_stopped(url)
    else:
        sfn_local.check_docker()
    machines, found = record(screen)
    MOCKS.mkdir(parents=True, exist_ok=True)
    file = MOCKS / FILE
    file.write_text(json.dumps(mock_config(found), indent=1), "utf-8")
    for case in found:
        (MOCKS / f"{case.machine}.{case.name}.json").write_text(json.dumps(case.input, indent=1), "utf-8")
    screen.line(f"  {file} has {len(found)} cases; the input of each is in a file beside it.")
    if url:
        sfn_local.await_start(url, file, screen.line)
        return replay(url, machines, found, screen)
    free = free_port()
    with sfn_local.run_image(free, MOCKS, embedded=free_port(), wait_scale=0, mocks=file):
        return replay(f"http://{HOST}:{free}", machines, found, screen)


def record(screen: Screen) -> tuple[dict[str, Registered], list[MockedCase]]:
    """Play every scenario on the embedded engine. Return the machines, adapted for mocks, and the cases."""
    scenarios = load_scenarios()
    found: list[MockedCase] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        local_stack(scenarios, Path(folder), "travel", {}, lambda _: None, wait_scale=0) as local,
    ):
        for scenario in scenarios:
            found += cases(local.stack, scenario.name, settle(local.stack, scenario))
            screen.progress(scenario.name)
        return {machine.name: on_mocks(machine) for machine in read_machines(local.engine)}, found


def settle(stack: Stack, scenario: Scenario) -> str:
    """Play a scenario until its executions have ended. Return the agent's id."""
    file = AGENTS / scenario.agent / "agent.yaml"
    others = [delegate.name for delegate in read_agent_file(file).delegates if delegate.name != scenario.agent]
    for path, limits in [*((AGENTS / other / "agent.yaml", {}) for other in others), (file, scenario.limits)]:
        register(stack, path, limits)
    texts, rulings = iter(scenario.inputs), iter(scenario.decisions)
    sent, step = stack.request(AgentRequested(prompt=scenario.prompt, agent=scenario.agent)), 0
    while True:
        stack.wait_for(sent)
        for change in stack.watch(sent.agent_id, since=step):
            step = change.state.step
        if change.status is Status.WAITING_FOR_INPUT and (text := next(texts, "")):
            sent = stack.send_input(sent.agent_id, text)
        elif change.status is Status.WAITING_FOR_APPROVAL and (ruling := next(rulings, None)):
            approval = change.state.waits_for
            sent = stack.decide_approval(sent.agent_id, approval, ruling.decision, ruling.note)
        else:
            break
    if change.status is not scenario.expect.status:
        raise StackError(f"{scenario.name} ended as {change.status}; expected was {scenario.expect.status}")
    while change.status is not Status.WAITING_FOR_OPERATOR and any(
        execution.status == "RUNNING" for execution in stack.executions(stack.read_agent(sent.agent_id)[1])
    ):
        time.sleep(0.05)
    return sent.agent_id


def replay(url: str, machines: dict[str, Registered], found: list[MockedCase], screen: Screen) -> bool:
    """Run every case on the mocks. Return True if each is as recorded."""
    client: Any = boto3.client(
        "stepfunctions", endpoint_url=url, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
    )
    for machine in machines.values():
        create(client, machine)
    survived = True
    for case in found:
        got = run_mocked(client, machines[case.machine].arn, case)
        same = got == (case.status, case.ways)
        survived &= same
        screen.line(f"  {'as recorded' if same else 'DIFFERS'}  {case.machine}#{case.name}")
        if not same:
            screen.line(f"    recorded {case.status} {case.ways}\n    got      {got[0]} {got[1]}")
    return survived


if __name__ == "__main__":
    typer.run(main)
