"""LoadTurn: reads the record, and returns the turn's next action with its data."""

from datetime import UTC, datetime
from typing import Any

from turnstile_agents.load_turn.load import load_turn
from turnstile_agents.log import logger
from turnstile_agents.store import read_above, read_agent, read_definition
from turnstile_agents.turn import Claim


@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Take a `Claim` and return a `Turn`. Raises LeaseLost, InvalidRecord, ContextTooLarge, EffectUncertain."""
    claim = Claim.model_validate(event)
    logger.append_keys(agentId=claim.agent_id)
    today = datetime.now(UTC).date().isoformat()
    return load_turn(claim, read_agent(claim.agent_id), read_definition, read_agent, read_above, today).dump()
