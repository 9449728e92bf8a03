"""What all tests share: short ids."""

import re

import pytest

LONGEST = 24
"""Characters of a text in a test's id."""


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:  # noqa: ARG001
    """Return the first words of a long text as its part of a test's id; None leaves it to pytest."""
    if not isinstance(val, str) or len(val) <= LONGEST:
        return None
    words = re.sub(r"[^\w.:/#-]+", " ", val).split()
    text = ""
    for word in words:
        if text and len(text) + 1 + len(word) > LONGEST:
            break
        text = f"{text} {word}".strip()
    return ascii(text[:LONGEST])[1:-1]
