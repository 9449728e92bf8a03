"""The texts of a recovery for people and for the model."""

from collections.abc import Iterable, Mapping, Sequence

from turnstile_agents.conversation import reason
from turnstile_agents.items import AgentState, Effect
from turnstile_agents.load_recovery.shapes import Texts
from turnstile_agents.operator import describe
from turnstile_agents.plain import visible
from turnstile_agents.record import EffectStatus

_DECISIONS = """RETRY       the turn goes on from its journal
REPLAN      the same, and the model makes a new plan
COMPENSATE  the effects that stand are undone, the newest first, and the user is asked for an alternative
ABORT       the agent ends FAILED; its effects stay as they are, and uncertain effects that you do not name stay so"""
_UNCERTAIN = """
It is not known whether this happened:
{effects}
Look each one up in the system that it would have changed. RETRY, REPLAN and COMPENSATE need the answer for each:
--not KEY if it did not happen, --happened KEY if it did, or --happened KEY=RESULT with the call's result as JSON, which
the model reads.
"""

TOO_LARGE = "States.DataLimitExceeded"
_AGAIN = "Make a new plan and go on."
_LESS = "Answer in fewer words, ask for less with each call, or make fewer calls at once."
_WHY_LENGTH = 2_000
_UNDO_WHY_LENGTH = 200
_REFUSAL_LENGTH = 5_000
_MESSAGE_LENGTH = 30_000
"""Characters: four bytes each at most, in a payload of 256 KiB."""


def texts(
    state: AgentState,
    ledger: Sequence[Effect],
    refusal: str,
    needed: Mapping[str, Sequence[str]],
    untold: Sequence[Effect],
    undone: Iterable[Effect],
    kept: Iterable[Effect],
) -> Texts:
    """Make the texts from STATE and the ledger.

    Args:
        state: the agent's STATE.
        ledger: all of its effects.
        refusal: why the operator's last answer is refused; empty if there was no answer, or if it is accepted.
        needed: by the key of an uncertain effect, the fields of its result that its compensation takes.
        untold: effects that are undone already, without a text that told the model so.
        undone: effects that are undone once nothing is left to undo.
        kept: effects that stand then.
    """
    error, shown_id = state.error, visible(state.agent_id)
    why = _sentence(reason(state.error_message)[:_WHY_LENGTH])
    lines = (f"  {effect.status:<12} {effect.tool} {effect.input}{_because(effect)}" for effect in ledger)
    done = "\n".join(map(visible, lines)) or "  nothing"
    was_undone = f"What was done is undone: {_names(undone)}."
    stands = f" What cannot be undone stands: {names}." if (names := _names(kept)) else ""
    instead = " What shall I do instead?"
    refused = (
        f"The last answer was refused, and nothing was done: {visible(refusal[:_REFUSAL_LENGTH])}.\n\n"
        if refusal
        else ""
    )
    unsettled = [effect for effect in ledger if effect.unsettled]
    answers = "".join(f" --not '{effect.record}'" for effect in unsettled)
    operator = (
        f"{refused}Agent {shown_id} needs a decision.\n\n"
        f"Goal: {visible(state.goal)}\n"
        f"What happened: {visible(f'{error}: {why}')}\n"
        f"{_uncertain(unsettled, needed)}\n"
        f"Decide with\n"
        f"  turnstile decide {shown_id} RETRY|REPLAN|COMPENSATE|ABORT{answers} [--note TEXT]\n\n"
        f"{_DECISIONS}\n\n"
        f"What was done:\n{done}\n"
    )
    gone = f"Undone since, so that it does not stand any more: {_names(untold)}." if untold else ""
    return Texts(
        retry=gone,
        replan=f"The last attempt failed: {error}: {why} {f'{gone} ' if gone else ''}"
        f"{_LESS if error == TOO_LARGE else _AGAIN}",
        compensated=f"You could not go on: {error}: {why} {was_undone}{stands} "
        "The user is asked for an alternative; start again from what the user says.",
        # A child does not ask for an alternative: its parent decides what is done instead.
        question=f"I could not reach the goal: {why} {was_undone}{stands}{'' if state.parent else instead}",
        subject=f"Turnstile: agent {shown_id} needs a decision"[:100],
        operator=operator if len(operator) <= _MESSAGE_LENGTH else f"{operator[:_MESSAGE_LENGTH]} …",
    )


def _because(effect: Effect) -> str:
    """Say why an undo did nothing, or why its end is not known; empty for any other entry."""
    open_or_failed = effect.status in (EffectStatus.FAILED, EffectStatus.UNCERTAIN)
    if not (open_or_failed and effect.undoes and effect.error):
        return ""
    return f": {effect.error}: {reason(effect.error_message)[:_UNDO_WHY_LENGTH]}"


def _uncertain(effects: Sequence[Effect], needed: Mapping[str, Sequence[str]]) -> str:
    if not effects:
        return ""
    lines = []
    for effect in effects:
        fields = ", ".join(needed[effect.record])
        needs = f"; to undo it, its result must hold {fields}" if fields else ""
        lines.append(visible(f"  {describe(effect)}{needs}"))
    return _UNCERTAIN.format(effects="\n".join(lines))


def _names(effects: Iterable[Effect]) -> str:
    return ", ".join(effect.tool for effect in effects)


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
