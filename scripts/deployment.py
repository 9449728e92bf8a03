"""Check a stack's name before it is deployed, and tell afterwards how an operator hears of its questions.

    .venv/bin/python scripts/deployment.py before NAME
    .venv/bin/python scripts/deployment.py after NAME

Names of a stack's resources contain the stack's name, and AWS limits their length.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import boto3

from turnstile_cli.engines.template import load_template
from turnstile_cli.files import TEMPLATE

STACK = "${AWS::StackName}"
LIMITS = {
    "AWS::ApiGatewayV2::Api": ("Name", 128),
    "AWS::DynamoDB::Table": ("TableName", 255),
    "AWS::Logs::LogGroup": ("LogGroupName", 512),
    "AWS::Pipes::Pipe": ("Name", 64),
    "AWS::Serverless::Function": ("FunctionName", 64),
    "AWS::Serverless::StateMachine": ("Name", 80),
}
"""The property that names a resource, and the most characters that AWS takes there."""


class DerivedName(NamedTuple):
    """The name of a resource that contains the stack's name."""

    pattern: str
    limit: int

    @property
    def room(self) -> int:
        """The most characters that the stack's name may have."""
        return self.limit - len(self.pattern.replace(STACK, ""))


def derived_names(template: dict[str, Any]) -> Iterator[DerivedName]:
    """Yield the names that contain the stack's name."""
    for resource in template["Resources"].values():
        if resource["Type"] in LIMITS:
            name, limit = LIMITS[resource["Type"]]
            pattern = resource.get("Properties", {}).get(name, "")
            if isinstance(pattern, dict) and STACK in pattern.get("Fn::Sub", ""):
                yield DerivedName(pattern["Fn::Sub"], limit)


def problem(stack: str, template: dict[str, Any]) -> str:
    """Return why the stack cannot have this name; empty if it can."""
    tightest = min(derived_names(template), key=lambda name: name.room)
    if len(stack) <= tightest.room:
        return ""
    return (
        f"The stack's name {stack} has {len(stack)} characters; it may have {tightest.room}, because AWS takes at most "
        f"{tightest.limit} for {tightest.pattern.replace(STACK, stack)}. Choose a shorter name: make deploy STACK=..."
    )


def hears(stack: str, cloudformation: Any) -> str:
    """Return how an operator hears of the questions and alarms of a deployed stack, by its output OperatorHears."""
    outputs = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    [told] = [output["OutputValue"] for output in outputs if output["OutputKey"] == "OperatorHears"]
    return f"The operator of {stack} hears {told}."


def main(arguments: Sequence[str]) -> int:
    """Check or tell, and return the exit status."""
    when, stack = arguments
    if when == "after":
        print(hears(stack, boto3.client("cloudformation")))
        return 0
    found = problem(stack, load_template(TEMPLATE))
    if found:
        print(found, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
