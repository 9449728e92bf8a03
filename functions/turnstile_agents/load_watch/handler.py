"""LoadWatch: reads the table, and returns the agents that agent_watch must help."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from turnstile_agents.dynamodb import reading_client
from turnstile_agents.load_watch.load import Patience, count_run, count_waiting, find_stale
from turnstile_agents.log import logger


@logger.inject_lambda_context
def handler(_event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Return a `Watch`, and write the metrics: how many agents wait for an operator, and how long the watch needs."""
    client, table = reading_client(), os.environ["TABLE_NAME"]
    patience = Patience(
        stale=timedelta(minutes=int(os.environ["STALE_MINUTES"])),
        approval=timedelta(minutes=int(os.environ["APPROVAL_MINUTES"])),
        watch=timedelta(minutes=int(os.environ["WATCH_MINUTES"])),
    )
    watch = find_stale(client, table, datetime.now(UTC), patience, count_run(client, table))
    metrics = EphemeralMetrics(namespace="Turnstile")
    metrics.add_metric("AgentsWaitingForOperator", MetricUnit.Count, count_waiting(client, table))
    metrics.add_metric("AgentsLeftOut", MetricUnit.Count, watch.left_out)
    metrics.add_metric("WatchRotationMinutes", MetricUnit.NoUnit, watch.rotation_minutes)
    metrics.flush_metrics()
    return watch.dump()
