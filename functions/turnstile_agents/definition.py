"""An agent's definition as it is stored: its model, its instructions, its limits and its tools.

Kept in the table under `agentId = DEFINITION#<name>`: `VERSION#000003` holds each version as JSON in `definition`, and
`LATEST` the newest one with its number. An agent keeps the version that it started with.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from turnstile_agents.record import AGENT_ID, Model

ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
OnUnknown = Literal["ask", "retry", "reconcile"]
TIMEOUT_MARGIN = 5
"""Seconds that the machine waits beyond a function's own timeout, so that the function's end is seen first."""


def definition_key(name: str) -> str:
    """Return the partition key of a definition; `#` cannot occur in an agent's id."""
    return f"DEFINITION#{name}"


def version_record(version: int) -> str:
    """Return the `record` of one version, as `VERSION#000003`."""
    return f"VERSION#{version:06d}"


class Prices(Model):
    """The prices of the model, in US dollars per million tokens."""

    input: Annotated[float, Field(ge=0)] = 0
    output: Annotated[float, Field(ge=0)] = 0


class ModelSettings(Model):
    """The model that is asked, and its settings."""

    id: Annotated[str, Field(min_length=1, description="Bedrock model or inference profile")]
    protocol: Annotated[Literal["tools", "json"], Field(description="Converse tool use, or JSON actions as text")] = (
        "tools"
    )
    max_tokens: Annotated[
        int, Field(ge=1, le=8192, description="Most tokens of one reply; the state payload has room for no more")
    ] = 2048
    temperature: Annotated[float | None, Field(ge=0, le=1, description="Left out if null: some models refuse it")] = (
        None
    )
    prices: Prices = Prices()
    fallbacks: Annotated[list[str], Field(description="Models that are asked if this one fails, in this order")] = []


class Delegate(Model):
    """An agent that the defined agent may delegate to."""

    name: Annotated[str, StringConstraints(pattern=AGENT_ID), Field(description="A definition's name")]
    description: Annotated[str, Field(min_length=1, description="What the agent is good for; the model reads it")]


class Limits(Model):
    """The limits at which an agent stops. RouteAction compares the used amounts with them."""

    steps: Annotated[int, Field(ge=1, description="Decisions of the model")] = 40
    tokens: Annotated[int, Field(ge=1, description="Tokens in and out")] = 1_000_000
    cost_micro_usd: Annotated[int, Field(ge=1, description="Millionths of a US dollar")] = 5_000_000
    replans: Annotated[int, Field(ge=1, description="Times that a plan is replaced")] = 5
    repeats: Annotated[int, Field(ge=2, description="Times in a row that the same calls are asked for")] = 3
    wrong_replies: Annotated[int, Field(ge=1, description="Replies in a row that could not be used")] = 3
    recoveries: Annotated[
        int, Field(ge=1, description="Recoveries in a row, without another step, before the operator is asked")
    ] = 4
    children: Annotated[int, Field(ge=0, le=20, description="Agents that it may delegate to in total")] = 5
    depth: Annotated[int, Field(ge=0, le=10, description="Levels of agents that may delegate")] = 3
    calls_per_reply: Annotated[
        int, Field(ge=1, le=5, description="Tool calls in one reply; the state payload has room for no more than 5")
    ] = 5
    steps_per_turn: Annotated[
        int,
        Field(ge=1, le=100, description="Decisions of one execution before a new one goes on; its history is limited"),
    ] = 100


class Compensation(Model):
    """The call that undoes an effect."""

    tool: ToolName
    arguments: Annotated[
        dict[str, str], Field(min_length=1, description="Arguments of that tool, each with the field of the result")
    ]


