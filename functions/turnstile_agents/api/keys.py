"""Makes ids from an `Idempotency-Key`, so that a repeated request is known by the items of the first one.

No store is needed: the record keeps the items of the first request under an id that is the key's hash.

- POST /agents: the agent's id, unless the request gives one, is made from the key, so a repetition addresses the same
  agent. The event's `requestId`, which STATE keeps as `createdBy`, is made from the key and the body, so the same key
  with another body is noticed.
- Other requests, to an agent that exists: the event's `inputId`, which names the INPUT item, is made from the key. The
  item keeps the detail of the event.

Without a key each id is random and made once, so that a repetition inside the AWS SDK does no harm either.
"""

import hashlib
import uuid

from turnstile_agents.api.shapes import StartAgent


def agent_id_for(key: str | None) -> str:
    """Return the id of an agent that was requested without an id."""
    return f"key-{_hash(key)}" if key else str(uuid.uuid4())


def request_id(key: str | None, request: StartAgent) -> str:
    """Return the request's id, which becomes the agent's `createdBy`."""
    # Hash the request as it was read: blanks and the order of fields make no difference.
    return f"{request_prefix(key)}{_hash(request.model_dump_json())}" if key else str(uuid.uuid4())


def request_prefix(key: str) -> str:
    """Return the beginning of every `request_id` of this key."""
    return f"key:{_hash(key)}:"


def input_id(key: str | None) -> str:
    """Return the id that names the INPUT item of the agent."""
    return f"key:{_hash(key)}" if key else str(uuid.uuid4())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
