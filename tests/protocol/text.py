"""JSON as text: every value in a world is text, so that worlds are compared, hashed and cached cheaply."""

import json
from functools import cache
from typing import Any


def text(data: Any) -> str:
    """Return the canonical text of a JSON value."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


@cache
def data(source: str) -> Any:
    """Return the JSON value of a text. Every reader of the same text gets the same object: do not change it."""
    return json.loads(source)
