"""Runs a call that writes once: Powertools Idempotency on the table `IDEMPOTENCY_TABLE` (key `id`, TTL `expiration`).

It is the second guard, behind the ledger. A record is `INPROGRESS` before the tool acts, holds the result afterwards,
and is deleted only if the tool promises that nothing happened.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyPersistenceLayerError,
)
from botocore.exceptions import BotoCoreError, ClientError

from turnstile_agents.dynamodb import client
from turnstile_agents.environment import ToolEnvironment
from turnstile_agents.errors import ToolOutcomeUnknown, ToolRejected, ToolUnavailable
from turnstile_agents.log import logger
from turnstile_agents.record import KEY_KNOWN_DAYS

RETENTION_SECONDS = KEY_KNOWN_DAYS * 24 * 3600
"""How long the record of a call is kept."""


class _CallStore(DynamoDBPersistenceLayer):
    """Powertools' store, but a call that may have acted is never run again."""

    def save_inprogress(self, data: Any, remaining_time_in_millis: int | None = None) -> None:  # noqa: ARG002
        # By default a record in progress expires after the function's remaining time, and the next attempt acts again.
        super().save_inprogress(data, RETENTION_SECONDS * 1000)

    def delete_record(self, data: Any, exception: Exception) -> None:
        # By default any exception makes the call runnable again.
        if isinstance(exception, ToolUnavailable | ToolRejected):
            try:
                super().delete_record(data, exception)
            except (BotoCoreError, ClientError):
                logger.warning("The call's record could not be removed; a repeat will be told: outcome unknown")

    def save_success(self, data: Any, result: Any) -> None:
        try:
            super().save_success(data, result)
        except (BotoCoreError, ClientError):
            # The result is known and must not become an error.
            logger.warning("The call's result could not be kept; a repeat will be told: outcome unknown")


@cache
def _store(table: str) -> _CallStore:
    return _CallStore(table, boto3_client=client())


def once(tool: str, key: str, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run `act`, or return the result that it had under this key.

    Raises each error of `act`; ToolUnavailable if the record cannot be written, so that nothing was done;
    ToolOutcomeUnknown if an earlier attempt under this key has not recorded its end.
    """

    def attempt(*, key: str) -> dict[str, Any]:  # noqa: ARG001
        return act()

    guarded = idempotent_function(
        attempt,
        data_keyword_argument="key",
        persistence_store=_store(ToolEnvironment.read().idempotency_table),
        config=IdempotencyConfig(expires_after_seconds=RETENTION_SECONDS),
        key_prefix=tool,
    )
    try:
        return guarded(key=key) or {}
    except IdempotencyAlreadyInProgressError as error:
        raise ToolOutcomeUnknown(f"{tool} was called before with key {key}, and its outcome is not known") from error
    except IdempotencyPersistenceLayerError as error:
        raise ToolUnavailable(f"{tool} did nothing: the call could not be recorded first. {error}") from error
