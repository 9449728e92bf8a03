"""What a state does to its data: the difference between its input and its output. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Sign(StrEnum):
    """The kind of a difference."""

    NEW = "+"
    CHANGED = "~"
    GONE = "-"


@dataclass(frozen=True)
class Difference:
    """A value that a state added, changed or left out."""

    sign: Sign
    path: str
    """The names that lead to the value, such as `agent.plan`; empty for the whole data."""
    value: Any
    """The value in the output; for a value that is gone, the value in the input."""


def differences(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    """Yield the differences between two values. Two objects are compared field by field; any other value is whole."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if before != after:
            yield Difference(Sign.CHANGED, path, after)
        return
    for name, value in after.items():
        inside = f"{path}.{name}" if path else name
        if name in before:
            yield from differences(before[name], value, inside)
        else:
            yield Difference(Sign.NEW, inside, value)
    for name, value in before.items():
        if name not in after:
            yield Difference(Sign.GONE, f"{path}.{name}" if path else name, value)


def size(value: Any) -> int:
    """Return the bytes of a value as JSON. Step Functions carries at most 262,144 from state to state."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
