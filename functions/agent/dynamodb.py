"""The DynamoDB client that the Lambdas share."""

from functools import cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@cache
def client() -> "DynamoDBClient":
    """Made once per process, at the first call.

    One attempt only: after a hidden repeat, an error would tell of the last attempt, and the first may have written.
    The machine retries, where that is safe.
    """
    return boto3.client("dynamodb", config=Config(connect_timeout=1, read_timeout=3, retries={"total_max_attempts": 1}))
