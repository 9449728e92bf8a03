"""The command line: `turnstile`.

A command's module is imported when the command is used, so that `turnstile --help` needs none of what they need.
"""

import ast
import io
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "demo": "development.demo",
    "up": "development.up",
    "machines": "development.machines",
    "register": "development.register",
    "start": "agents.start",
    "watch": "agents.watch",
    "show": "agents.show",
    "list": "agents.list_agents",
    "input": "agents.send_input",
    "approve": "agents.approve",
    "cancel": "agents.cancel",
    "trace": "agents.trace",
    "draw": "development.draw",
    "verify": "operators.verify",
    "decide": "operators.decide",
    "resume": "operators.resume",
    "settle": "operators.settle",
    "chaos": "development.chaos",
}
"""Each command's module and function, in the order of the help."""


def load_command(name: str) -> Any:
    """Import a command, and return it with its options. Raises KeyError if there is none of this name."""
    module, _, function = COMMANDS[name].partition(".")
    single = typer.Typer(add_completion=False)
    single.command(name)(getattr(import_module(f"{__name__}.{module}"), function))
    return typer.main.get_command(single)


class Commands(TyperGroup):
    """Imports the command that is used, and tells an expected error in one line on stderr; the exit status is 1."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command itself for what stands for it in the help."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else found, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        for stream in (sys.stdout, sys.stderr):
            # A terminal may be unable to show a character of the record: that must not end the command.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        # Read only if there is an exception: what raises it has been imported by then.
        except _expected_errors() as error:
            from turnstile_agents.plain import visible

            typer.echo(visible(f"turnstile: {_told(error)}"), err=True)
            raise typer.Exit(1) from None


def _expected_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError
    from pydantic import ValidationError

    from turnstile_cli.chaos.cases import UnknownCase
    from turnstile_cli.engines.errors import EngineError
    from turnstile_cli.machines.draw import DrawError
    from turnstile_cli.models.scenarios import ScenarioError
    from turnstile_cli.stack.client import StackError

    ours = (DrawError, EngineError, ScenarioError, StackError, UnknownCase)
    return (*ours, ValidationError, BotoCoreError, ClientError)


def _told(error: Exception) -> str:
    from botocore.exceptions import BotoCoreError, ClientError
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return f"AWS: {error}" if isinstance(error, (BotoCoreError, ClientError)) else str(error)


app = typer.Typer(
    cls=Commands,
    help="AI agents whose every turn is a Step Functions execution.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _stand_in() -> None:
    """Stand in the help for a command that is not imported."""


def _register() -> None:
    modules = {where.partition(".")[0] for where in COMMANDS.values()}
    helps = {
        f"{module}.{node.name}": ast.get_docstring(node)
        for module in modules
        for node in ast.parse((Path(__file__).parent / f"{module}.py").read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    for name, where in COMMANDS.items():
        app.command(name, help=helps[where])(_stand_in)


_register()
