"""What a recovery tells people and the model."""

from collections.abc import Iterable

from agent.conversation import Item, reason
from load_recovery.shapes import Texts

_DECISIONS = """RETRY       the turn goes on from its journal; what was uncertain did not happen, as you have made sure
REPLAN      the same, and the model makes a new plan
COMPENSATE  what stands is undone, and the user is asked for an alternative
ABORT       the agent ends FAILED; what stands stays as it is"""


TOO_LARGE = "States.DataLimitExceeded"
_AGAIN = "Make a new plan and go on."
_LESS = "Answer in fewer words, ask for less with each call, or make fewer calls at once."
_WHY_LENGTH = 2_000
_MESSAGE_LENGTH = 30_000
"""Characters: four bytes each at most, in a payload of 256 KiB."""


def texts(state: Item, ledger: Iterable[Item], undone: Iterable[Item], kept: Iterable[Item]) -> Texts:
    """Made from STATE and the ledger: all of it, what is undone once nothing is left to undo, and what is not."""
    agent_id, error = state["agentId"], state["error"]
    why = _sentence(reason(state["errorMessage"])[:_WHY_LENGTH])
    done = "\n".join(f"  {item['status']:<12} {item['tool']} {item['input']}" for item in ledger) or "  nothing"
    was_undone = f"What was done is undone: {_names(undone)}."
    stands = f" What cannot be undone stands: {names}." if (names := _names(kept)) else ""
    instead = " What shall I do instead?"
    operator = (
        f"Agent {agent_id} needs a decision.\n\n"
        f"Goal: {state['goal']}\n"
        f"What happened: {error}: {why}\n"
        f"What was done:\n{done}\n\n"
        f"Decide with\n  turnstile decide {agent_id} RETRY|REPLAN|COMPENSATE|ABORT [--note TEXT]\n\n{_DECISIONS}\n"
    )
    return Texts(
        replan=f"The last attempt failed: {error}: {why} {_LESS if error == TOO_LARGE else _AGAIN}",
        compensated=f"You could not go on: {error}: {why} {was_undone}{stands} "
        "The user is asked for an alternative; start again from what the user says.",
        # A child is not told otherwise: its parent decides what is done instead.
        question=f"I could not reach the goal: {why} {was_undone}{stands}{'' if state['parent'] else instead}",
        subject=f"Turnstile: agent {agent_id} needs a decision"[:100],
        operator=operator if len(operator) <= _MESSAGE_LENGTH else f"{operator[:_MESSAGE_LENGTH]} …",
    )


def _names(effects: Iterable[Item]) -> str:
    return ", ".join(item["tool"] for item in effects)


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
