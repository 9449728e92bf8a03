"""The command line: `turnstile`."""

import signal
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from rich.console import Console
from typer.core import TyperGroup

from agent.events import AgentInputReceived, AgentRequested
from agent.record import Status
from workflows.chaos.cases import SEED, UnknownCase, all_cases, case_of, representative_cases
from workflows.chaos.report import page
from workflows.chaos.report import write as write_report
from workflows.chaos.suite import chaos as run_chaos
from workflows.client import Stack, StackError
from workflows.console import Lines, Reporter, Screen, print_json
from workflows.demo import find_scenario, play, show_report
from workflows.draw import DrawError, find_machine, mermaid, svg, way
from workflows.engines.embedded import FOLDER, attach
from workflows.engines.errors import EngineError
from workflows.engines.listing import list_machines, told
from workflows.engines.start import STARTS, Engine
from workflows.graph import folded, graph
from workflows.local import TEMPLATE, local_stack
from workflows.operator import OperatorDecision, wait_for_decision, wait_for_recovery
from workflows.operator import decide as give_decision
from workflows.operator import resume as send_to_recovery
from workflows.registry import latest_definition, read_agent_file
from workflows.registry import register as register_agent
from workflows.scenarios import ScenarioError, load_scenarios
from workflows.verify import verify as look_for_inconsistencies

DEMO = "straight_booking"
"""The scenario that the demo plays unless another is named."""
FAILED = {Status.FAILED, Status.CANCELLED, Status.PLANNING_FAILED, Status.TOOL_EXECUTION_FAILED}


class PictureFormat(StrEnum):
    """What `turnstile draw` writes."""

    MERMAID = "mermaid"
    SVG = "svg"


class Commands(TyperGroup):
    """Tells an error that is to be expected in one line on stderr, and exits with 1."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except (DrawError, EngineError, ScenarioError, StackError, UnknownCase) as error:
            message = str(error)
        except ValidationError as error:
            message = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        except (BotoCoreError, ClientError) as error:
            message = f"AWS: {error}"
        typer.echo(f"turnstile: {message}", err=True)
        raise typer.Exit(1)


app = typer.Typer(
    cls=Commands,
    help="AI agents whose every turn is a Step Functions execution.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
AgentArgument = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's id.")]
StackOption = Annotated[
    str | None,
    typer.Option("--stack", metavar="NAME", help="A stack in AWS; the embedded engine of `turnstile up` otherwise."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON on stdout, for programs.")]
EngineOption = Annotated[Engine, typer.Option("--engine", help="What executes the machines.")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the agent until it stays where it is.")]


@app.command()
def demo(
    scenario: Annotated[str, typer.Option(metavar="NAME", help="Which scenario to play.")] = DEMO,
    engine: EngineOption = Engine.EMBEDDED,
    as_json: JsonOption = False,
) -> None:
    """Play a scenario on an engine of its own, and show what happens. Exits with 0 if the agent completes."""
    reporter: Reporter = Lines() if as_json else Screen()
    report = play(scenario, reporter, STARTS[engine])
    if isinstance(reporter, Screen):
        show_report(report, reporter)
    else:
        print_json({"type": "report", **report.dump()})
    if report.agent.status is not Status.COMPLETED:
        raise typer.Exit(1)


@app.command()
def up(engine: EngineOption = Engine.EMBEDDED, as_json: JsonOption = False) -> None:
    """Start a local engine with a scripted model and the travel agent, and keep it until Ctrl-C."""
    screen = Screen()
    scenarios = load_scenarios()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell ignores SIGINT for what it runs in the background
        signal.signal(number, signal.default_int_handler)
    try:
        progress = (lambda _: None) if as_json else screen.progress
        with local_stack(scenarios, FOLDER, "travel", {}, progress, start=STARTS[engine]) as local:
            if as_json:
                print_json({"url": local.engine.url, "stack": local.stack.name, "outputs": local.engine.outputs})
            else:
                screen.title("Ready. In another terminal")
                prompt = find_scenario(scenarios, DEMO).prompt
                for line in (f'start "{prompt}"', "list", "show AGENT", "trace AGENT"):
                    screen.line(f"  turnstile {line}")
                screen.title("The scripted model knows these prompts")
                for scenario in scenarios:
                    screen.line(f"  {scenario.prompt}")
                screen.hint("Ctrl-C ends it.")
            while not threading.Event().wait(1):
                local.engine.check()
    except KeyboardInterrupt:
        if not as_json:
            screen.line("Ended.")


@app.command()
def machines(engine: EngineOption = Engine.EMBEDDED, as_json: JsonOption = False) -> None:
    """Show what an engine is given to run: each machine, and what of it is adapted. With --json, the definitions."""
    found = list_machines(engine, TEMPLATE)
    if as_json:
        print_json([machine.dump() for machine in found])
        return
    screen = Screen()
    for line in told(engine, found):
        screen.line(line)


@app.command()
def register(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An agent.yaml.")],
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register an agent: the next version of its definition. Agents that run keep the version they started with."""
    target = _stack(stack)
    before = latest_definition(target, read_agent_file(path).name)
    definition = register_agent(target, path)
    new = definition != before
    if as_json:
        print_json({"new": new, "definition": definition.dump()})
        return
    what = "is registered" if new else "has not changed since it was registered"
    Screen().line(f"{definition.name} {what} as version {definition.version}, with {len(definition.tools)} tools.")


