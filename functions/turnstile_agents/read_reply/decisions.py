"""Makes decisions, and the answers in them."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from turnstile_agents.read_reply.reply import ToolUse
from turnstile_agents.record import Action, Answer, Decision, Status, step_record
from turnstile_agents.turn import TurnAgent


def decide(agent: TurnAgent, action: Action, **fields: Any) -> Decision:
    """Make the decision that becomes the next entry of an agent's journal."""
    common = {"status": Status.PLANNING_COMPLETE, "closes_as": Status.PLANNING}
    return Decision(action=action, results_record=step_record(agent.step + 2), **{**common, **fields})


def invalid(agent: TurnAgent, message: str, answers: list[Answer]) -> Decision:
    """Make the decision for a reply that could not be used."""
    return decide(agent, "INVALID", status=Status.PLANNING, message=message, answers=answers)


def noted(use: ToolUse) -> Answer:
    """Acknowledge a tool use that needs no answer."""
    return Answer(tool_use_id=use.id, text="Noted.")


def wrong(use: ToolUse, text: str) -> Answer:
    """Answer a tool use that cannot be carried out."""
    return Answer(tool_use_id=use.id, text=text, error=True)


def wrong_arguments(use: ToolUse, error: ValidationError) -> str:
    """Tell the model which errors pydantic found in its arguments."""
    found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors())
    return f"Wrong arguments for {use.name}: {found}."


def fingerprint(parts: Iterable[list[Any]]) -> str:
    """Return 16 hex digits, the same for the same parts in any order."""
    same = sorted(json.dumps(part, sort_keys=True) for part in parts)
    return hashlib.sha256("\n".join(same).encode()).hexdigest()[:16]
