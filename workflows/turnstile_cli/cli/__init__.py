"""The command line: `turnstile`.

A command's module is imported when the command is used, so that `turnstile --help` needs none of what they need.
"""

import ast
import io
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

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
    "trace": "trace.trace",
    "draw": "development.draw",
    "verify": "operators.verify",
    "decide": "operators.decide",
    "resume": "operators.resume",
    "settle": "operators.settle",
    "republish": "operators.republish",
    "halt": "operators.halt",
    "chaos": "development.chaos",
}
"""Each command's module and function, in the order of the help."""


def load_command(name: str) -> Any:
    """Import a command, and return it with its options. Raises KeyError if there is none of this name."""
    module, _, function = COMMANDS[name].partition(".")
    single = typer.Typer(add_completion=False)
    single.command(name)(getattr(import_module(f"{__name__}.{module}"), function))
    return typer.main.get_command(single)


@cache
def _helps() -> dict[str, str]:
    """Read each command's docstring from its source, for importing it takes longer."""
    docstrings = {
        f"{file.stem}.{node.name}": ast.get_docstring(node) or ""
        for file in Path(__file__).parent.glob("*.py")
        for node in ast.parse(file.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    return {name: docstrings[where] for name, where in COMMANDS.items()}


class Commands(TyperGroup):
    """Imports the command that is used, and tells an expected error in one line on stderr; the exit status is 1."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=text) for name, text in _helps().items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command with its options, in the place of the entry in the help."""
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
        except Exception as error:
            from turnstile_cli.cli.errors import explain

            message = explain(error)
            if message is None:
                raise
            typer.echo(f"turnstile: {message}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    help="AI agents whose every turn is a Step Functions execution.\n\n"
    "A command about agents works on the stack of `turnstile up`, or with --stack NAME on a stack in AWS. "
    "`turnstile COMMAND --help` explains its options.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    """Make a group of the application, which has no commands until it runs."""
