"""The command line: `turnstile`."""

import io
import sys
from collections.abc import Callable
from typing import Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from typer.core import TyperGroup

from agent.plain import visible
from workflows.chaos.cases import UnknownCase
from workflows.cli import agents, development, operators
from workflows.client import StackError
from workflows.draw import DrawError
from workflows.engines.errors import EngineError
from workflows.scenarios import ScenarioError

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": development.demo,
    "up": development.up,
    "machines": development.machines,
    "register": development.register,
    "start": agents.start,
    "watch": agents.watch,
    "show": agents.show,
    "list": agents.list_agents,
    "input": agents.send_input,
    "approve": agents.approve,
    "cancel": agents.cancel,
    "trace": agents.trace,
    "draw": development.draw,
    "verify": operators.verify,
    "decide": operators.decide,
    "resume": operators.resume,
    "settle": operators.settle,
    "chaos": development.chaos,
}
"""Every command, in the order of the help."""


class Commands(TyperGroup):
    """The command group. It prints an expected error as one message on stderr, and exits with 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        for stream in (sys.stdout, sys.stderr):
            # A character of the record that the terminal cannot show must not end the command.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except (DrawError, EngineError, ScenarioError, StackError, UnknownCase) as error:
            message = str(error)
        except ValidationError as error:
            message = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        except (BotoCoreError, ClientError) as error:
            message = f"AWS: {error}"
        typer.echo(visible(f"turnstile: {message}"), err=True)
        raise typer.Exit(1)


app = typer.Typer(
    cls=Commands,
    help="AI agents whose every turn is a Step Functions execution.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for name, command in COMMANDS.items():
    app.command(name)(command)
