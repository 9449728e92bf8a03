"""The inputs of an agent that no entry of the journal has taken in yet."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from turnstile_agents.events import (
    EVENTS,
    AgentCancelRequested,
    AgentDecisionGiven,
    AgentInputReceived,
    AgentStateUpdated,
)
from turnstile_agents.items import InputItem
from turnstile_agents.record import Model, Verdict

NOTE_LENGTH = 4000
"""Characters of a note that are read: as many as an event may have."""


@dataclass(frozen=True)
class Inbox:
    """Inputs, in the order of their events."""

    inputs: list[tuple[str, Model | None]]
    """The `record` of each input and its event; None for a malformed event."""

    @property
    def records(self) -> list[str]:
        """The `record` of each input."""
        return [record for record, _ in self.inputs]

    @property
    def events(self) -> list[Model]:
        """The events that are not malformed."""
        return [event for _, event in self.inputs if event]

    def before_words(self, number: int) -> "Inbox":
        """Return the inbox with only the first `number` texts of the user; inputs of other kinds stay."""
        kept, words = [], 0
        for record, event in self.inputs:
            said = isinstance(event, AgentInputReceived)
            if not said or words < number:
                kept.append((record, event))
            words += said
        return Inbox(kept)

    @property
    def words(self) -> list[str]:
        """The user's texts."""
        return [event.text for event in self.events if isinstance(event, AgentInputReceived)]

    @property
    def cancel_note(self) -> str:
        """The first note of a request to cancel; empty if there is no note."""
        notes = (event.note for event in self.events if isinstance(event, AgentCancelRequested))
        return next((note for note in notes if note), "")

    @property
    def finished(self) -> list[str]:
        """The ids of the children that have reported their end."""
        return [event.agent_id for event in self.events if isinstance(event, AgentStateUpdated)]

    def ruling(self, approval_id: str) -> AgentDecisionGiven | None:
        """Return the first decision about this approval; None if there is no decision yet."""
        given = (event for event in self.events if isinstance(event, AgentDecisionGiven))
        return next((event for event in given if event.approval_id == approval_id), None)


def read_inbox(inputs: Iterable[InputItem], folded: set[str]) -> Inbox:
    """Return the inputs that no entry has taken in, in the order of their events."""
    found = sorted((item for item in inputs if item.record not in folded), key=lambda item: item.order)
    return Inbox([(item.record, _event(item)) for item in found])


def _event(item: InputItem) -> Model | None:
    """Return None for malformed input: every principal that may put events can send it, and it must not stop agents."""
    event = EVENTS[item.type]
    # A turn does not use these fields, and they may be longer than allowed.
    unread = {"inputId", "by"}
    known = {field.alias for field in event.model_fields.values()} - unread
    detail: dict[str, Any] = {name: value for name, value in item.fields.items() if name in known}
    if "note" in detail:
        detail["note"] = str(detail["note"])[:NOTE_LENGTH]
    try:
        return event.model_validate(detail)
    except ValidationError:
        return None


def told(ruling: AgentDecisionGiven) -> str:
    """Return the text for the model about a decision whose calls are closed; empty if there is nothing to tell."""
    match ruling.decision:
        case Verdict.APPROVE:
            return f"The approver of the calls says: {ruling.note}" if ruling.note else ""
        case Verdict.REFUSE:
            return f"The calls that waited for approval were refused. {ruling.note}".rstrip()
        case Verdict.EXPIRE:
            return ""


def refusal(ruling: AgentDecisionGiven, approval: bool) -> str:
    """Return the result of a call that was not approved. `approval`: whether the call itself needed the approval."""
    if not approval:
        return "Not carried out: another call of the same reply was not approved. Call it again if it makes sense."
    if ruling.decision is Verdict.EXPIRE:
        return "Not carried out: it needed an approval, and was not decided in time."
    return f"Not carried out: it needed an approval, and was refused. {ruling.note}".rstrip()
