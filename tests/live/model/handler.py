"""The scripted model as a Lambda: takes a Converse task's Parameters, and answers or fails as that task would."""

from functools import cache
from typing import Any, NoReturn

import botocore.session
from botocore.model import Shape

from turnstile_cli.engines.casing import from_wire, to_wire
from turnstile_cli.models.scenarios import load_scenarios
from turnstile_cli.models.scripted import Script, ScriptedError


def handler(event: dict[str, Any], _context: object) -> Any:
    """Answer by the scenario whose prompt begins the conversation."""
    asked, answered = _shapes()
    try:
        return from_wire(_script().answer(to_wire(event, asked)), answered)
    except ScriptedError as refused:
        fail(f"BedrockRuntime.{refused.name}", str(refused))


def fail(error: str, message: str) -> NoReturn:
    """End the function with an error of any name: Step Functions takes the name from the exception's class."""
    raise type(error, (Exception,), {})(message) from None


@cache
def _script() -> Script:
    """Return the script of this process: it counts the requests for each reply."""
    return Script(load_scenarios())


@cache
def _shapes() -> tuple[Shape, Shape]:
    """Return the shapes of Converse's request and answer."""
    converse = botocore.session.Session().get_service_model("bedrock-runtime").operation_model("Converse")
    assert converse.input_shape and converse.output_shape
    return converse.input_shape, converse.output_shape
