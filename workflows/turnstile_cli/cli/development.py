"""The commands for developers of agents and machines: engines, definitions, pictures, faults."""

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from turnstile_agents.record import Status
from turnstile_cli.chaos.cases import SEED, all_cases, case_of, representative_cases
from turnstile_cli.chaos.report import page
from turnstile_cli.chaos.report import write as write_report
from turnstile_cli.chaos.suite import chaos as run_chaos
from turnstile_cli.cli import common
from turnstile_cli.cli.common import EngineOption, JsonOption, StackOption
from turnstile_cli.cli.console import Lines, Reporter, Screen, print_json
from turnstile_cli.cli.demo import find_scenario, play, show_report
from turnstile_cli.engines.embedded import FOLDER
from turnstile_cli.engines.listing import list_machines, told
from turnstile_cli.engines.start import STARTS, Engine
from turnstile_cli.files import TEMPLATE
from turnstile_cli.local.stack import local_stack
from turnstile_cli.machines.draw import PICTURES, find_machine, mermaid, save
from turnstile_cli.machines.graph import folded, graph
from turnstile_cli.models.scenarios import load_scenarios
from turnstile_cli.stack.registry import latest_definition, read_agent_file, settlings
from turnstile_cli.stack.registry import register as register_agent

MERMAID = ".mmd"
DEMO = "straight_booking"
"""The scenario that the demo plays unless another is named."""


def demo(
    scenario: Annotated[
        str, typer.Option(metavar="NAME", help="The scenario to play; the output ends with the names of the others.")
    ] = DEMO,
    engine: EngineOption = Engine.EMBEDDED,
    iam: Annotated[bool, typer.Option("--iam", help="Show which permissions of each role were needed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Play a scenario on an engine of its own, and show what happens. Exits with 0 if the agent completes."""
    reporter: Reporter = Lines() if as_json else Screen()
    report = play(scenario, reporter, STARTS[engine], iam)
    if isinstance(reporter, Screen):
        show_report(report, reporter)
    else:
        print_json({"type": "report", **report.dump()})
    if report.agent.status is not Status.COMPLETED:
        raise typer.Exit(1)


def up(engine: EngineOption = Engine.EMBEDDED, as_json: JsonOption = False) -> None:
    """Start a local engine with a scripted model and the sample agents, and keep it until Ctrl-C."""
    screen = Screen()
    scenarios = load_scenarios()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts a background command with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        progress = (lambda _: None) if as_json else screen.progress
        with local_stack(scenarios, FOLDER, "trip", {}, progress, start=STARTS[engine]) as local:
            if as_json:
                found = {"url": local.engine.url, "apiUrl": local.engine.api_url, "stack": local.stack.name}
                print_json({**found, "outputs": local.engine.outputs})
            else:
                screen.title("Ready. In another terminal")
                prompt = find_scenario(scenarios, DEMO).prompt
                for line in (f'start "{prompt}"', "list", "show AGENT", "trace AGENT"):
                    screen.line(f"  turnstile {line}")
                screen.title("The HTTP API")
                screen.line(f"  {local.engine.api_url}")
                screen.title("The scripted model knows these prompts")
                for scenario in scenarios:
                    agent = "" if scenario.agent == "travel" else f" (--agent {scenario.agent})"
                    screen.line(f"  {scenario.prompt}{agent}")
                screen.hint("Ctrl-C ends it.")
            while not threading.Event().wait(1):
                local.engine.check()
    except KeyboardInterrupt:
        if not as_json:
            screen.line("Ended.")


def machines(engine: EngineOption = Engine.EMBEDDED, as_json: JsonOption = False) -> None:
    """Show the machines as an engine gets them, and what is adapted in each. With --json, their definitions."""
    found = list_machines(engine, TEMPLATE)
    if as_json:
        print_json([machine.dump() for machine in found])
        return
    screen = Screen()
    for line in told(engine, found):
        screen.line(line)


def register(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The definition, an agent.yaml.")],
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register the next version of an agent's definition. Running agents keep the version they started with."""
    target = common.connect(stack)
    before = latest_definition(target, read_agent_file(path).name)
    definition = register_agent(target, path)
    new = definition != before
    unknown = settlings(path, definition)
    if as_json:
        print_json({"new": new, "definition": definition.dump(), "unknown": [settling.dump() for settling in unknown]})
        return
    what = "is registered" if new else "has not changed since it was registered"
    screen = Screen()
    screen.line(f"{definition.name} {what} as version {definition.version}, with {len(definition.tools)} tools.")
    if unknown:
        screen.title("When the outcome of a call is unknown")
        for settling in unknown:
            screen.line(f"  {settling}")


def draw(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="Its file's name in asl/, such as agent_turn.")],
    fold: Annotated[bool, typer.Option("--folded", help="Without the states that failures lead to.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The file; it ends in .svg, .png or .mmd (Mermaid). Without it, Mermaid on stdout."
        ),
    ] = None,
) -> None:
    """Draw a machine: its states, the transitions between them, and where failures lead."""
    if out:
        common.check_ending(out, (*PICTURES, MERMAID), "--out")
    found = graph(find_machine(machine))
    shown = folded(found) if fold else found
    if out:
        save(out, mermaid(shown).encode("utf-8") if out.suffix == MERMAID else PICTURES[out.suffix]([shown]))
    else:
        typer.echo(mermaid(shown), nl=False)


def chaos(
    case: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Play only this case; may be given several times.")
    ] = None,
    some: Annotated[
        bool, typer.Option("--some", help="Play only some cases of each kind, and no comparison without the guards.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the cases, and run none.")] = False,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="Chooses the pairs of faults.")] = SEED,
    folder: Annotated[Path, typer.Option(metavar="PATH", help="The folder for the report.")] = FOLDER / "chaos",
    protocol: Annotated[
        bool,
        typer.Option("--protocol", help="Explore the model of the protocol, deeper than the tests, and run no case."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Play scenarios with faults at every task, and report which agents survive. Exits with 1 unless all survive."""
    if protocol:
        # The model is a part of the tests, and needs the packages of the group `dev`.
        command = [sys.executable, "-m", "tests.protocol", "--deeper"]
        raise typer.Exit(subprocess.run(command, cwd=TEMPLATE.parent, check=False).returncode)
    cases = [case_of(each, seed) for each in case] if case else representative_cases(seed) if some else all_cases(seed)
    if listed:
        for each in cases:
            typer.echo(each.id)
        return
    screen = Screen()
    report = run_chaos(
        cases,
        folder / "engines",
        seed,
        compare=not (case or some),
        on_progress=(lambda _: None) if as_json else screen.title,
        on_outcome=(lambda _: None) if as_json else (lambda outcome: screen.line(outcome.line)),
    )
    files = write_report(report, folder)
    if as_json:
        print_json(report.dump())
    else:
        screen.console.print(page(report))
        screen.hint(f"The report: {', '.join(map(str, files))}.")
    if not report.survived:
        raise typer.Exit(1)