@app.command()
def start(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the agent is to do.")],
    agent: Annotated[str | None, typer.Option(metavar="NAME", help="The stack's default agent otherwise.")] = None,
    goal: Annotated[str | None, typer.Option(metavar="TEXT", help="The goal, if it is not the prompt.")] = None,
    agent_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="The event's id otherwise.")] = None,
    wait: WaitOption = True,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start an agent. Exits with 1 if the request is refused or the agent fails."""
    requested = AgentRequested(prompt=prompt, agent=agent, goal=goal, agent_id=agent_id)
    target = _stack(stack)
    if agent_id and target.item(agent_id, "STATE"):
        raise StackError(f"Agent {agent_id} exists already: speak to it with `turnstile input`, or choose another --id")
    sent = target.request(requested)
    if not wait:
        if as_json:
            print_json({"agentId": sent.agent_id, "eventId": sent.event_id})
        else:
            Screen().line(f"Asked for agent {sent.agent_id}.")
        return
    target.wait_for(sent)
    _follow(target, sent.agent_id, as_json)


@app.command()
def watch(agent: AgentArgument, stack: StackOption = None, as_json: JsonOption = False) -> None:
    """Follow an agent until it stays where it is. With --json, a line for each change."""
    target = _stack(stack)
    _follow(target, agent, as_json, lines=True)


@app.command()
def show(agent: AgentArgument, stack: StackOption = None, as_json: JsonOption = False) -> None:
    """Show an agent: its record, its plan and calls, its conversation."""
    view = _stack(stack).view(agent)
    if as_json:
        print_json(view.dump())
        return
    screen = Screen()
    screen.agent(view)
    if view.plan:
        screen.title("Plan and calls")
        screen.plan(view)
    screen.title("Conversation")
    screen.conversation(view)


@app.command("list")
def list_agents(
    status: Annotated[Status | None, typer.Option(metavar="STATUS", help="Only those in this status.")] = None,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """List agents, the last updated first."""
    agents = _stack(stack).agents(status)
    if as_json:
        print_json([agent.dump() for agent in agents])
    elif agents:
        Screen().agents(agents)
    else:
        Screen().line("No agents" if status is None else f"No agents are {status}")


@app.command("input")
def send_input(
    agent: AgentArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say to it.")],
    wait: WaitOption = True,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say something to an agent: answer its question, or add to its task."""
    AgentInputReceived(agent_id=agent, text=text)
    target = _stack(stack)
    known = target.item(agent, "STATE")
    sent = target.send_input(agent, text)
    if not wait:
        if as_json:
            print_json({"agentId": agent, "eventId": sent.event_id})
        else:
            Screen().line(f"Said to agent {agent}.")
        return
    target.wait_for(sent)
    _follow(target, agent, as_json, since=int(known["step"]) if known else 0)


