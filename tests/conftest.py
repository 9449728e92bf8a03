"""What all tests share: short ids."""

import re

import pytest

LONGEST = 24
"""Characters of a text in a test's id."""


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:  # noqa: ARG001
    """Return the beginning of a long text or number as its part of a test's id; None leaves it to pytest."""
    text = str(val) if isinstance(val, str | int) else ""
    if len(text) <= LONGEST:
        return None
    words = " ".join(re.sub(r"[^\w.:/#-]+", " ", text).split())
    whole, _, _ = words[: LONGEST + 1].rpartition(" ")
    return ascii(whole or words[:LONGEST])[1:-1]
