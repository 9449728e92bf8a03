"""The data that the machine `agent_turn` carries: the inputs and outputs of LoadTurn and ReadReply."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer
from pydantic.alias_generators import to_pascal

from turnstile_agents.definition import Limits, Prices, Tool, ToolName
from turnstile_agents.record import Decision, Model, PlanStep, Usage
from turnstile_agents.schema import offered_schema

Entry = Literal["ASK_MODEL", "ASK_MODEL_WITHOUT_TOOLS", "CARRY_OUT", "START_CHILDREN", "CLOSE"]
"""The next action of a turn: ask the model, carry out a pending decision, or close on a decision."""


class Claim(Model):
    """The input of LoadTurn."""

    agent_id: str
    owner: Annotated[str, Field(description="The owner of the lease: this execution")]
    claimed_step: Annotated[int, Field(description="The journal's newest entry when the turn began")]


class Used(Model):
    """The used amounts, with the names of their `limits`. RouteAction compares the two."""

    steps: Annotated[int, Field(description="Decisions of the model so far")]
    tokens: int
    cost_micro_usd: int
    replans: int
    wrong_replies: Annotated[int, Field(description="Wrong replies in a row, up to now")]
    repeats: Annotated[int, Field(description="Times in a row that the same calls were asked for")]


class TurnAgent(Claim):
    """The agent as the turn carries it. Small and bounded."""

    step: Annotated[int, Field(description="The newest entry of the journal")]
    inbox: Annotated[int, Field(description="Inputs that this turn has read; it closes only if there are no more")]
    rounds: Annotated[int, Field(description="Decisions in this execution")]
    plan: list[PlanStep]
    used: Used
    limits: Limits
    prices: Prices
    protocol: Literal["tools", "json"]
    fingerprint: Annotated[str, Field(description="Fingerprint of the newest calls; empty if there were no calls")]
    doubts: Annotated[list[str], Field(description="Reasons against being complete")]
    doubted: Annotated[bool, Field(description="Whether the newest decision was refused for such reasons")]
    depth: Annotated[int, Field(ge=0, description="Number of agents above it")]
    children: Annotated[list[str], Field(description="The ids of the agents that it has delegated to")]

    @property
    def children_left(self) -> int:
        """The number of agents that it may still delegate to."""
        return max(0, self.limits.children - len(self.children)) if self.depth < self.limits.depth else 0


class ConverseRequest(BaseModel):
    """Converse's arguments in Step Functions' casing."""

    model_config = ConfigDict(alias_generator=to_pascal, populate_by_name=True, extra="forbid", frozen=True)
    model_id: str
    system: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    inference_config: dict[str, Any]
    tool_config: Annotated[
        dict[str, Any], Field(description="Not sent to a model without tool use; ReadReply reads the schemas from it")
    ]
    request_metadata: Annotated[dict[str, str], Field(description="Comes back in Bedrock's logs")]


class TurnTool(Model):
    """A tool as the turn carries it to ReadReply: what the request's ToolConfig does not say of it."""

    name: ToolName
    function: str
    effect: Literal["read", "write"]
    timeout_seconds: int
    hidden: bool
    alternatives: list[ToolName]
    approval: Literal["never", "always"] | dict[str, Any]
    rest_of_schema: Annotated[dict[str, Any], Field(description="Keywords of its schema that ToolConfig has otherwise")]

    @classmethod
    def of(cls, tool: Tool) -> "TurnTool":
        """Return the tool without what ToolConfig says of it. A hidden tool needs no schema: no model calls it."""
        offered = offered_schema(tool.input_schema)
        rest = {key: value for key, value in tool.input_schema.items() if key not in offered or offered[key] != value}
        same = {name: getattr(tool, name) for name in cls.model_fields if name != "rest_of_schema"}
        return cls(**same, rest_of_schema={} if tool.hidden else rest)


class Pending(Model):
    """The inputs that go into the journal with the entry of the next decision."""

    messages: Annotated[list[dict[str, Any]], Field(description="Converse messages: none, or one of the user")] = []
    inputs: Annotated[list[str], Field(description="The `record` of each input in them")] = []
    left: Annotated[int, Field(ge=0, description="Inputs that did not fit and wait for the next round")] = 0


class Fallback(Model):
    """The models that are asked instead, nested in their order. Empty if no model is left."""

    model_id: str | None = None
    next: "Fallback | None" = None

    @model_serializer
    def _sparse(self) -> dict[str, Any]:
        # The machine checks whether there is a `modelId`, and keeps `next` for the next failure.
        return {} if self.model_id is None else {"modelId": self.model_id, "next": (self.next or Fallback())._sparse()}


class Turn(Model):
    """The output of LoadTurn."""

    agent: TurnAgent
    entry: Entry
    request: Annotated[ConverseRequest | None, Field(description="Null unless the model is asked")] = None
    fallback: Fallback = Fallback()
    tools: Annotated[list[TurnTool], Field(description="For ReadReply; empty unless the model is asked")] = []
    delegates: Annotated[list[str], Field(description="Definitions that may be delegated to; for ReadReply too")] = []
    pending: Pending = Pending()
    decision: Annotated[Decision | None, Field(description="To go on with; null if the model is asked")] = None


class ReadReplyInput(BaseModel):
    """The input of ReadReply. `reply` is Converse's answer, unchecked: it may have any shape."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    agent: TurnAgent
    tools: list[TurnTool]
    tool_config: Annotated[dict[str, Any], Field(alias="toolConfig", description="Of the request, with the schemas")]
    delegates: list[str]
    pending: Pending
    reply: Any
    model_id: Annotated[str, Field(alias="modelId", description="The model that replied")]

    def schema_of(self, tool: TurnTool) -> dict[str, Any]:
        """Return the whole schema of an offered tool's arguments."""
        specs = {each["ToolSpec"]["Name"]: each["ToolSpec"] for each in self.tool_config["Tools"]}
        return {**specs[tool.name]["InputSchema"]["Json"], **tool.rest_of_schema}


class Step(Model):
    """The journal entry of a decision, for CheckpointDecision."""

    record: Annotated[str, Field(description="As STEP#000007")]
    previous_step: Annotated[int, Field(description="The entry is written only if the journal ends at this step")]
    messages: Annotated[list[dict[str, Any]], Field(description="The messages that it adds to the conversation")]
    inputs: list[str]
    usage: Usage
    plan: list[PlanStep]
    replans: Annotated[int, Field(ge=0, le=1, description="1 if this decision replaced the plan")]


class Reading(Model):
    """The output of ReadReply. `agent` is already as it will be once the decision is checkpointed."""

    agent: TurnAgent
    decision: Decision
    step: Step
