"""The command line: `turnstile`."""

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from rich.console import Console
from rich.live import Live
from typer.core import TyperGroup

from agent.events import AgentInputReceived, AgentRequested
from agent.record import FINISHED, SETTLED, Status, Verdict
from agent.view import AgentView
from workflows.chaos.cases import SEED, UnknownCase, all_cases, case_of, representative_cases
from workflows.chaos.report import page
from workflows.chaos.report import write as write_report
from workflows.chaos.suite import chaos as run_chaos
from workflows.client import Stack, StackError
from workflows.console import Lines, Reporter, Screen, print_json
from workflows.demo import find_scenario, play, show_report
from workflows.engines.embedded import FOLDER, attach
from workflows.engines.errors import EngineError
from workflows.local import local_stack
from workflows.operator import OperatorDecision, wait_for_decision, wait_for_recovery
from workflows.operator import decide as give_decision
from workflows.operator import resume as send_to_recovery
from workflows.registry import latest_definition, read_agent_file
from workflows.registry import register as register_agent
from workflows.scenarios import ScenarioError, load_scenarios
from workflows.stack_shapes import Standing
from workflows.verify import verify as look_for_inconsistencies

DEMO = "straight_booking"
"""The scenario that the demo plays unless another is named."""
FAILED = {Status.FAILED, Status.CANCELLED, Status.PLANNING_FAILED, Status.TOOL_EXECUTION_FAILED}


