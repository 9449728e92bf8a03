"""The services that the machines call, as botocore knows them, under the names that Step Functions gives them."""

from dataclasses import dataclass
from functools import cache

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, StringShape

from turnstile_cli.machines.definition import State

# Each name in a Resource, with the prefix of its errors and botocore's name for it. An SDK integration spells its
# errors in another way than an optimized integration: DynamoDb.*, not DynamoDB.*.
_SERVICES = {
    "aws-sdk:dynamodb": ("DynamoDb", "dynamodb"),
    "aws-sdk:bedrockruntime": ("BedrockRuntime", "bedrock-runtime"),
    "events": ("EventBridge", "events"),
    "aws-sdk:sfn": ("Sfn", "stepfunctions"),
    "lambda": ("Lambda", "lambda"),
    "sns": ("SNS", "sns"),
}


@dataclass(frozen=True)
class Call:
    """The API operation that a Task calls. `prefix` begins the names of its errors."""

    prefix: str
    operation: OperationModel

    @property
    def errors(self) -> set[str]:
        """The errors that the API's model names for this operation, as a machine spells them."""
        names = {shape.name for shape in self.operation.error_shapes}
        return {f"{self.prefix}.{name.removesuffix('Exception')}Exception" for name in names}


def called(task: State) -> Call:
    """Return the operation that a Task calls. Raises KeyError for an unknown service or operation."""
    prefix, name = _SERVICES[task.service]
    return Call(prefix, _service(name).operation_model(task.action[0].upper() + task.action[1:]))


def execution_statuses() -> set[str]:
    """Return the statuses that DescribeExecution may give."""
    shape = _service("stepfunctions").shape_for("ExecutionStatus")
    assert isinstance(shape, StringShape)
    return set(shape.enum)


@cache
def _service(name: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)
