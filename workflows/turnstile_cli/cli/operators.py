"""The commands for operators: they check, decide, resume, settle and publish again."""

import json
from typing import Annotated, Any

import typer

from turnstile_agents.operator import EffectAnswer, OperatorDecision
from turnstile_cli.cli import common
from turnstile_cli.cli.common import AgentArgument, JsonOption, StackOption, WaitOption
from turnstile_cli.cli.console import Screen, print_json
from turnstile_cli.stack.client import StackError
from turnstile_cli.stack.halt import find_parts, running_executions
from turnstile_cli.stack.halt import halt as halt_stack
from turnstile_cli.stack.operator import decide as give_decision
from turnstile_cli.stack.operator import resume as send_to_recovery
from turnstile_cli.stack.operator import wait_for_decision, wait_for_recovery
from turnstile_cli.stack.republish import republish as announce_again
from turnstile_cli.stack.settle import settle as settle_call
from turnstile_cli.verify import verify as look_for_inconsistencies

_DECISIONS = (
    "RETRY: another turn. REPLAN: another turn, in which the model plans anew. COMPENSATE: undo what stands, then ask "
    "the user. ABORT: end the agent as FAILED, and undo nothing."
)


def verify(
    agent: Annotated[
        str | None, typer.Argument(metavar="AGENT", help="The agent's id; without it, all agents are checked.")
    ] = None,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the tables: that each agent's record agrees with itself and with the inventory. Exits with 1 if not."""
    verdict = look_for_inconsistencies(common.connect(stack), agent)
    if as_json:
        print_json(verdict.dump())
    else:
        Screen().inconsistencies(verdict)
    if verdict.findings:
        raise typer.Exit(1)


def decide(
    agent: AgentArgument,
    decision: Annotated[OperatorDecision, typer.Argument(metavar="DECISION", help=_DECISIONS)],
    happened: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY[=RESULT]",
            help="This uncertain effect happened. RESULT: the call's result, as JSON. May be given several times.",
        ),
    ] = None,
    did_not: Annotated[
        list[str] | None,
        typer.Option("--not", metavar="KEY", help="This uncertain effect did not happen. May be given several times."),
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why; it goes into the journal.")] = "",
    wait: WaitOption = True,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide how an agent that waits for its operator goes on, and say which of its uncertain effects happened."""
    effects = [
        *(EffectAnswer(key=key, happened=True, result=result) for key, result in map(_with_result, happened or [])),
        *(EffectAnswer(key=key, happened=False) for key in did_not or []),
    ]
    target = common.connect(stack)
    before = give_decision(target, agent, decision, note, effects)
    if not wait:
        common.tell(as_json, {"agentId": agent, "decision": decision}, f"Decided for agent {agent}: {decision}.")
        return
    wait_for_decision(target, before)
    common.follow(target, agent, as_json, since=before.step)


def _with_result(text: str) -> tuple[str, Any]:
    """Read KEY or KEY=RESULT. Raise BadParameter if RESULT is no JSON."""
    key, given, result = text.partition("=")
    try:
        return key, json.loads(result) if given else None
    except json.JSONDecodeError as error:
        wrong = f"the result of {key} is no JSON: {error}. Write a text in double quotes"
        raise typer.BadParameter(wrong, param_hint="--happened") from error


def resume(
    agent: AgentArgument,
    wait: WaitOption = True,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send an agent to recovery by hand, when no execution works on it any more."""
    target = common.connect(stack)
    before, sent = send_to_recovery(target, agent)
    if not wait:
        answer = {"agentId": agent, "eventId": sent.event_id}
        common.tell(as_json, answer, f"Asked recovery to take over agent {agent}.")
        return
    wait_for_recovery(target, before, sent)
    common.follow(target, agent, as_json, since=before.step)


def settle(
    agent: AgentArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The call's ledger key, such as 'EFFECT#000002#0'.")],
    happened: Annotated[bool, typer.Option("--happened/--not", help="Whether the call took effect.")],
    result: Annotated[
        str,
        typer.Argument(metavar="RESULT", help="With --happened: the call's result, as JSON.", show_default=False),
    ] = "",
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the ledger of a finished agent whether an uncertain call took effect. The agent stays finished."""
    settled = settle_call(common.connect(stack), agent, key, happened, result)
    words = f"{settled.key} ({settled.tool}) of agent {agent} is {settled.status} now."
    if settled.effect:
        words += f" {settled.effect}, which this call was to undo, is {settled.effect_status}."
    common.tell(as_json, settled.dump(), words)


def republish(stack: StackOption = None, as_json: JsonOption = False) -> None:
    """Announce again what was not published, by the queue OutboxDeadLetters. Exits with 1 if messages stay in it."""
    screen, handled = Screen(), []
    for message in announce_again(common.connect(stack)):
        handled.append(message)
        if not as_json:
            screen.line(f"{message.message_id} {'kept' if message.kept else 'done'}: {message.what}")
    if as_json:
        print_json({"messages": [message.dump() for message in handled]})
    elif not handled:
        screen.line("The queue is empty: every announcement was published.")
    if any(message.kept for message in handled):
        raise typer.Exit(1)


def halt(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    stack: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a stack's rules, pipe and executions, so that it can be deleted. No command undoes this."""
    name, client = common.clients(stack)
    parts = find_parts(name, client)
    if not yes:
        if as_json or not common.is_interactive():
            raise StackError(f"Without a terminal, or with --json, add --yes to halt the stack {name}")
        screen = Screen()
        screen.line(
            f"The stack {name} has {len(running_executions(parts, client))} running executions. They are stopped, and "
            "no event, input or request starts another. No command undoes this: it is for a stack that you delete next."
        )
        if not typer.confirm(f"Halt the stack {name}?"):
            screen.line("Nothing was halted.")
            raise typer.Exit(1)
    stopped = halt_stack(parts, client)
    words = (
        f"The stack {name} is halted: {len(parts.rules)} rules are disabled, {len(stopped)} executions were stopped."
    )
    common.tell(as_json, {"stack": name, "rules": len(parts.rules), "stopped": stopped}, words)
