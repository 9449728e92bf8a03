"""The common parts of the commands: their options, the stack that they work on, and how they follow an agent."""

import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import boto3
import typer

from turnstile_agents.record import FINISHED, SETTLED, Status
from turnstile_cli.cli.console import Lines, Reporter, Screen, print_json
from turnstile_cli.engines.embedded import attach
from turnstile_cli.engines.start import Engine
from turnstile_cli.stack.client import Stack

FAILED = {Status.FAILED, Status.CANCELLED, Status.PLANNING_FAILED, Status.TOOL_EXECUTION_FAILED}
AgentArgument = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's id; `turnstile list` shows the ids.")]
StackOption = Annotated[
    str | None,
    typer.Option("--stack", metavar="NAME", help="A stack in AWS; without it, the stack of `turnstile up`."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON on stdout, for programs.")]
EngineOption = Annotated[Engine, typer.Option("--engine", help="What executes the machines.")]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Follow the agent until it ends or a person has to act.")
]


def connect(name: str | None) -> Stack:
    """Return the stack in AWS with this name; without a name, the stack of the embedded engine that runs."""
    return Stack.embedded(attach()) if name is None else Stack.named(name)


def clients(name: str | None) -> tuple[str, Callable[[str], Any]]:
    """Return a stack's name and the maker of its clients, without reading its outputs: a broken stack has none."""
    if name is None:
        connection = attach()
        return connection.running.stack, connection.client
    return name, cache(boto3.Session().client)


def is_interactive() -> bool:
    """Return whether a person can answer a question of the command."""
    return sys.stdin.isatty()


def check_ending(file: Path, endings: Iterable[str], option: str) -> None:
    """Raise BadParameter if a file of the option does not end in one of the endings."""
    if file.suffix not in endings:
        raise typer.BadParameter(f"{file} must end in {' or in '.join(endings)}", param_hint=option)


def tell(as_json: bool, answer: dict[str, Any], words: str) -> None:
    """Print the command's result, as JSON or in words."""
    if as_json:
        print_json(answer)
    else:
        Screen().line(words)


def follow(stack: Stack, agent_id: str, as_json: bool, since: int = 0, lines: bool = False) -> None:
    """Follow an agent until it stays where it is: print each change, then the end. As JSON, changes need `lines`.

    Raise typer.Exit(1) if the agent is in a status of `FAILED` at the end.
    """
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
