"""Which of the user's words a turn takes in, so that a long message ends no agent. Pure."""

import json

from agent.conversation import shortened

HEADROOM = 40 * 1024
"""Bytes of the payload that words leave free: the agent has to go on after them."""
JOURNALED = 128 * 1024
"""Bytes of words in one entry of the journal, escaped twice: CheckpointDecision writes JSON text into JSON."""
AROUND = 500
"""Bytes that stand around each text: its block, its input's record, the tool result that it may be."""


def fitting(words: list[str], room: int) -> list[str]:
    """Choose the user's words for the next request, the oldest first; the others wait for the round after it.

    At least one is taken, so that every round comes further: if the oldest does not fit, the model gets its beginning
    and is told so.

    Args:
        words: all that was said and not heard yet, at least one.
        room: bytes that are left in the payload. Words are in it twice: in the request, and for the journal.
    """
    chosen: list[str] = []
    written = journaled = 0
    for text in words:
        as_json = json.dumps(text, ensure_ascii=False)
        written += len(as_json.encode()) + AROUND
        journaled += len(json.dumps(as_json, ensure_ascii=False).encode())
        if 2 * written > room or written > room - HEADROOM or journaled > JOURNALED:
            break
        chosen.append(text)
    return chosen or [shortened(words[0])]
