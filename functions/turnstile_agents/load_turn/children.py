"""Reports to a parent how its child ended, from the child's record. Pure."""

from collections.abc import Iterable

from turnstile_agents.border import cut
from turnstile_agents.conversation import reason
from turnstile_agents.items import AgentState, Effect, ModelStep, Record, RecoveryStep
from turnstile_agents.record import Answer, EffectStatus, Status

LONGEST = 16 * 1024
"""Bytes of one report."""
TOGETHER = 48 * 1024
"""Bytes of all the reports of one reply: a payload of 256 KiB holds them twice, in the request and beside it."""
_STANDING = {EffectStatus.COMMITTED, EffectStatus.COMPENSATING}
_UNKNOWN = {EffectStatus.RESERVED, EffectStatus.UNCERTAIN}


def report(tool_use_id: str, child: Record, limit: int = LONGEST) -> Answer:
    """Answer the `delegate` that started the child: with its result, or why it has none and which effects stand."""
    if child.state is None:
        return Answer(tool_use_id=tool_use_id, text="Nothing is known of this agent any more.", error=True)
    failed = child.state.status is not Status.COMPLETED
    text = _failure(child.state, child) if failed else _result(child)
    return Answer(tool_use_id=tool_use_id, text=cut(text, limit), error=failed)


def late_report(child: Record, limit: int = LONGEST) -> str:
    """Report the same of a child that its parent no longer waits for."""
    about = f"{child.state.agent} with the goal: {child.state.goal}" if child.state else "another agent"
    return f"News of what you had delegated to {about}\n{report('', child, limit).text}"


def _result(child: Record) -> str:
    return [step for step in child.steps if isinstance(step, ModelStep)][-1].read_decision().message


def _failure(state: AgentState, child: Record) -> str:
    why = f" {state.error}: {reason(state.error_message)}" if state.error else ""
    effects = [effect for effect in child.effects if not effect.undoes]
    # A recovery's question for the user becomes a part of the report.
    asked = [step.question for step in child.steps if isinstance(step, RecoveryStep) and step.question]
    lines = [
        f"The agent ended {state.status}.{why}",
        *asked[-1:],
        _effects("What it did, and what stands", effects, _STANDING),
        _effects("What may or may not have happened", effects, _UNKNOWN),
        "It had delegated to other agents; what those did stands." if state.children else "",
    ]
    return "\n".join(line for line in lines if line)


def _effects(title: str, effects: Iterable[Effect], statuses: set[EffectStatus]) -> str:
    found = [f"\n  {effect.tool} {effect.input} {effect.result}" for effect in effects if effect.status in statuses]
    return f"{title}:{''.join(found)}" if found else ""
