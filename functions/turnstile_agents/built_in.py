"""The tools that come with every agent: how the model plans, asks, delegates, finishes and gives up."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from turnstile_agents.record import PlanStep

BuiltInAction = Literal["PLAN", "ASK_USER", "DELEGATE", "COMPLETE", "GIVE_UP"]


class BuiltIn(BaseModel):
    """Arguments of a built-in tool."""

    model_config = ConfigDict(extra="forbid")
    action: ClassVar[BuiltInAction]
    reflection: Annotated[str, Field(description="How far the goal is reached, and what the last step showed")] = ""


class UpdatePlan(BuiltIn):
    """Lay down the plan, or bring it up to date. Always the whole plan."""

    action: ClassVar[BuiltInAction] = "PLAN"
    steps: Annotated[list[PlanStep], Field(min_length=1, max_length=20, description="All steps, in order")]


class AskUser(BuiltIn):
    """Ask the user a question and wait for the answer."""

    action: ClassVar[BuiltInAction] = "ASK_USER"
    question: Annotated[str, Field(min_length=1, max_length=4000, description="One question, in the user's language")]


class Delegation(BuiltIn):
    """Have another agent do a part of the work, and wait for what comes of it. It does not see this conversation. Call
    this once for each part, several times in one reply if they do not depend on each other, and no other tool beside.
    """

    action: ClassVar[BuiltInAction] = "DELEGATE"
    agent: Annotated[str, Field(description="Which agent")]
    goal: Annotated[str, Field(min_length=1, max_length=1000, description="What it is to reach, in a sentence")]
    prompt: Annotated[str, Field(min_length=1, max_length=16_000, description="All that it has to know, in full")]


class Complete(BuiltIn):
    """Finish: the goal is met."""

    action: ClassVar[BuiltInAction] = "COMPLETE"
    result: Annotated[str, Field(min_length=1, description="What was done, for the user")]


class GiveUp(BuiltIn):
    """Stop: the goal cannot be met."""

    action: ClassVar[BuiltInAction] = "GIVE_UP"
    reason: Annotated[str, Field(min_length=1, max_length=4000, description="Why, for the user")]


BUILT_INS: dict[str, type[BuiltIn]] = {
    "update_plan": UpdatePlan,
    "ask_user": AskUser,
    "delegate": Delegation,
    "complete": Complete,
    "give_up": GiveUp,
}
"""The built-ins by the name that the model calls. An agent's own tool must not have one of these names."""


def offered_built_ins(depth: int, delegation: bool) -> dict[str, type[BuiltIn]]:
    """Return the built-ins that an agent may call: a child cannot ask a user, and not every agent may delegate."""
    kept = {*(["ask_user"] if depth else []), *([] if delegation else ["delegate"])}
    return {name: arguments for name, arguments in BUILT_INS.items() if name not in kept}


def spoken(name: str, protocol: Literal["tools", "json"]) -> str:
    """Return what a model calls a built-in: `complete` with tool use, COMPLETE in the JSON protocol."""
    return f"`{name}`" if protocol == "tools" else BUILT_INS[name].action
