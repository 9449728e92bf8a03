"""What the machine `agent_turn` carries from state to state: the shapes at the ends of LoadTurn and ReadReply."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.definition import Limits, Prices, Tool
from agent.record import Decision, Model, PlanStep


class Claim(Model):
    """What LoadTurn is asked with."""

    agent_id: str
    owner: Annotated[str, Field(description="Who holds the lease: this execution")]
    claimed_step: Annotated[int, Field(description="The journal's newest entry when the turn began")]


class Used(Model):
    """What has been used up, beside `limits` of the same names. Compared by RouteAction."""

    steps: Annotated[int, Field(description="Decisions of the model so far")]
    tokens: int
    cost_micro_usd: int
    replans: int
    wrong_replies: Annotated[int, Field(description="In a row, up to now")]
    repeats: Annotated[int, Field(description="Times in a row that the same calls were asked for")]


class Agent(Claim):
    """The agent as the turn carries it. Small and bounded."""

    step: Annotated[int, Field(description="The newest entry of the journal")]
    inbox: Annotated[int, Field(description="Inputs that this turn has seen")]
    rounds: Annotated[int, Field(description="Decisions in this execution")]
    plan: list[PlanStep]
    used: Used
    limits: Limits
    prices: Prices
    fingerprint: Annotated[str, Field(description="Of the newest calls; empty if there were none")]


class Pending(Model):
    """The user's words that the next decision's entry takes into the journal."""

    messages: Annotated[list[dict[str, Any]], Field(description="Converse messages: none, or one of the user")] = []
    inputs: Annotated[list[str], Field(description="The `record` of each input in them")] = []


class Turn(Model):
    """What LoadTurn answers."""

    agent: Agent
    entry: Literal["ASK_MODEL", "CARRY_OUT", "CLOSE"]
    request: Annotated[dict[str, Any], Field(description="Converse's request; empty unless ASK_MODEL")] = {}
    tools: Annotated[list[Tool], Field(description="For ReadReply; empty unless ASK_MODEL")] = []
    pending: Pending = Pending()
    decision: Annotated[Decision | None, Field(description="The one to go on with; null if ASK_MODEL")] = None


class Asked(BaseModel):
    """What ReadReply is asked with. `reply` is Converse's answer as it came; it may be anything."""

    model_config = ConfigDict(extra="forbid")
    agent: Agent
    tools: list[Tool]
    pending: Pending
    reply: Any


class Usage(Model):
    """What one reply cost."""

    input_tokens: Annotated[int, Field(ge=0)] = 0
    output_tokens: Annotated[int, Field(ge=0)] = 0
    cost_micro_usd: Annotated[int, Field(ge=0)] = 0


class Step(Model):
    """The journal entry of a decision, for CheckpointDecision."""

    record: Annotated[str, Field(description="As STEP#000007")]
    previous_step: Annotated[int, Field(description="Where the journal must end for this entry to be written")]
    messages: Annotated[list[dict[str, Any]], Field(description="What it adds to the conversation")]
    inputs: list[str]
    usage: Usage
    plan: list[PlanStep]
    replans: Annotated[int, Field(ge=0, le=1, description="1 if this decision replaced the plan")]


class Reading(Model):
    """What ReadReply answers. `agent` is already where it will be once the decision is checkpointed."""

    agent: Agent
    decision: Decision
    step: Step