class Tool(Model):
    """A tool as the model and the machine see it."""

    name: ToolName
    description: Annotated[str, Field(min_length=1, description="What the tool does; the model reads it")]
    input_schema: Annotated[dict[str, Any], Field(description="JSON schema of its arguments")]
    function: Annotated[str, Field(min_length=1, description="The Lambda's name or ARN")]
    effect: Annotated[
        Literal["read", "write"], Field(description="`write` if it changes outside data; it gets ledger entries")
    ]
    timeout_seconds: Annotated[int, Field(ge=1, le=900, description="The function's own timeout")]
    hidden: Annotated[bool, Field(description="Not offered to the model, as a look-up")] = False
    alternatives: Annotated[
        list[ToolName], Field(description="Tools that are called instead, in this order, if it is unavailable")
    ] = []
    compensation: Annotated[
        Compensation | None, Field(description="How its effect is undone; null if it cannot be undone")
    ] = None
    on_unknown: Annotated[
        OnUnknown,
        Field(description="If the outcome is unknown: ask the operator, call again by key, or look it up"),
    ] = "ask"
    reconcile: Annotated[
        ToolName | None, Field(description="The look-up: for `reconcile`, and after a `retry` that did not settle it")
    ] = None
    approval: Annotated[
        Literal["never", "always"] | dict[str, Any],
        Field(description="When a person must approve a call first; a JSON schema: if the arguments match it"),
    ] = "never"


class Definition(Model):
    """One version of an agent's definition."""

    name: Annotated[str, StringConstraints(pattern=AGENT_ID)]
    version: Annotated[int, Field(ge=1)]
    description: str = ""
    instructions: Annotated[
        str, Field(min_length=1, description="The system prompt, before the rules that every agent gets")
    ]
    model: ModelSettings
    limits: Limits = Limits()
    tools: list[Tool] = []
    delegates: list[Delegate] = []

    @model_validator(mode="after")
    def _tools_fit_together(self) -> Self:
        if not (self.tools or self.delegates):
            raise ValueError("an agent needs `tools`, `delegates` or both")
        by_name = {tool.name: tool for tool in self.tools}
        for tool in self.tools:
            compensation = [tool.compensation.tool] if tool.compensation else []
            reconcile = [tool.reconcile] if tool.reconcile else []
            for role, name in [
                *(("alternatives", name) for name in tool.alternatives),
                *(("compensation", name) for name in compensation),
                *(("reconcile", name) for name in reconcile),
            ]:
                if name not in by_name or name == tool.name:
                    raise ValueError(f"the {role} of {tool.name} names {name}, which is no other tool of this agent")
                if (by_name[name].effect == "read") != (role == "reconcile" or tool.effect == "read"):
                    raise ValueError(f"the {role} of {tool.name} names {name}, whose effect is {by_name[name].effect}")
            if tool.compensation:
                _check_arguments(tool.name, tool.compensation, by_name[tool.compensation.tool])
            if tool.on_unknown == "reconcile" and not tool.reconcile:
                raise ValueError(f"{tool.name} needs `reconcile`, the name of a look-up, with `onUnknown: reconcile`")
            if tool.on_unknown == "ask" and tool.reconcile:
                raise ValueError(f"{tool.name} names the look-up {tool.reconcile}, which `onUnknown: ask` never uses")
        return self


def _check_arguments(tool: str, compensation: Compensation, undo: Tool) -> None:
    """Raise ValueError if the tool that undoes an effect would refuse the arguments that it is to be called with."""
    known = list(undo.input_schema.get("properties", {}))
    for argument in compensation.arguments:
        if argument not in known:
            raise ValueError(
                f"the compensation of {tool} gives {undo.name} the argument {argument}, which {undo.name} does not "
                f"take; it takes {', '.join(known) or 'none'}"
            )
    for argument in undo.input_schema.get("required", []):
        if argument not in compensation.arguments:
            raise ValueError(
                f"the compensation of {tool} does not give {undo.name} the argument {argument}, which {undo.name} needs"
            )


ReadDefinition = Callable[[str, int], Definition]
"""Reads a version of a definition by its name and number."""
