"""The adapter functions: Lambdas on the embedded engine that act like the SDK integrations of Step Functions.

There is one function for each call of the machines. `RESOURCE` names the call, such as `aws-sdk:dynamodb:putItem`. The
event has the Task's Parameters, and the returned value is the Task's result. Errors have the names that Step Functions
gives them.
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

from turnstile_cli.engines.casing import UnknownField, from_wire, to_wire

RESOURCE = "TURNSTILE_ADAPTER_RESOURCE"
ENDPOINT = "TURNSTILE_ADAPTER_ENDPOINT"
"""The environment variable that names the service's URL; without it, boto3 finds the URL in the environment."""
MODULE = "turnstile_cli/engines/adapters"
SERVICES = {"bedrockruntime": "bedrock-runtime", "sfn": "stepfunctions", "eventbridge": "events"}
"""boto3's names of the services whose name in Step Functions, that of the SDK for Java, is different."""
PREFIXES = {
    "bedrockruntime": "BedrockRuntime",
    "dynamodb": "DynamoDb",
    "eventbridge": "EventBridge",
    "events": "EventBridge",
}
"""The start of a service's error names; a service that is not listed has its own name, capitalised."""
UNMODELLED = {"events": "AmazonEventBridgeException"}
"""The names for an error that the API's model does not name; that of an SDK integration begins with its prefix."""


class _Refused(Exception):
    """The base of the error with which the task fails; `fail` makes a subclass with Step Functions' name for it."""


def handler(event: dict[str, Any], _context: object) -> Any:
    """Carry out the resource's call."""
    resource = os.environ[RESOURCE]
    # Log a line, because MiniStack waits 50 ms for a function's first line.
    print(resource, file=sys.stderr)
    return adapter(resource)(event)


@functools.cache
def adapter(resource: str) -> Callable[[dict[str, Any]], Any]:
    """Return the function that carries out a resource's call. It is cached with its client."""
    service, action = resource.removeprefix("aws-sdk:").split(":")
    session = botocore.session.Session()
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=175, proxies={})
    client = session.create_client(SERVICES.get(service, service), endpoint_url=os.environ.get(ENDPOINT), config=config)
    method = client.meta.method_to_api_mapping
    name = next(name for name, operation in method.items() if operation == action[0].upper() + action[1:])
    operation = client.meta.service_model.operation_model(method[name])
    takes, gives = operation.input_shape, operation.output_shape
    assert takes and gives  # every operation that a machine calls has an input and an output
    prefix = PREFIXES.get(service, service.capitalize())
    unmodelled = UNMODELLED.get(service, f"{prefix}Exception")
    modelled = {shape.name.removesuffix("Exception") for shape in operation.error_shapes}

    def call(parameters: dict[str, Any]) -> Any:
        try:
            wanted = parameters if resource.startswith("aws-sdk:") else _with_text(parameters)
            reply = getattr(client, name)(**to_wire(wanted, takes))
        except UnknownField as error:
            fail("UnknownField", f"The field {error} is not supported by Step Functions")
        except ClientError as error:
            code = error.response["Error"]["Code"].removesuffix("Exception")
            fail(
                f"{prefix}.{f'{code}Exception' if code in modelled else unmodelled}", error.response["Error"]["Message"]
            )
        except ParamValidationError as error:
            fail(f"{prefix}.{'ValidationException' if 'Validation' in modelled else unmodelled}", str(error))
        except (BotoCoreError, ResponseParserError) as error:
            fail(f"{prefix}.SdkClientException", str(error))
        result = from_wire(reply, gives)
        if result.get("FailedEntryCount"):
            fail(f"{prefix}.FailedEntry", json.dumps(result["Entries"]))
        return json.loads(json.dumps(result, default=_text))

    return call


def _with_text(parameters: dict[str, Any]) -> dict[str, Any]:
    """Write each entry's Detail as text: the optimised `events:putEvents` takes an object, the API wants a text."""
    entries = [{**entry, "Detail": json.dumps(entry["Detail"])} for entry in parameters["Entries"]]
    return {**parameters, "Entries": entries}


def _text(value: object) -> str:
    """Write a value that JSON does not have, such as a date, as text."""
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)


def fail(error: str, message: str) -> NoReturn:
    """Raise an error with a given name: Step Functions takes a Lambda error's name from the exception's class."""
    raise type(error, (_Refused,), {})(message) from None
