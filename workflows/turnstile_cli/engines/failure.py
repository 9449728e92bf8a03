"""The reason why an execution did not succeed."""

from collections.abc import Mapping
from typing import Any


def failure(client: Any, execution: Mapping[str, Any]) -> tuple[str, str]:
    """Return the error and the cause of an execution from DescribeExecution; empty if it has none.

    Step Functions Local gives them only in the history, in its last event
    (https://github.com/aws-samples/aws-stepfunctions-examples/issues/76).
    """
    if execution["status"] != "FAILED" or "error" in execution:
        return execution.get("error", ""), execution.get("cause", "")
    events = client.get_execution_history(executionArn=execution["executionArn"], reverseOrder=True, maxResults=1)
    details: Mapping[str, Any] = next(
        (details for event in events["events"] for name, details in event.items() if name.endswith("EventDetails")), {}
    )
    return details.get("error", ""), details.get("cause", "")
