"""A Lambda that does what its event says."""

import os
from typing import Any

CALLS = 0


class NotToday(Exception):
    """What it is told to raise."""


def handler(event: dict[str, Any], _: Any) -> dict[str, Any]:
    """Counts the calls of this process; raises or dies on demand."""
    global CALLS
    CALLS += 1
    if event["action"] == "raise":
        raise NotToday(event["message"])
    if event["action"] == "die":
        os._exit(3)
    return {"calls": CALLS, "process": os.getpid(), "environment": dict(os.environ)} | event
