"""The shapes of requests and answers, in camelCase."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from turnstile_agents.border import CLEANED
from turnstile_agents.events import AgentId
from turnstile_agents.journal import Entry
from turnstile_agents.operator import EFFECTS_LIMIT, NOTE_LIMIT, EffectAnswer
from turnstile_agents.record import GOAL_LIMIT, EffectStatus, Model, Status, Verdict

BODY_LIMIT = 64 * 1024
"""Bytes of a body. It becomes an event, of 256 KiB at most, and agent_start carries a prompt up to three times."""
LIMIT = 20
"""Entries of a page, unless the request says otherwise."""
LONGEST = 100
"""Most entries of a page."""

Words = Annotated[str, StringConstraints(min_length=1, pattern=r"\S"), CLEANED]
Note = Annotated[str, Field(max_length=NOTE_LIMIT, description="Why; kept in the record"), CLEANED]


class _Request(Model):
    """A request from outside, in camelCase only."""

    model_config = ConfigDict(populate_by_name=False, validate_by_name=False)


class StartAgent(_Request):
    """Requests an agent."""

    prompt: Annotated[Words, Field(description="What the user wants, in the user's words")]
    goal: Annotated[
        str | None,
        Field(max_length=GOAL_LIMIT, description=f"A short goal, {GOAL_LIMIT} bytes at most; the prompt otherwise"),
        CLEANED,
    ] = None
    agent: Annotated[AgentId | None, Field(description="A registered definition; the stack's default otherwise")] = None
    agent_id: Annotated[AgentId | None, Field(description="The new agent's id; one is made otherwise")] = None


class GiveInput(_Request):
    """Sends a user's text to an agent."""

    text: Words


class ApprovalDecision(_Request):
    """Decides about calls that wait for approval."""

    approval_id: Annotated[str, Field(min_length=1, max_length=64, description="The approval that the agent waits for")]
    decision: Literal[Verdict.APPROVE, Verdict.REFUSE]
    note: Note = ""


class OperatorDecisionBody(_Request):
    """Answers the question of a recovery to its operator."""

    question_id: Annotated[
        str, Field(min_length=1, max_length=64, description="The question's id, as the agent shows it")
    ]
    decision: Literal["RETRY", "REPLAN", "COMPENSATE", "ABORT"]
    effects: Annotated[
        list[EffectAnswer],
        Field(max_length=EFFECTS_LIMIT, description="Each uncertain effect, and whether it happened; not for ABORT"),
    ] = []
    note: Note = ""


class Accepted(Model):
    """The request is on its way. The agent's record shows its result later."""

    agent_id: AgentId
    status: Annotated[Status, Field(description="The agent's status now")]


class EffectView(Model):
    """An effect of the agent that stands, or that may stand."""

    tool: str
    status: Annotated[
        EffectStatus, Field(description="COMMITTED: it stands. Any other: it is not known yet whether it stands")
    ]
    input: Annotated[str, Field(description="The call's arguments as JSON, shortened")]
    result: Annotated[str, Field(description="The call's result as JSON, shortened")]


class Cancelling(Accepted):
    """The agent is being stopped. It undoes nothing."""

    standing: Annotated[list[EffectView], Field(description="Its effects so far")]


class AgentSummary(Model):
    """An agent in a list."""

    agent_id: str
    status: Status
    agent: Annotated[str, Field(description="The definition's name")]
    goal: str
    step: Annotated[int, Field(description="The newest entry of its journal")]
    created_at: str
    last_updated: str
    error: Annotated[str, Field(description="The name of the error that stopped it; empty otherwise")]


class AgentPage(Model):
    """Some agents, and how to get the next ones."""

    agents: list[AgentSummary]
    next_token: Annotated[str | None, Field(description="For the next page; null if this is the last")]


class JournalPage(Model):
    """Some entries of a journal, in order, and how to get the next ones."""

    entries: list[Entry]
    next_after: Annotated[int | None, Field(description="`after` for the next page; null if there is no next page yet")]


class Problem(Model):
    """Why a request was refused."""

    error: Annotated[str, Field(description="A name, for programs")]
    message: Annotated[str, Field(description="What was wrong, where, and what to do")]


class GatewayProblem(Model):
    """The answer of API Gateway itself, before the request reaches the function."""

    message: str
