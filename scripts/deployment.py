"""Check the name of a stack before it is deployed: names of its resources begin with it, and AWS limits their length.

.venv/bin/python scripts/deployment.py NAME
"""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

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


def main() -> int:
    """Check the name and return the exit status."""
    found = problem(sys.argv[1], load_template(TEMPLATE))
    if found:
        print(found, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
