"""Compare all test executions with the limits of Step Functions: no open engine enforces them all."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import pytest

from turnstile_cli.machines.limits import PAGE, breaches

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

HEADERS = {
    "Content-Type": "application/x-amz-json-1.0",
    "X-Amz-Target": "AWSStepFunctions.GetExecutionHistory",
    # No engine checks a signature, but each takes the Region from here.
    "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/states/aws4_request, SignedHeaders=, "
    "Signature=0",
}


@contextmanager
def within_limits(*clients: Any) -> Iterator[None]:
    """Fail at the end if an execution of these Step Functions came close to a limit."""
    yield
    found = [use for client in clients for use in breaches(cast("SFNClient", _Raw(client)))]
    if found:
        pytest.fail("Close to a limit of Step Functions:\n" + "\n".join(map(str, found)), pytrace=False)


class _Raw:
    """A client whose histories are read without botocore, which would parse every time: the tests make many events."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.list_state_machines = client.list_state_machines

    def get_paginator(self, operation: str) -> Any:
        return self if operation == "get_execution_history" else self._client.get_paginator(operation)

    def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield the pages of a history."""
        asked = {"executionArn": arguments["executionArn"], "maxResults": PAGE}
        connection = HTTPConnection(urlsplit(self._client.meta.endpoint_url).netloc)
        while True:
            connection.request("POST", "/", json.dumps(asked), HEADERS)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            page = json.loads(response.read())
            yield page
            if not page.get("nextToken"):
                break
            asked["nextToken"] = page["nextToken"]
        connection.close()
