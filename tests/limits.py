"""Holds everything that the tests let machines do to the limits of Step Functions: no open engine enforces them all."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from workflows.limits import breaches, of_stack


@contextmanager
def within_limits(*clients: Any) -> Iterator[None]:
    """Fails at the end if an execution came close to a limit, on any of these Step Functions."""
    yield
    found = [use for client in clients for use in breaches(of_stack(client))]
    if found:
        pytest.fail("Close to a limit of Step Functions:\n" + "\n".join(map(str, found)), pytrace=False)
