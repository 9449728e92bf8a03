"""Reports to a parent how its child ended, from the child's record. Pure."""

from collections.abc import Iterable

from turnstile_agents.border import cut, read_json
from turnstile_agents.conversation import Item, reason
from turnstile_agents.record import Answer, Decision, EffectStatus, Status, undoes

LONGEST = 16 * 1024
"""Bytes of one report."""
TOGETHER = 48 * 1024
"""Bytes of all the reports of one reply: a payload of 256 KiB holds them twice, in the request and beside it."""
_STANDING = {EffectStatus.COMMITTED, EffectStatus.COMPENSATING}
_UNKNOWN = {EffectStatus.RESERVED, EffectStatus.UNCERTAIN}


def report(tool_use_id: str, items: Iterable[Item], limit: int = LONGEST) -> Answer:
    """Answer the `delegate` that started the child: with its result, or why it has none and which effects stand."""
    found = list(items)
    state = next((item for item in found if item["record"] == "STATE"), None)
    if state is None:
        return Answer(tool_use_id=tool_use_id, text="Nothing is known of this agent any more.", error=True)
    failed = state["status"] != Status.COMPLETED
    text = _failure(state, found) if failed else _result(found)
    return Answer(tool_use_id=tool_use_id, text=cut(text, limit), error=failed)


def late_report(items: Iterable[Item], limit: int = LONGEST) -> str:
    """Report the same of a child that its parent no longer waits for."""
    found = list(items)
    state = next((item for item in found if item["record"] == "STATE"), None)
    about = f"{state['agent']} with the goal: {state['goal']}" if state else "another agent"
    return f"News of what you had delegated to {about}\n{report('', found, limit).text}"


def _result(items: list[Item]) -> str:
    decisions = [item["decision"] for item in items if item["record"].startswith("STEP#") and item["who"] == "MODEL"]
    return Decision.model_validate(read_json(decisions[-1])).message


def _failure(state: Item, items: list[Item]) -> str:
    why = f" {state['error']}: {reason(state['errorMessage'])}" if state["error"] else ""
    effects = [item for item in items if item["record"].startswith("EFFECT#") and not undoes(item["record"])]
    # A recovery's question for the user becomes a part of the report.
    asked = [item["question"] for item in items if item["record"].startswith("STEP#") and item.get("question")]
    lines = [
        f"The agent ended {state['status']}.{why}",
        *asked[-1:],
        _effects("What it did, and what stands", effects, _STANDING),
        _effects("What may or may not have happened", effects, _UNKNOWN),
        "It had delegated to other agents; what those did stands." if state["children"] != "[]" else "",
    ]
    return "\n".join(line for line in lines if line)


def _effects(title: str, effects: list[Item], statuses: set[EffectStatus]) -> str:
    found = [f"\n  {item['tool']} {item['input']} {item['result']}" for item in effects if item["status"] in statuses]
    return f"{title}:{''.join(found)}" if found else ""
