"""What has come from outside and is in no entry of the journal yet."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from agent.border import read_object
from agent.conversation import Item
from agent.events import EVENTS, AgentCancelRequested, AgentDecisionGiven, AgentInputReceived, AgentStateUpdated
from agent.record import Model, Verdict

NOTE_LENGTH = 4000
"""Characters of a note that are read: as many as an event may have."""


@dataclass(frozen=True)
class Inbox:
    """Inputs, in the order of their events."""

    inputs: list[tuple[str, Model | None]]
    """The `record` of each and its event; None for an event that makes no sense."""

    @property
    def records(self) -> list[str]:
        """The `record` of each input."""
        return [record for record, _ in self.inputs]

    @property
    def events(self) -> list[Model]:
        """What makes sense."""
        return [event for _, event in self.inputs if event]

    def before_words(self, number: int) -> "Inbox":
        """Leave out what the user says from the place `number` on; what came by itself stays."""
        kept, words = [], 0
        for record, event in self.inputs:
            said = isinstance(event, AgentInputReceived)
            if not said or words < number:
                kept.append((record, event))
            words += said
        return Inbox(kept)

    @property
    def words(self) -> list[str]:
        """What the user says."""
        return [event.text for event in self.events if isinstance(event, AgentInputReceived)]

    @property
    def cancel_note(self) -> str:
        """Why the agent is to be cancelled, if anybody said so."""
        notes = (event.note for event in self.events if isinstance(event, AgentCancelRequested))
        return next((note for note in notes if note), "")

    @property
    def finished(self) -> list[str]:
        """The ids of the agents delegated to that have reported."""
        return [event.agent_id for event in self.events if isinstance(event, AgentStateUpdated)]

    def ruling(self, approval_id: str) -> AgentDecisionGiven | None:
        """What was decided first about this; None if nothing was."""
        given = (event for event in self.events if isinstance(event, AgentDecisionGiven))
        return next((event for event in given if event.approval_id == approval_id), None)


def read_inbox(inputs: Iterable[Item], folded: set[str]) -> Inbox:
    """The INPUT items that no entry has taken in."""
    found = sorted(
        (item for item in inputs if item["record"] not in folded),
        key=lambda item: (item["time"], item["receivedAt"], item["record"]),
    )
    return Inbox([(item["record"], _event(item)) for item in found])


def _event(item: Item) -> Model | None:
    """None if it makes no sense: who may write to the bus may write anything, and must not stop an agent with it."""
    event = EVENTS[item["type"]]
    # Of no use to a turn, and may be longer than it should.
    unread = {"inputId", "by"}
    known = {field.alias for field in event.model_fields.values()} - unread
    detail: dict[str, Any] = {name: value for name, value in read_object(item["detail"]).items() if name in known}
    if "note" in detail:
        detail["note"] = str(detail["note"])[:NOTE_LENGTH]
    try:
        return event.model_validate(detail)
    except ValidationError:
        return None


def told(ruling: AgentDecisionGiven) -> str:
    """What the model hears of a decision whose calls are done with; empty if there is nothing to say."""
    match ruling.decision:
        case Verdict.APPROVE:
            return f"Whoever approved the calls says: {ruling.note}" if ruling.note else ""
        case Verdict.REFUSE:
            return f"The calls that waited for approval were refused. {ruling.note}".rstrip()
        case Verdict.EXPIRE:
            return ""


def refusal(ruling: AgentDecisionGiven, approval: bool) -> str:
    """What comes back from a call that was not approved; `approval`: whether it is one that needed it."""
    if not approval:
        return "Not carried out: another call of the same reply was not approved. Call it again if it makes sense."
    if ruling.decision is Verdict.EXPIRE:
        return "Not carried out: nobody decided about it in time."
    return f"Not carried out: it needed an approval, and was refused. {ruling.note}".rstrip()
