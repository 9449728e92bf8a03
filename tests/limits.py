"""Compare all test executions with the limits of Step Functions: no open engine enforces them all."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from turnstile_cli.machines.limits import breaches, of_stack


@contextmanager
def within_limits(*clients: Any) -> Iterator[None]:
    """Fail at the end if an execution of these Step Functions came close to a limit."""
    yield
    found = [use for client in clients for use in breaches(of_stack(client))]
    if found:
        pytest.fail("Close to a limit of Step Functions:\n" + "\n".join(map(str, found)), pytrace=False)
