"""Chooses the user's texts that a turn takes in, so that a long message does not end the agent. Pure."""

import json

from turnstile_agents.conversation import shortened

HEADROOM = 40 * 1024
"""Bytes of the payload that the texts leave free: the agent needs them to go on afterwards."""
JOURNALED = 128 * 1024
"""Bytes of texts in one entry of the journal, escaped twice: CheckpointDecision writes JSON text into JSON."""
AROUND = 500
"""Bytes around each text: its block, the record of its input, and the tool result that may hold it."""


def fitting(words: list[str], room: int) -> list[str]:
    """Choose the user's texts for the next request, the oldest first; the others wait for the round after it.

    At least one is taken, so that every round makes progress: if the oldest does not fit, the model gets its beginning
    and is told so.

    Args:
        words: the texts that the model has not read yet, at least one.
        room: bytes that are left in the payload. A text is in it twice: in the request, and for the journal.
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
