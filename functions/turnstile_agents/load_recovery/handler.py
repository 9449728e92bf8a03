"""LoadRecovery: reads the record, and returns the situation that a recovery has to decide about."""

from typing import Any

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from turnstile_agents.environment import RecoveryEnvironment
from turnstile_agents.load_recovery.load import load_recovery
from turnstile_agents.load_recovery.shapes import LoadRecoveryInput, OperatorQuestion
from turnstile_agents.log import bound_errors, logger
from turnstile_agents.store import read_definition, table


@bound_errors
@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Take a `LoadRecoveryInput` and return a `Situation`. Raises LeaseLost if another execution owns the agent."""
    taken = LoadRecoveryInput.model_validate(event)
    logger.append_keys(agentId=taken.agent_id)
    environment = RecoveryEnvironment.read()
    operator = OperatorQuestion(
        reminder_seconds=environment.operator_reminder_seconds, reminders=environment.operator_reminders
    )
    situation = load_recovery(taken, table().record(taken.agent_id), read_definition, table().state, operator)
    if not taken.tried and not taken.order:  # a recovery loads again once it has tried to settle, undo or ask
        _count(situation.error)
    return situation.dump()


def _count(error: str) -> None:
    metrics = EphemeralMetrics(namespace="Turnstile")
    metrics.add_dimension("error", error)
    metrics.add_metric("Recoveries", MetricUnit.Count, 1)
    metrics.flush_metrics()
