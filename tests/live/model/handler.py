"""The scripted model as a Lambda: takes a Converse task's Parameters, and answers or fails as the task would."""

from functools import cache
from typing import Any, NoReturn

import botocore.session
from botocore.model import Shape

from workflows.engines.casing import from_wire, to_wire
from workflows.scenarios import load_scenarios
from workflows.scripted_model import Refused, Script


def handler(event: dict[str, Any], _context: object) -> Any:
    """Answers by the scenario whose prompt the conversation begins with."""
    asked, answered = _shapes()
    try:
        return from_wire(_script().answer(to_wire(event, asked)), answered)
    except Refused as refused:
        fail(f"BedrockRuntime.{refused.name}", str(refused))


def fail(error: str, message: str) -> NoReturn:
    """Ends the function with an error of any name: Step Functions knows it by the exception's class."""
    raise type(error, (Exception,), {})(message) from None


@cache
def _script() -> Script:
    """One for as long as this process lives: it counts how often a reply was asked for."""
    return Script(load_scenarios())


@cache
def _shapes() -> tuple[Shape, Shape]:
    """Of Converse's request and of its answer."""
    converse = botocore.session.Session().get_service_model("bedrock-runtime").operation_model("Converse")
    assert converse.input_shape and converse.output_shape
    return converse.input_shape, converse.output_shape
