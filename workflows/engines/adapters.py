"""The adapter functions: Lambdas on the embedded engine that do what an SDK integration of Step Functions does.

One function for each call that the machines make. `RESOURCE` names it, as `aws-sdk:dynamodb:putItem`; the event holds
the Task's Parameters, and the value is the Task's result. An error has the name that Step Functions gives it.
"""

import datetime as dt
import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.parsers import ResponseParserError

from workflows.engines.casing import UnknownField, from_wire, to_wire

RESOURCE = "TURNSTILE_ADAPTER_RESOURCE"
ENDPOINT = "TURNSTILE_ADAPTER_ENDPOINT"
"""The environment variable that names the service's URL; what boto3 finds in the environment otherwise."""
MODULE = "workflows/engines/adapters"
SERVICES = {"bedrockruntime": "bedrock-runtime", "sfn": "stepfunctions", "eventbridge": "events"}
"""Where Step Functions, which calls a service as the SDK for Java does, and boto3 differ in a name."""
PREFIXES = {
    "bedrockruntime": "BedrockRuntime",
    "dynamodb": "DynamoDb",
    "eventbridge": "EventBridge",
    "events": "EventBridge",
}
"""What a service's errors start with; its own name with a capital otherwise."""


class _Refused(Exception):
    """What the task fails with, by the name that Step Functions gives it."""


def handler(event: dict[str, Any], _context: object) -> Any:
    """Does what the resource does."""
    resource = os.environ[RESOURCE]
    # MiniStack waits 50 ms for the first line that a function logs, whether it logs anything or not.
    print(resource, file=sys.stderr)
    return adapter(resource)(event)


@functools.cache
def adapter(resource: str) -> Callable[[dict[str, Any]], Any]:
    """What carries out a resource; it keeps its client."""
    service, action = resource.removeprefix("aws-sdk:").split(":")
    session = botocore.session.Session()
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=175, proxies={})
    client = session.create_client(SERVICES.get(service, service), endpoint_url=os.environ.get(ENDPOINT), config=config)
    method = client.meta.method_to_api_mapping
    name = next(name for name, operation in method.items() if operation == action[0].upper() + action[1:])
    operation = client.meta.service_model.operation_model(method[name])
    takes, gives = operation.input_shape, operation.output_shape
    assert takes and gives  # of what a machine calls, nothing is without
    prefix = PREFIXES.get(service, service.capitalize())

    def call(parameters: dict[str, Any]) -> Any:
        try:
            wanted = parameters if resource.startswith("aws-sdk:") else _with_text(parameters)
            reply = getattr(client, name)(**to_wire(wanted, takes))
        except UnknownField as error:
            fail("UnknownField", f"The field {error} is not supported by Step Functions")
        except ClientError as error:
            code = error.response["Error"]["Code"].removesuffix("Exception")
            fail(f"{prefix}.{code}Exception", error.response["Error"]["Message"])
        except ParamValidationError as error:
            fail(f"{prefix}.ValidationException", str(error))
        except (BotoCoreError, ResponseParserError) as error:
            fail(f"{prefix}.SdkClientException", str(error))
        result = from_wire(reply, gives)
        if result.get("FailedEntryCount"):
            fail(f"{prefix}.FailedEntry", json.dumps(result["Entries"]))
        return json.loads(json.dumps(result, default=_text))

    return call


def _with_text(parameters: dict[str, Any]) -> dict[str, Any]:
    """The optimized `events:putEvents` takes an object for what the API wants as text."""
    entries = [{**entry, "Detail": json.dumps(entry["Detail"])} for entry in parameters["Entries"]]
    return {**parameters, "Entries": entries}


def _text(value: object) -> str:
    """A date, which JSON does not have."""
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)


def fail(error: str, message: str) -> NoReturn:
    """Ends the function with an error of any name: a Lambda is known by its exception's class."""
    raise type(error, (_Refused,), {})(message) from None
