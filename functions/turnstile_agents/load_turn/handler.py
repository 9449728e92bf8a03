"""LoadTurn: reads the record, and returns the turn's next action with its data."""

from datetime import UTC, datetime
from typing import Any

from turnstile_agents.load_turn.load import load_turn
from turnstile_agents.log import bound_errors, logger
from turnstile_agents.store import read_definition, table
from turnstile_agents.turn import Claim


@bound_errors
@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Take a `Claim` and return a `Turn`. Raises LeaseLost, InvalidRecord, ContextTooLarge, EffectUncertain."""
    claim = Claim.model_validate(event)
    logger.append_keys(agentId=claim.agent_id)
    today = datetime.now(UTC).date().isoformat()
    record = table().record
    return load_turn(claim, record(claim.agent_id), read_definition, record, table().state, today).dump()
