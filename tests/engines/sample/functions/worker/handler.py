"""A Lambda that follows the action in its event."""

import os
import time
from typing import Any

CALLS = 0


class NotToday(Exception):
    """The exception that the action `raise` raises."""


def handler(event: dict[str, Any], _: Any) -> dict[str, Any]:
    """Return the number of calls of this process; raise, end the process, print or sleep if the action says so."""
    global CALLS
    CALLS += 1
    match event["action"]:
        case "raise":
            raise NotToday(event["note"])
        case "die":
            os._exit(3)
        case "say":
            print(event["note"])
        case "take time":
            time.sleep(0.3)
    return {"calls": CALLS, "process": os.getpid(), "profile": os.environ.get("AWS_PROFILE"), "note": event["note"]}
