"""The services that the machines call, as botocore knows them, under the names that Step Functions gives them."""

from dataclasses import dataclass
from functools import cache

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, StringShape

from workflows.machines import State

# The name in a Resource: the prefix of its errors, and botocore's name for it. An SDK integration spells its errors
# otherwise than an optimized one: DynamoDb.*, not DynamoDB.*.
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
    """What a Task calls: `prefix` begins the names of its errors."""

    prefix: str
    operation: OperationModel

    @property
    def errors(self) -> set[str]:
        """The errors that the API's model names for this operation, as a machine spells them."""
        names = {shape.name for shape in self.operation.error_shapes}
        return {f"{self.prefix}.{name.removesuffix('Exception')}Exception" for name in names}


def called(task: State) -> Call:
    """What a Task calls. Raises KeyError for a service that is not known here, and for an operation that is none."""
    prefix, name = _SERVICES[task.service]
    return Call(prefix, _service(name).operation_model(task.action[0].upper() + task.action[1:]))


def execution_statuses() -> set[str]:
    """What DescribeExecution may say of an execution."""
    shape = _service("stepfunctions").shape_for("ExecutionStatus")
    assert isinstance(shape, StringShape)
    return set(shape.enum)


@cache
def _service(name: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)
