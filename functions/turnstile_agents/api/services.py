"""The services that the API uses beside the table: the bus and Step Functions."""

from functools import cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from turnstile_agents.api.problems import HttpRefusal
from turnstile_agents.environment import ApiEnvironment
from turnstile_agents.events import API_SOURCE
from turnstile_agents.record import Model

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_stepfunctions import SFNClient

# Retries do no harm: an event is known by its ids, and a task token works only once.
_CONFIG = Config(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 3})


@cache
def environment() -> ApiEnvironment:
    """Read the function's environment, once."""
    return ApiEnvironment.read()


def put(event: Model) -> None:
    """Put an event on the bus. Raises HttpRefusal if the bus does not take it."""
    name = type(event).__name__
    answer = _events().put_events(
        Entries=[
            {
                "Source": API_SOURCE,
                "DetailType": name,
                "EventBusName": environment().bus_name,
                # Leave out fields that were not given: the machine checks which fields are present.
                "Detail": event.model_dump_json(by_alias=True, exclude_none=True),
            }
        ]
    )
    if answer["FailedEntryCount"]:
        code = answer["Entries"][0].get("ErrorCode", "no code")
        raise HttpRefusal(
            503, "BusUnavailable", f"The bus did not take {name}: {code}. Nothing was done; send it again."
        )


@cache
def _events() -> "EventBridgeClient":
    return boto3.client("events", config=_CONFIG)


@cache
def stepfunctions() -> "SFNClient":
    """Make the client at the first decision of an operator."""
    return boto3.client("stepfunctions", config=_CONFIG)
