"""The tools that every agent has: how the model plans, asks, finishes and gives up."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.record import PlanStep

BuiltInAction = Literal["PLAN", "ASK_USER", "COMPLETE", "GIVE_UP"]


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
    "complete": Complete,
    "give_up": GiveUp,
}
"""By the name that the model calls. A tool of an agent's own may not take one of these."""
