"""The data that a deployed stack gives about itself and its agents, and the events that were sent to it."""

import datetime as dt
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_pascal

from turnstile_agents.items import AgentState, ListedState
from turnstile_agents.journal import Entry
from turnstile_agents.record import Model, Status
from turnstile_agents.view import AgentView


class Outputs(BaseModel):
    """The outputs that the stack's template has."""

    model_config = ConfigDict(alias_generator=to_pascal, frozen=True)

    table_name: str
    bus_name: str
    agent_start_arn: str
    agent_turn_arn: str
    agent_turn_role_arn: str
    agent_input_arn: str
    agent_publish_arn: str
    outbox_dead_letters_url: str
    agent_recovery_arn: str
    agent_recovery_role_arn: str
    agent_watch_arn: str
    agent_redeliver_arn: str
    agent_notify_arn: str
    operator_topic_arn: str
    agent_topic_arn: str
    agent_changes_url: str
    api_id: str
    api_url: str
    model_id: str


@dataclass(frozen=True)
class Sent:
    """An event that the bus accepted, and the machine that takes it in."""

    event_id: str
    agent_id: str
    machine: str
    at: dt.datetime
    what: str
    """The event's name in the message of a refusal."""
    known_as: str = ""
    """The id that its sender gave it; empty: the event's id."""

    @property
    def key(self) -> str:
        """The event's id in the agent's record."""
        return self.known_as or self.event_id


@dataclass(frozen=True)
class Change:
    """A change of an agent: the STATE that was read, and the new journal entries."""

    state: AgentState
    entries: list[Entry]

    @property
    def status(self) -> Status:
        """The agent's status."""
        return self.state.status


class ListedAgent(Model):
    """An agent in a list."""

    agent_id: str
    status: Status
    last_updated: str
    agent: str
    goal: str
    error: Annotated[str, Field(description="The error's name; empty if none stopped it")]


class WatchedAgent(ListedAgent):
    """An agent in the list of all watched agents."""

    step: int
    waits_for: Annotated[str, Field(description="The event that it waits for, or the error of its end; often empty")]


def summary_of(listed: ListedState) -> ListedAgent:
    """Build an agent's summary from STATE, or from the index's item."""
    return ListedAgent.model_validate(listed.model_dump(include=set(ListedAgent.model_fields)))


def waits_for(view: AgentView) -> str:
    """Write in a few words what an agent waits for, or the error with which it failed."""
    match view:
        case AgentView(approval=approval) if approval:
            calls = ", ".join(call.tool_name for call in approval.calls if call.approval)
            return f"approval {approval.approval_id}: {calls}"
        case AgentView(status=Status.WAITING_FOR_AGENT, children=children) if children:
            return ", ".join(children)
        case AgentView(question=str(question)):
            return question
        case AgentView(error=error) if error:
            return f"{error.name}: {error.message}"
    return ""
