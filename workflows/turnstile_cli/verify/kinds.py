"""The kinds of inconsistency, and what to do about each."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field

from turnstile_agents.record import Model


class Kind(StrEnum):
    """A kind of inconsistency."""

    RECORD_UNREADABLE = "RECORD_UNREADABLE"
    JOURNAL_GAP = "JOURNAL_GAP"
    COUNTER_WRONG = "COUNTER_WRONG"
    STATUS_WRONG = "STATUS_WRONG"
    END_LEFT = "END_LEFT"
    AGENT_LOST = "AGENT_LOST"
    LEASE_DEAD = "LEASE_DEAD"
    INPUT_MISSING = "INPUT_MISSING"
    INPUT_TWICE = "INPUT_TWICE"
    INPUT_UNHEARD = "INPUT_UNHEARD"
    CONVERSATION_BROKEN = "CONVERSATION_BROKEN"
    EFFECT_UNSETTLED = "EFFECT_UNSETTLED"
    EFFECT_UNDECIDED = "EFFECT_UNDECIDED"
    EFFECT_MISSING = "EFFECT_MISSING"
    EFFECT_CONTRADICTED = "EFFECT_CONTRADICTED"
    EFFECT_TWICE = "EFFECT_TWICE"
    EFFECT_UNAPPROVED = "EFFECT_UNAPPROVED"
    CHILD_UNDECIDED = "CHILD_UNDECIDED"
    CHILD_FOREIGN = "CHILD_FOREIGN"
    CHILD_MISSING = "CHILD_MISSING"
    CHILD_UNHEARD = "CHILD_UNHEARD"


_FOREIGN = "No machine writes that: find out what else has written to the table, and restore it from a backup"
_LOOK = "Check with `turnstile trace {agent}` what was done before you repeat anything"
_RESUME = "`turnstile resume {agent}` lets a recovery take it over"
ADVICE: Mapping[Kind, str] = {
    Kind.RECORD_UNREADABLE: _FOREIGN,
    Kind.JOURNAL_GAP: _FOREIGN,
    Kind.COUNTER_WRONG: _FOREIGN,
    Kind.STATUS_WRONG: _FOREIGN,
    Kind.END_LEFT: "An end is final, so this is a defect of a machine: report it with `turnstile trace {agent}`; "
    + "check what was done after the end before you repeat anything",
    Kind.AGENT_LOST: _RESUME,
    Kind.LEASE_DEAD: _RESUME,
    Kind.INPUT_MISSING: _FOREIGN,
    Kind.INPUT_TWICE: _FOREIGN,
    Kind.INPUT_UNHEARD: "Send another input with `turnstile input {agent}`: the agent then hears both",
    Kind.CONVERSATION_BROKEN: _FOREIGN,
    Kind.EFFECT_UNSETTLED: "Find out from the tool's own records whether it happened. If the agent is finished, tell "
    "the ledger with `turnstile settle {agent} KEY --happened|--not`; otherwise " + _RESUME,
    Kind.EFFECT_UNDECIDED: _LOOK,
    Kind.EFFECT_MISSING: _LOOK,
    Kind.EFFECT_CONTRADICTED: _LOOK,
    Kind.EFFECT_TWICE: _LOOK + ", and undo one of them",
    Kind.EFFECT_UNAPPROVED: _FOREIGN,
    Kind.CHILD_UNDECIDED: _FOREIGN,
    Kind.CHILD_FOREIGN: _FOREIGN,
    Kind.CHILD_MISSING: "agent_watch lets its parent start it again; look at the executions of AgentStart if not",
    Kind.CHILD_UNHEARD: "agent_watch announces it again; look at the executions of AgentInput if not",
}
"""What to do about each kind."""


class Finding(Model):
    """One inconsistency."""

    agent_id: Annotated[str, Field(description="The agent's id; empty if it belongs to no agent")]
    kind: Annotated[str, Field(description="One of `Kind`, or a kind of the sample's own")]
    record: Annotated[str, Field(description="The item's `record`, or the key of an item of the sample's")]
    text: Annotated[str, Field(description="What is inconsistent, and what to do")]

    @classmethod
    def of(cls, agent_id: str, kind: Kind, record: str, what: str) -> Self:
        """Make a finding: `what` is inconsistent, and the advice for its kind."""
        text = f"{what}. {ADVICE[kind].format(agent=agent_id or 'AGENT')}."
        return cls(agent_id=agent_id, kind=kind, record=record, text=text)


class VerifyReport(Model):
    """The result of `verify`."""

    agents: Annotated[int, Field(description="How many agents were checked")]
    findings: list[Finding]


Found = tuple[Kind, str, str]
"""A finding of the checked agent: its kind, its record, and what is inconsistent."""
