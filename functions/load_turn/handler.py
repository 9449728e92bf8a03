"""LoadTurn: reads the record, and returns the turn's next action with its data."""

from datetime import UTC, datetime
from typing import Any

from agent.log import logger
from agent.store import read_above, read_agent, read_definition
from agent.turn import Claim
from load_turn.load import load_turn


@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Take a `Claim` and return a `Turn`. Raises LeaseLost, InvalidRecord, ContextTooLarge, EffectUncertain."""
    claim = Claim.model_validate(event)
    logger.append_keys(agentId=claim.agent_id)
    today = datetime.now(UTC).date().isoformat()
    return load_turn(claim, read_agent(claim.agent_id), read_definition, read_agent, read_above, today).dump()
