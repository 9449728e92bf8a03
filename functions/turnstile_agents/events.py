"""The events on the bus: the detail of each detail-type. The tests check the machines against their JSON schemas."""

from typing import Annotated

from pydantic import Field, StringConstraints

from turnstile_agents.border import CLEANED
from turnstile_agents.record import AGENT_ID, BY_LIMIT, Model, NextAction, Status, Verdict

SOURCE = "com.agent.workflow"
"""The Source of the events that the machines and the command line put on the bus."""
API_SOURCE = "com.agent.api"
"""The Source of the HTTP API's events. The bus takes it only from the API, so their `by` can be relied on."""

AgentId = Annotated[str, StringConstraints(pattern=AGENT_ID), Field(description="1 to 64 of A-Z a-z 0-9 _ -")]


Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
GivenId = Annotated[Id | None, Field(description="The same if an event is sent twice; the event's id otherwise")]
By = Annotated[
    str,
    Field(
        max_length=BY_LIMIT,
        description=f"The caller's name. Under any Source but {API_SOURCE} it is a claim, and is shown as one",
    ),
    CLEANED,
]


class AgentRequested(Model):
    """Starts an agent."""

    prompt: Annotated[str, Field(min_length=1, description="What the user wants, in the user's words"), CLEANED]
    goal: Annotated[str | None, Field(description="The goal, if it is not the prompt; at most 4 KB"), CLEANED] = None
    agent: Annotated[AgentId | None, Field(description="A registered definition; the stack's default otherwise")] = None
    agent_id: Annotated[AgentId | None, Field(description="The new agent's id; the event's id otherwise")] = None
    request_id: GivenId = None
    by: By = ""


class Parent(Model):
    """The place that names a child in a decision of its parent."""

    agent_id: Annotated[AgentId, Field(description="The parent's id")]
    step: Annotated[
        str,
        StringConstraints(pattern=r"^STEP#[0-9]{6}$"),
        Field(description="The `record` of the decision", examples=["STEP#000002"]),
    ]
    place: Annotated[int, Field(ge=0, description="The place among the decision's children", examples=[0])]


class ChildRequested(Model):
    """Starts a child: what an AgentRequested with a `parent` carries. Everything else is read from the decision."""

    agent_id: Annotated[AgentId, Field(description="The child's id, which must be the one in the decision")]
    request_id: GivenId = None
    parent: Parent


class AgentStateUpdated(Model):
    """Reports a checkpoint; with a `nextAction` it starts a turn."""

    agent_id: AgentId
    step: Annotated[int, Field(ge=1, description="The newest entry of the journal")]
    status: Status
    next_action: NextAction | None = None
    parent: Annotated[str, Field(description="The agent that delegated to it; empty without a parent")] = ""
    children: Annotated[int, Field(ge=0, description="Number of agents that it delegated to")] = 0


class AgentInputReceived(Model):
    """A user's text for an agent that exists."""

    agent_id: AgentId
    text: Annotated[str, Field(min_length=1), CLEANED]
    input_id: GivenId = None
    by: By = ""


class AgentDecisionGiven(Model):
    """A decision about calls that wait for approval."""

    agent_id: AgentId
    approval_id: Annotated[str, Field(min_length=1, description="The approval that the agent waits for")]
    decision: Verdict
    note: Annotated[str, Field(max_length=4000, description="Why; the model reads it"), CLEANED] = ""
    input_id: GivenId = None
    by: By = ""


class AgentCancelRequested(Model):
    """Stops an agent, and its children: a running turn stops at its next checkpoint."""

    agent_id: AgentId
    note: Annotated[str, Field(max_length=4000, description="Why; kept in the record"), CLEANED] = ""
    input_id: GivenId = None
    by: By = ""


class AgentError(Model):
    """A turn failed and recorded its failure."""

    agent_id: AgentId
    step: Annotated[int, Field(ge=1)]
    error: Annotated[str, Field(description="The error's name")]
    error_message: str
    current_state: Annotated[Status, Field(description="What the agent was doing when it failed")]
    execution_arn: str


EVENTS: dict[str, type[Model]] = {
    event.__name__: event
    for event in (
        AgentRequested,
        AgentStateUpdated,
        AgentInputReceived,
        AgentDecisionGiven,
        AgentCancelRequested,
        AgentError,
    )
}
"""The events by detail-type. An AgentRequested with a `parent` is a ChildRequested."""
