"""JSON as text: everything in a world is text, so that worlds are compared, hashed and remembered cheaply."""

import json
from functools import cache
from typing import Any


def text(data: Any) -> str:
    """Return the one text of some JSON."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


@cache
def data(source: str) -> Any:
    """Return the JSON of a text. Every reader of the same text gets the same object: do not change it."""
    return json.loads(source)
