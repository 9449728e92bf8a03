"""The errors that a user of the command line is told in one line."""

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from turnstile_agents.plain import visible
from turnstile_cli.chaos.cases import UnknownCase
from turnstile_cli.engines.errors import EngineError
from turnstile_cli.machines.draw import DrawError
from turnstile_cli.models.scenarios import ScenarioError
from turnstile_cli.stack.client import StackError


def explain(error: Exception) -> str | None:
    """Return what to tell of an error; None if it is unexpected and its traceback is needed."""
    match error:
        case DrawError() | EngineError() | ScenarioError() | StackError() | UnknownCase():
            message = str(error)
        case ValidationError():
            message = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        case BotoCoreError() | ClientError():
            message = f"AWS: {error}"
        case _:
            return None
    return visible(message)
