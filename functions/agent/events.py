"""The events on the bus: what each detail-type carries. Their JSON schemas hold the machines to it in the tests."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from agent.record import AGENT_ID, Model, NextAction, Status

SOURCE = "com.agent.workflow"

AgentId = Annotated[str, StringConstraints(pattern=AGENT_ID), Field(description="1 to 64 of A-Z a-z 0-9 _ -")]


class AgentRequested(Model):
    """Starts an agent."""

    prompt: Annotated[str, Field(min_length=1, description="What the user wants, in the user's words")]
    goal: Annotated[str | None, Field(description="The goal, if it is not the prompt; at most 4 KB")] = None
    agent: Annotated[AgentId | None, Field(description="A registered definition; the stack's default otherwise")] = None
    agent_id: Annotated[AgentId | None, Field(description="The new agent's id; the event's id otherwise")] = None


class AgentStateUpdated(Model):
    """Tells of a checkpoint; with a `nextAction` it starts a turn."""

    agent_id: AgentId
    step: Annotated[int, Field(ge=1, description="The newest entry of the journal")]
    status: Status
    next_action: NextAction | None = None


class AgentInputReceived(Model):
    """What a user says to an agent that exists."""

    agent_id: AgentId
    text: Annotated[str, Field(min_length=1)]


class AgentError(Model):
    """A turn failed and said so."""

    agent_id: AgentId
    step: Annotated[int, Field(ge=1)]
    error: Annotated[str, Field(description="The error's name")]
    error_message: str
    current_state: Annotated[Status, Field(description="What the agent was doing when it failed")]
    execution_arn: str


EVENTS: dict[Literal["AgentRequested", "AgentStateUpdated", "AgentInputReceived", "AgentError"], type[Model]] = {
    "AgentRequested": AgentRequested,
    "AgentStateUpdated": AgentStateUpdated,
    "AgentInputReceived": AgentInputReceived,
    "AgentError": AgentError,
}