class Commands(TyperGroup):
    """Tells an error that is to be expected in one line on stderr, and exits with 1."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except (EngineError, ScenarioError, StackError, UnknownCase) as error:
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
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the agent until it stays where it is.")]


@app.command()
def demo(
    scenario: Annotated[str, typer.Option(metavar="NAME", help="Which scenario to play.")] = DEMO,
    as_json: JsonOption = False,
) -> None:
    """Play a scenario on an engine of its own, and show what happens. Exits with 0 if the agent completes."""
    reporter: Reporter = Lines() if as_json else Screen()
    report = play(scenario, reporter)
    if isinstance(reporter, Screen):
        show_report(report, reporter)
    else:
        print_json({"type": "report", **report.dump()})
    if report.agent.status is not Status.COMPLETED:
        raise typer.Exit(1)


@app.command()
def up(as_json: JsonOption = False) -> None:
    """Start the embedded engine with a scripted model and the sample agents, and keep it until Ctrl-C."""
    screen = Screen()
    scenarios = load_scenarios()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell ignores SIGINT for what it runs in the background
        signal.signal(number, signal.default_int_handler)
    try:
        with local_stack(scenarios, FOLDER, "trip", {}, (lambda _: None) if as_json else screen.progress) as local:
            engine = local.engine
            if as_json:
                found = {"url": engine.url, "apiUrl": engine.api_url, "stack": local.stack.name}
                print_json({**found, "outputs": engine.outputs})
            else:
                screen.title("Ready. In another terminal")
                prompt = find_scenario(scenarios, DEMO).prompt
                for line in (f'start "{prompt}"', "list", "show AGENT", "trace AGENT"):
                    screen.line(f"  turnstile {line}")
                screen.title("The HTTP API")
                screen.line(f"  {engine.api_url}")
                screen.title("The scripted model knows these prompts")
                for scenario in scenarios:
                    agent = "" if scenario.agent == "travel" else f" (--agent {scenario.agent})"
                    screen.line(f"  {scenario.prompt}{agent}")
                screen.hint("Ctrl-C ends it.")
            while not threading.Event().wait(1):
                engine.check()
    except KeyboardInterrupt:
        if not as_json:
            screen.line("Ended.")


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
def watch(
    agent: Annotated[str | None, typer.Argument(metavar="AGENT", help="The agent's id.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="All agents that are not finished, until Ctrl-C.")] = False,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow an agent until it stays where it is, or all of them. With --json, a line for each change."""
    if everybody == (agent is not None):
        raise StackError("Name an agent to watch it, or give --all to watch all that are not finished: one of the two")
    target = _stack(stack)
    if agent is None:
        _watch_all(target, as_json)
    else:
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
def approve(
    agent: AgentArgument,
    approval: Annotated[str | None, typer.Argument(metavar="APPROVAL", help="As `turnstile show` names it.")] = None,
    refuse: Annotated[bool, typer.Option("--refuse", help="Do not let the calls happen.")] = False,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why; the model reads it.")] = "",
    wait: WaitOption = True,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let an agent make the calls that wait for approval. Without APPROVAL it shows them and asks."""
    target = _stack(stack)
    view = target.view(agent)
    waits_for = view.approval
    if waits_for is None:
        raise StackError(f"Agent {agent} is {view.status} and waits for no approval; nothing was changed")
    number, screen = waits_for.approval_id, Screen()
    if approval is None:
        if as_json or not _somebody_is_there():
            raise StackError(
                f"Nobody is here to be asked: `turnstile approve {agent} {number}` decides about "
                f"{', '.join(call.tool_name for call in waits_for.calls)}, `turnstile show {agent}` shows it"
            )
        screen.approval(waits_for)
        if not typer.confirm("Refuse it?" if refuse else "Approve it?"):
            screen.line("Nothing was decided.")
            raise typer.Exit(1)
    elif approval != number:
        raise StackError(f"Agent {agent} waits for approval {number}, not {approval}; nothing was changed")
    verdict = Verdict.REFUSE if refuse else Verdict.APPROVE
    known = target.item(agent, "STATE")
    # From the asking on: the results belong to its calls.
    since = int(known["step"]) - 1 if known else 0
    sent = target.decide_approval(agent, number, verdict, note)
    if not wait:
        if as_json:
            print_json({"agentId": agent, "approvalId": number, "decision": verdict, "eventId": sent.event_id})
        else:
            screen.line(f"Decided for agent {agent}: {verdict}.")
        return
    target.wait_for(sent)
    _follow(target, agent, as_json, since=since)


@app.command()
def cancel(
    agent: AgentArgument,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept in the record.")] = "",
    wait: WaitOption = True,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop an agent, and those that it delegated to: at its next checkpoint. Says what stands of what it did."""
    target = _stack(stack)
    known = next(item for item in target.read_agent(agent) if item["record"] == "STATE")
    if known["status"] in FINISHED:
        raise StackError(f"Agent {agent} is {known['status']}: it is finished, and there is nothing to cancel")
    sent = target.cancel(agent, note)
    if not wait:
        if as_json:
            print_json({"agentId": agent, "eventId": sent.event_id})
        else:
            Screen().line(f"Asked agent {agent} to stop.")
        return
    target.wait_for(sent)
    screen = Screen()
    for change in target.watch(agent, int(known["step"]), to_the_end=True):
        if not as_json:
            screen.change(change)
    view = target.view(agent)
    if as_json:
        print_json(view.dump())
    else:
        screen.settled(view)
        screen.title("What stands")
        _show_what_stands(target, screen, view)
    if view.status is not Status.CANCELLED:
        raise typer.Exit(1)


@app.command()
def trace(
    agent: AgentArgument,
    data: Annotated[bool, typer.Option("--data", help="With each state's input and output.")] = False,
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
    if as_json:
        print_json(
            {"agentId": agent, "transitions": sum(r.transitions for r in runs), "runs": [r.dump() for r in runs]}
        )
        return
    screen = Screen()
    for run in runs:
        screen.run(run, data)


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


def _show_what_stands(stack: Stack, screen: Screen, view: AgentView) -> None:
    """Of an agent, and of those that it has delegated to: they are stopped after it."""
    screen.standing(view)
    for child in view.children or []:
        if stack.item(child, "STATE"):
            _show_what_stands(stack, screen, stack.view(child))


def _somebody_is_there() -> bool:
    return sys.stdin.isatty()


def _watch_all(stack: Stack, as_json: bool) -> None:
    """Watches all agents: in a table that lives on a terminal, otherwise with a line for each change of one."""
    screen = Screen()
    try:
        if screen.console.is_terminal and not as_json:
            with Live(screen.everybody([]), console=screen.console, auto_refresh=False) as live:
                for agents in stack.watch_all():
                    live.update(screen.everybody(agents), refresh=True)
        else:
            told: dict[str, Standing] = {}
            for agents in stack.watch_all():
                for agent in reversed(agents):
                    if told.get(agent.agent_id) != agent:
                        told[agent.agent_id] = agent
                        print_json(agent.dump()) if as_json else screen.line(screen.one_line(agent))
    except KeyboardInterrupt:
        return


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
    if view.status is Status.WAITING_FOR_AGENT and not as_json:
        for child in map(stack.view, view.children or []):
            if child.status in SETTLED - FINISHED:
                screen.settled(child)
    if view.status in FAILED:
        raise typer.Exit(1)
