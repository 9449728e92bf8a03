"""ReadReply: turns the model's reply into a checked decision, or into a correction."""

from typing import Any

from pydantic import ValidationError

from turnstile_agents.errors import TurnOutdated
from turnstile_agents.log import bound_errors, logger
from turnstile_agents.read_reply.read import read_reply
from turnstile_agents.turn import ReadReplyInput


@bound_errors
@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Take a `ReadReplyInput` and return a `Reading`. The decision of a wrong reply says what was wrong.

    Raises TurnOutdated.
    """
    try:
        asked = ReadReplyInput.model_validate(event)
    except ValidationError as error:
        raise TurnOutdated(f"Its data have another form than this version of ReadReply reads: {error}") from error
    logger.append_keys(agentId=asked.agent.agent_id)
    return read_reply(asked).dump()
