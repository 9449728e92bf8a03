"""The commands that start agents, speak to them and show them."""

from typing import Annotated

import typer
from rich.live import Live

from turnstile_agents.events import AgentInputReceived, AgentRequested
from turnstile_agents.record import FINISHED, Status, Verdict
from turnstile_agents.view import AgentView, AskedCall
from turnstile_cli.cli import common
from turnstile_cli.cli.common import AgentArgument, JsonOption, StackOption, WaitOption
from turnstile_cli.cli.console import Screen, print_json
from turnstile_cli.stack.client import Stack, StackError
from turnstile_cli.stack.shapes import WatchedAgent


def start(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the agent is to do.")],
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="The registered agent; without it, the stack's default.")
    ] = None,
    goal: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The goal in a few words; without it, the prompt.")
    ] = None,
    agent_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="The new agent's id: 1 to 64 letters, digits, - or _; without it, the event's id.",
        ),
    ] = None,
    wait: WaitOption = True,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start an agent. Exits with 1 if the request is refused or the agent fails."""
    requested = AgentRequested(prompt=prompt, agent=agent, goal=goal, agent_id=agent_id)
    target = common.connect(stack)
    if agent_id and target.table.state(agent_id):
        raise StackError(f"Agent {agent_id} already exists: speak to it with `turnstile input`, or choose another --id")
    sent = target.request(requested)
    if not wait:
        common.tell(as_json, {"agentId": sent.agent_id, "eventId": sent.event_id}, f"Requested agent {sent.agent_id}.")
        return
    target.wait_for(sent)
    common.follow(target, sent.agent_id, as_json)


def watch(
    agent: Annotated[str | None, typer.Argument(metavar="AGENT", help="The agent's id; not with --all.")] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="Follow every agent that is not finished, until Ctrl-C.")
    ] = False,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow an agent until it ends or a person has to act, or all agents. With --json, a line for each change."""
    if everybody == (agent is not None):
        raise StackError("Give either an agent's id, or --all to watch every agent that is not finished")
    target = common.connect(stack)
    if agent is None:
        _watch_all(target, as_json)
    else:
        common.follow(target, agent, as_json, lines=True)


def show(agent: AgentArgument, stack: StackOption = None, as_json: JsonOption = False) -> None:
    """Show an agent: its record, its plan and calls, its recoveries, its conversation."""
    target = common.connect(stack)
    state, record = target.read_agent(agent)
    view = target.view_of(state, record)
    if as_json:
        print_json(view.dump())
        return
    screen = Screen()
    screen.agent(view)
    if view.plan:
        screen.title("Plan and calls")
        screen.plan(view)
    screen.recoveries(state, record)
    screen.title("Conversation")
    screen.conversation(view)


def list_agents(
    status: Annotated[
        Status | None, typer.Option(metavar="STATUS", help=f"Only agents in this status: {', '.join(Status)}.")
    ] = None,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """List agents, the last updated first."""
    agents = common.connect(stack).agents(status)
    if as_json:
        print_json([agent.dump() for agent in agents])
    elif agents:
        Screen().agents(agents)
    else:
        Screen().line("No agents" if status is None else f"No agents are {status}")


def send_input(
    agent: AgentArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text for the agent.")],
    wait: WaitOption = True,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say something to an agent: answer its question, or add to its task."""
    AgentInputReceived(agent_id=agent, text=text)
    target = common.connect(stack)
    known = target.table.state(agent)
    sent = target.send_input(agent, text)
    if not wait:
        common.tell(as_json, {"agentId": agent, "eventId": sent.event_id}, f"Sent to agent {agent}.")
        return
    target.wait_for(sent)
    common.follow(target, agent, as_json, since=known.step if known else 0)


def approve(
    agent: AgentArgument,
    approval: Annotated[str | None, typer.Argument(metavar="APPROVAL", help="Its number in `turnstile show`.")] = None,
    refuse: Annotated[bool, typer.Option("--refuse", help="Refuse the calls: they do not happen.")] = False,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why; the model reads it.")] = "",
    wait: WaitOption = True,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve the calls that wait for approval, or refuse them. Without APPROVAL, the command shows them and asks."""
    target = common.connect(stack)
    view = target.view(agent)
    waits_for = view.approval
    if waits_for is None:
        raise StackError(f"Agent {agent} is {view.status} and waits for no approval; nothing was changed")
    number, screen = waits_for.approval_id, Screen()
    if approval is None:
        if as_json or not common.is_interactive():
            raise StackError(
                f"Without a terminal, or with --json, name the approval: `turnstile approve {agent} {number}` decides "
                f"about {', '.join(map(_tools, waits_for.calls))}, `turnstile show {agent}` shows the calls"
            )
        screen.approval(waits_for)
        if not typer.confirm("Refuse it?" if refuse else "Approve it?"):
            screen.line("Nothing was decided.")
            raise typer.Exit(1)
    elif approval != number:
        raise StackError(f"Agent {agent} waits for approval {number}, not {approval}; nothing was changed")
    verdict = Verdict.REFUSE if refuse else Verdict.APPROVE
    known = target.table.state(agent)
    # Start at the step that asked: the results belong to its calls.
    since = known.step - 1 if known else 0
    sent = target.decide_approval(agent, number, verdict, note)
    if not wait:
        answer = {"agentId": agent, "approvalId": number, "decision": verdict, "eventId": sent.event_id}
        common.tell(as_json, answer, f"Decided for agent {agent}: {verdict}.")
        return
    target.wait_for(sent)
    common.follow(target, agent, as_json, since=since)


def cancel(
    agent: AgentArgument,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept in the record.")] = "",
    wait: WaitOption = True,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop an agent and its delegates, each at its next checkpoint. Shows which of their effects stand."""
    target = common.connect(stack)
    known, _ = target.read_agent(agent)
    if known.status in FINISHED:
        raise StackError(f"Agent {agent} is {known.status}: it is finished and cannot be cancelled")
    sent = target.cancel(agent, note)
    if not wait:
        common.tell(as_json, {"agentId": agent, "eventId": sent.event_id}, f"Asked agent {agent} to stop.")
        return
    target.wait_for(sent)
    screen = Screen()
    for change in target.watch(agent, known.step, to_the_end=True):
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


def _watch_all(stack: Stack, as_json: bool) -> None:
    """Watch all agents: on a terminal in a live table, otherwise with a line for each change of an agent."""
    screen = Screen()
    try:
        if screen.console.is_terminal and not as_json:
            with Live(screen.everybody([]), console=screen.console, auto_refresh=False) as live:
                for agents in stack.watch_all():
                    live.update(screen.everybody(agents), refresh=True)
        else:
            told: dict[str, WatchedAgent] = {}
            for agents in stack.watch_all():
                for agent in reversed(agents):
                    if told.get(agent.agent_id) != agent:
                        told[agent.agent_id] = agent
                        print_json(agent.dump()) if as_json else screen.line(screen.one_line(agent))
    except KeyboardInterrupt:
        return


def _show_what_stands(stack: Stack, screen: Screen, view: AgentView) -> None:
    """Show which effects stand: of an agent, then of the agents that it has delegated to, which stop after it."""
    screen.standing(view)
    for child in view.children or []:
        if stack.table.state(child):
            _show_what_stands(stack, screen, stack.view(child))


def _tools(call: AskedCall) -> str:
    """Name the tool of a call, and the tools that may be called instead."""
    return " or ".join(each.tool_name for each in (call, *call.alternatives))
