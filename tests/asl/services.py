"""The services that the machines call, as botocore knows them, under the names that Step Functions gives them."""

from dataclasses import dataclass
from functools import cache

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, StringShape

from turnstile_cli.machines.definition import State


@dataclass(frozen=True)
class Service:
    """A service in a Resource."""

    prefix: str
    """The start of its errors' names. An SDK integration spells it in another way: DynamoDb.*, not DynamoDB.*."""
    botocore: str
    """botocore's name for it."""
    unmodelled: tuple[str, ...]
    """The names, without the prefix, of an error that the API's model does not name.

    It is the base class of the service's exceptions in the AWS SDK for Java: of version 2 for an SDK integration, of
    version 1 for an optimised one. For `events` no recording is known, so both are named.
    """


_SERVICES = {
    "aws-sdk:dynamodb": Service("DynamoDb", "dynamodb", ("DynamoDbException",)),
    "aws-sdk:bedrockruntime": Service("BedrockRuntime", "bedrock-runtime", ("BedrockRuntimeException",)),
    "events": Service("EventBridge", "events", ("AmazonEventBridgeException", "EventBridgeException")),
    "aws-sdk:sfn": Service("Sfn", "stepfunctions", ("SfnException",)),
    "aws-sdk:sqs": Service("Sqs", "sqs", ("SqsException",)),
    "lambda": Service("Lambda", "lambda", ("AWSLambdaException",)),
    "sns": Service("SNS", "sns", ("AmazonSNSException",)),
}


@dataclass(frozen=True)
class Call:
    """The API operation that a Task calls."""

    service: Service
    operation: OperationModel

    @property
    def prefix(self) -> str:
        """The start of its errors' names."""
        return self.service.prefix

    @property
    def errors(self) -> set[str]:
        """The errors that the API's model names for this operation, as a machine spells them."""
        names = {shape.name for shape in self.operation.error_shapes}
        return {f"{self.prefix}.{name.removesuffix('Exception')}Exception" for name in names}

    @property
    def unmodelled(self) -> set[str]:
        """The names of an error that the API's model does not name."""
        return {f"{self.prefix}.{name}" for name in self.service.unmodelled}


def called(task: State) -> Call:
    """Return the operation that a Task calls. Raises KeyError for an unknown service or operation."""
    service = _SERVICES[task.service]
    return Call(service, _service(service.botocore).operation_model(task.action[0].upper() + task.action[1:]))


def modelled_errors() -> set[str]:
    """Return every error that the model of a service names, for any operation."""
    return {
        f"{service.prefix}.{shape.name.removesuffix('Exception')}Exception"
        for service in _SERVICES.values()
        for shape in _service(service.botocore).error_shapes
    }


def unmodelled_errors() -> set[str]:
    """Return the names of each service for an error that its model does not name."""
    return {f"{service.prefix}.{name}" for service in _SERVICES.values() for name in service.unmodelled}


def execution_statuses() -> set[str]:
    """Return the statuses that DescribeExecution may give."""
    shape = _service("stepfunctions").shape_for("ExecutionStatus")
    assert isinstance(shape, StringShape)
    return set(shape.enum)


@cache
def _service(name: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)
