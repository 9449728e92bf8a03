"""An `Idempotency-Key` as the ids that follow from it, so that a repeated request is known by what it has left behind.

No store is needed: the key's hash is the id under which the record keeps what the first request did.

- POST /agents: the agent's id, unless one was given, is the key's, so a repetition addresses the same agent. The
  event's `requestId`, which STATE keeps as `createdBy`, is the key's and the body's, so that the same key with another
  body is told apart.
- Whatever is said to an agent that exists: the event's `inputId`, which names the INPUT item, is the key's. The item
  keeps what was sent.

Without a key each id is made up once, so that a repetition inside the AWS SDK is harmless too.
"""

import hashlib
import uuid

from api.shapes import StartAgent


def agent_id_for(key: str | None) -> str:
    """The id of an agent that was asked for without one."""
    return f"key-{_hash(key)}" if key else str(uuid.uuid4())


def request_id(key: str | None, request: StartAgent) -> str:
    """What the agent's `createdBy` will be."""
    # As it was understood: blanks and the order of fields make no other request.
    return f"{request_prefix(key)}{_hash(request.model_dump_json())}" if key else str(uuid.uuid4())


def request_prefix(key: str) -> str:
    """What every `request_id` of this key begins with."""
    return f"key:{_hash(key)}:"


def input_id(key: str | None) -> str:
    """What names the INPUT item, beside the agent."""
    return f"key:{_hash(key)}" if key else str(uuid.uuid4())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
