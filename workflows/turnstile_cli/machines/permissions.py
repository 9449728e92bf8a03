"""The permissions that a Task needs, from its resource and its parameters: what AWS asks IAM before it makes the call.

The engine asks this for each call, with the call's own parameters. The static rules ask it for a Task as the definition
has it: a value that is only known in an execution is `*` there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_OF_ITEMS = {
    "Put": "dynamodb:PutItem",
    "Update": "dynamodb:UpdateItem",
    "ConditionCheck": "dynamodb:ConditionCheckItem",
    "Delete": "dynamodb:DeleteItem",
}
"""The action of each kind of item in a transaction: a transaction has no action of its own."""
_GEOGRAPHIES = ("global.", "us.", "eu.", "apac.", "us-gov.", "jp.", "au.")
"""The beginnings of the ids of Bedrock's inference profiles; the rest is the id of the model."""
UNKNOWN = "*"


class UnknownTask(Exception):
    """A Task whose permissions are not known here; the message names its resource."""


@dataclass(frozen=True)
class Permission:
    """An action on a resource, with the condition keys of the request that our policies name."""

    action: str
    """Such as `dynamodb:PutItem`."""
    resource: str
    """The ARN, or `*` for an action that knows no resource."""
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @property
    def service(self) -> str:
        """The service's prefix, such as `dynamodb`."""
        return self.action.partition(":")[0]


@dataclass(frozen=True)
class Account:
    """An account in a Region. It completes the name of a resource to an ARN."""

    region: str
    id: str

    def arn(self, service: str, kind: str, name: str) -> str:
        """Return the ARN of a resource by its kind and name, such as `table/` and `AgentWorkflows`; keep an ARN."""
        return name if name.startswith("arn:") else f"arn:aws:{service}:{self.region}:{self.id}:{kind}{name}"


def needed(resource: str, parameters: Mapping[str, Any], account: Account) -> Iterator[Permission]:
    """Yield what a Task with this Resource and these Parameters needs.

    Raises:
        UnknownTask: no rule says what such a Task needs. Add one to this module.
    """
    name = resource.removesuffix(".waitForTaskToken").removeprefix("arn:aws:states:::")
    if name.startswith("arn:aws:lambda:"):
        yield Permission("lambda:InvokeFunction", name)
        return
    rule = _RULES.get(name)
    if rule is None:
        raise UnknownTask(f"No rule says which permissions {resource} needs; add it to {__name__}")
    yield from rule(parameters, account)


def as_written(parameters: Any) -> Any:
    """Return the Parameters of a definition as a call could have them: `*` for each value that a path gives."""
    if isinstance(parameters, list):
        return [as_written(each) for each in parameters]
    if isinstance(parameters, dict):
        return {
            key.removesuffix(".$"): UNKNOWN if key.endswith(".$") else as_written(value)
            for key, value in parameters.items()
        }
    return parameters


def keys_of_item(request: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return `dynamodb:LeadingKeys` of a request for one item of the table of agents; empty for any other request."""
    key = (request.get("Key") or request.get("Item") or {}).get("agentId", {})
    return {"dynamodb:LeadingKeys": (key["S"],)} if "S" in key else {}


def keys_of_events(request: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return `events:source` of a request to put events."""
    return {"events:source": tuple(str(entry.get("Source", "")) for entry in request.get("Entries", []))}


def _item(action: str) -> Callable[[Mapping[str, Any], Account], Iterator[Permission]]:
    def rule(parameters: Mapping[str, Any], account: Account) -> Iterator[Permission]:
        table = account.arn("dynamodb", "table/", parameters["TableName"])
        yield Permission(action, table, keys_of_item(parameters))

    return rule


def _transaction(parameters: Mapping[str, Any], account: Account) -> Iterator[Permission]:
    for item in parameters["TransactItems"]:
        for kind, request in item.items():
            yield from _item(_OF_ITEMS[kind])(request, account)


def _invoke_function(parameters: Mapping[str, Any], account: Account) -> Iterator[Permission]:
    yield Permission("lambda:InvokeFunction", account.arn("lambda", "function:", parameters["FunctionName"]))


def _put_events(parameters: Mapping[str, Any], account: Account) -> Iterator[Permission]:
    for bus in {entry.get("EventBusName", "default") for entry in parameters["Entries"]}:
        yield Permission("events:PutEvents", account.arn("events", "event-bus/", bus), keys_of_events(parameters))


def _converse(parameters: Mapping[str, Any], account: Account) -> Iterator[Permission]:
    # An inference profile needs the model behind it, too, in each Region that the profile uses.
    model = parameters["ModelId"]
    if not model.startswith("arn:"):
        geography = next((each for each in _GEOGRAPHIES if model.startswith(each)), "")
        if geography:
            yield Permission("bedrock:InvokeModel", account.arn("bedrock", "inference-profile/", model))
        model = f"arn:aws:bedrock:{account.region}::foundation-model/{model.removeprefix(geography)}"
    yield Permission("bedrock:InvokeModel", model)


def _on(action: str, parameter: str) -> Callable[[Mapping[str, Any], Account], Iterator[Permission]]:
    def rule(parameters: Mapping[str, Any], _account: Account) -> Iterator[Permission]:
        yield Permission(action, parameters[parameter])

    return rule


def _send_message(parameters: Mapping[str, Any], account: Account) -> Iterator[Permission]:
    yield Permission("sqs:SendMessage", account.arn("sqs", "", parameters["QueueUrl"].rpartition("/")[2]))


def _send_task_success(_parameters: Mapping[str, Any], _account: Account) -> Iterator[Permission]:
    yield Permission("states:SendTaskSuccess", "*")


_RULES: dict[str, Callable[[Mapping[str, Any], Account], Iterator[Permission]]] = {
    "aws-sdk:bedrockruntime:converse": _converse,
    "aws-sdk:dynamodb:getItem": _item("dynamodb:GetItem"),
    "aws-sdk:dynamodb:putItem": _item("dynamodb:PutItem"),
    "aws-sdk:dynamodb:updateItem": _item("dynamodb:UpdateItem"),
    "aws-sdk:dynamodb:transactWriteItems": _transaction,
    "aws-sdk:sfn:describeExecution": _on("states:DescribeExecution", "ExecutionArn"),
    "aws-sdk:sfn:startExecution": _on("states:StartExecution", "StateMachineArn"),
    "aws-sdk:sfn:sendTaskSuccess": _send_task_success,
    "aws-sdk:sqs:sendMessage": _send_message,
    "events:putEvents": _put_events,
    "lambda:invoke": _invoke_function,
    "sns:publish": _on("sns:Publish", "TopicArn"),
}
