"""A Lambda that does what its event says."""

import os
import time
from typing import Any

CALLS = 0


class NotToday(Exception):
    """What it is told to raise."""


def handler(event: dict[str, Any], _: Any) -> dict[str, Any]:
    """Tells how often this process was called; raises, dies or takes its time on demand."""
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
