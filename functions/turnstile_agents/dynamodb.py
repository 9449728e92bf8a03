"""The DynamoDB client that the Lambdas share."""

from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@cache
def client() -> "DynamoDBClient":
    """Make the client once per process, at the first call.

    It makes 1 attempt: after a hidden repeat, an error would describe the last attempt, but the first may have written.
    The machine retries where that is safe.
    """
    return _client(attempts=1)


@cache
def reading_client() -> "DynamoDBClient":
    """Make the client for reads, once per process: up to 5 attempts, which together fit into LoadTurn's timeout."""
    return _client(attempts=5)


def _client(attempts: int) -> "DynamoDBClient":
    retries: Any = {"mode": "standard", "total_max_attempts": attempts}
    return boto3.client("dynamodb", config=Config(connect_timeout=1, read_timeout=3, retries=retries))
