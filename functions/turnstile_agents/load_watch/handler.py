"""LoadWatch: reads the table, and returns the agents that agent_watch must help."""

from datetime import UTC, datetime, timedelta
from typing import Any

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from turnstile_agents.environment import WatchEnvironment
from turnstile_agents.load_watch.load import Patience, count_not_begun, count_run, count_waiting, find_stale
from turnstile_agents.log import bound_errors, logger
from turnstile_agents.store import table


@bound_errors
@logger.inject_lambda_context
def handler(_event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Return a `Watch`, and write the metrics that alarms need."""
    environment = WatchEnvironment.read()
    patience = Patience(
        stale=timedelta(minutes=environment.stale_minutes),
        approval=timedelta(minutes=environment.approval_minutes),
        watch=timedelta(minutes=environment.watch_minutes),
    )
    watch = find_stale(table(), datetime.now(UTC), patience, count_run(table()))
    metrics = EphemeralMetrics(namespace="Turnstile")
    metrics.add_metric("AgentsWaitingForOperator", MetricUnit.Count, count_waiting(table()))
    metrics.add_metric("AgentsLeftOut", MetricUnit.Count, watch.left_out)
    metrics.add_metric("WorkNotBegun", MetricUnit.Count, count_not_begun(watch))
    metrics.add_metric("WatchRotationMinutes", MetricUnit.NoUnit, watch.rotation_minutes)
    metrics.flush_metrics()
    return watch.dump()