@app.command()
def trace(
    agent: AgentArgument,
    data: Annotated[bool, typer.Option("--data", help="With each state's input and output.")] = False,
    draw_to: Annotated[
        Path | None, typer.Option("--draw", metavar="FILE", help="Draw the way through the machines, as SVG.")
    ] = None,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the executions of an agent: which states they visited, for how long, with which data and errors."""
    target = _stack(stack)
    try:
        executions = target.executions(target.read_agent(agent))
    except StackError:
        executions = target.refusals(agent)
        if not executions:
            raise
    runs = [target.run(execution) for execution in executions]
    if draw_to:
        draw_to.write_text(way(runs), "utf-8")
    if as_json:
        print_json(
            {"agentId": agent, "transitions": sum(r.transitions for r in runs), "runs": [r.dump() for r in runs]}
        )
        return
    screen = Screen()
    for run in runs:
        screen.run(run, data)


@app.command()
def draw(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="Its file's name in asl/, as agent_turn.")],
    picture_format: Annotated[PictureFormat, typer.Option("--format", help="What to write.")] = PictureFormat.MERMAID,
    fold: Annotated[bool, typer.Option("--folded", help="Without what failures lead to.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write it; stdout otherwise.")] = None,
) -> None:
    """Draw a machine: its states, what leads from one to another, and where failures lead."""
    found = graph(find_machine(machine))
    shown = folded(found) if fold else found
    picture = mermaid(shown) if picture_format is PictureFormat.MERMAID else svg([shown])
    if out:
        out.write_text(picture, "utf-8")
    else:
        typer.echo(picture, nl=False)


@app.command()
def verify(
    agent: Annotated[str | None, typer.Argument(metavar="AGENT", help="The agent's id; all otherwise.")] = None,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the tables: that each agent's record agrees with itself and with the inventory. Exits with 1 if not."""
    verdict = look_for_inconsistencies(_stack(stack), agent)
    if as_json:
        print_json(verdict.dump())
    else:
        Screen().inconsistencies(verdict)
    if verdict.findings:
        raise typer.Exit(1)


@app.command()
def decide(
    agent: AgentArgument,
    decision: Annotated[OperatorDecision, typer.Argument(metavar="DECISION", help="|".join(OperatorDecision))],
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why; it goes into the journal.")] = "",
    wait: WaitOption = True,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide what becomes of an agent that waits for its operator."""
    target = _stack(stack)
    before = give_decision(target, agent, decision, note)
    if not wait:
        if as_json:
            print_json({"agentId": agent, "decision": decision})
        else:
            Screen().line(f"Decided for agent {agent}: {decision}.")
        return
    wait_for_decision(target, before)
    _follow(target, agent, as_json, since=before.step)


@app.command()
def resume(
    agent: AgentArgument,
    wait: WaitOption = True,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send an agent to recovery by hand, when nobody works on it any more."""
    target = _stack(stack)
    before, sent = send_to_recovery(target, agent)
    if not wait:
        if as_json:
            print_json({"agentId": agent, "eventId": sent.event_id})
        else:
            Screen().line(f"Asked recovery to take over agent {agent}.")
        return
    wait_for_recovery(target, before, sent)
    _follow(target, agent, as_json, since=before.step)


@app.command()
def chaos(
    case: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this case; may be given again.")] = None,
    some: Annotated[bool, typer.Option("--some", help="Only a representative set, and no comparison.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the cases, and run none.")] = False,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="What the pairs of faults follow from.")] = SEED,
    folder: Annotated[Path, typer.Option(metavar="PATH", help="Where the report goes.")] = FOLDER / "chaos",
    as_json: JsonOption = False,
) -> None:
    """Put faults into agents' lives on engines of its own, and report what they survive. Exits with 1 unless all do."""
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
        Console(highlight=False).print(page(report))
        screen.hint(f"The report: {', '.join(map(str, files))}.")
    if not report.survived:
        raise typer.Exit(1)


def _stack(name: str | None) -> Stack:
    return Stack.embedded(attach()) if name is None else Stack.named(name)


def _follow(stack: Stack, agent_id: str, as_json: bool, since: int = 0, lines: bool = False) -> None:
    """Follows an agent until it stays where it is; as JSON with a line per change, or with what it is in the end."""
    screen = Screen()
    reporter: Reporter = Lines() if as_json else screen
    for change in stack.watch(agent_id, since):
        if lines or not as_json:
            reporter.change(change)
    view = stack.view(agent_id)
    if not as_json:
        screen.settled(view)
    elif not lines:
        print_json(view.dump())
    if view.status in FAILED:
        raise typer.Exit(1)
