"""ReadReply: from the model's reply to a checked decision, or to what was wrong with it."""

from typing import Any

from agent.log import logger
from agent.turn import Asked
from read_reply.read import read_reply


@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Takes an `Asked`, answers a `Reading`. A wrong reply is no failure: it is a decision that says so."""
    asked = Asked.model_validate(event)
    logger.append_keys(agentId=asked.agent.agent_id)
    return read_reply(asked).dump()
