"""Scenarios. One file is one path through the machines: what the model replies, what fails, and what comes of it.

`workflows/agents/<agent>/scenarios/<name>.yaml`. The demo plays them, the tests hold the machines to them, and the
README's table is made from them. `{today}`, `{tomorrow}`, `{in_2_days}` and `{in_3_days}` in any text become dates
(YYYY-MM-DD, UTC).
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from agent.definition import Limits, ToolName
from agent.record import EffectStatus, Model, RecoveryAction, Status, Verdict

AGENTS = Path(__file__).parent / "agents"
Text = Annotated[str, Field(min_length=1)]
StopReason = Literal[
    "end_turn",
    "tool_use",
    "max_tokens",
    "stop_sequence",
    "guardrail_intervened",
    "content_filtered",
    "malformed_model_output",
    "malformed_tool_use",
    "model_context_window_exceeded",
]


class ScenarioError(Exception):
    """A scenario file is wrong; the message names the file and the field."""


class ToolCall(Model):
    """A tool that the model asks for."""

    name: ToolName
    input: dict[str, Any]


class Usage(Model):
    """What a reply cost in tokens."""

    input_tokens: Annotated[int, Field(ge=0)]
    output_tokens: Annotated[int, Field(ge=0)]


class Reply(Model):
    """One reply of the model, in the order in which the journal asks for them."""

    text: str | None = None
    tools: list[ToolCall] = []
    usage: Annotated[Usage | None, Field(description="Estimated from the texts if absent")] = None
    stop_reason: Annotated[StopReason | None, Field(description="By what the reply holds if absent")] = None
    faults: Annotated[
        list[Literal["throttle", "unavailable", "timeout", "rubbish"]],
        Field(description="How the first attempts go before this reply is given"),
    ] = []

    @model_validator(mode="after")
    def _says_something(self) -> "Reply":
        if self.text is None and not self.tools:
            raise ValueError("a reply has `text`, `tools` or both")
        return self


class Ruling(Model):
    """What is decided about calls that wait for approval; in the file just the decision, or this."""

    decision: Verdict
    note: str = ""


class Child(Model):
    """What the model replies to an agent that is delegated to. It is known by its prompt, as a scenario is."""

    prompt: Annotated[Text, Field(description="What `delegate` gives it, to the letter")]
    replies: Annotated[list[Reply], Field(min_length=1)]


class ExpectedEffect(Model):
    """A ledger entry that the scenario leaves behind."""

    tool: ToolName
    status: EffectStatus


class Expected(Model):
    """What has come of it in the end."""

    status: Status
    states: Annotated[
        list[str],
        BeforeValidator(lambda value: value.split() if isinstance(value, str) else value),
        Field(
            min_length=1,
            description="The states visited, in order, over all turns; names with spaces between. Of turns that only "
            "find that not all children have reported, none: how many there are is a matter of chance",
        ),
    ]
    effects: Annotated[list[ExpectedEffect], Field(description="The ledger, in order")] = []
    recoveries: Annotated[list[RecoveryAction], Field(description="What the recoveries decided, in order")] = []
    bookings: Annotated[int, Field(ge=0, description="Bookings that stand, those of the agents below it included")] = 0
    children: Annotated[list[Status], Field(description="How the agents ended that it delegated to, in order")] = []
    error: Annotated[Text | None, Field(description="The error that the agent ended with")] = None


class Scenario(Model):
    """One scenario file."""

    name: Annotated[str, Field(description="The file's name without its suffix")]
    title: Annotated[Text, Field(description="One line for the table in the README")]
    prompt: Annotated[Text, Field(description="What the user asks for; no other scenario may ask the same")]
    agent: Annotated[str, Field(description="The agent's folder")] = "travel"
    limits: Annotated[dict[str, Any], Field(description="Limits that differ from the agent's own, in camelCase")] = {}
    replies: Annotated[list[Reply], Field(min_length=1)]
    inputs: Annotated[list[Text], Field(description="What the user says each time that the agent waits for it")] = []
    decisions: Annotated[
        list[
            Annotated[Ruling, BeforeValidator(lambda value: {"decision": value} if isinstance(value, str) else value)]
        ],
        Field(description="What is decided each time that the agent waits for an approval"),
    ] = []
    children: Annotated[list[Child], Field(description="The agents that it delegates to, and those that they do")] = []
    expect: Expected

    @field_validator("limits")
    @classmethod
    def _known(cls, limits: dict[str, Any]) -> dict[str, Any]:
        Limits.model_validate(limits)
        return limits


def load_scenarios(agents: Path = AGENTS, today: date | None = None) -> list[Scenario]:
    """Every scenario of every agent, by agent and name.

    Raises:
        ScenarioError: a file is wrong, or two ask for the same thing.
    """
    scenarios: list[Scenario] = []
    names: dict[str, str] = {}
    for path in sorted(agents.glob("*/scenarios/*.yaml")):
        scenario = load_scenario(path, today)
        for prompt in (scenario.prompt, *(child.prompt for child in scenario.children)):
            if prompt in names:
                raise ScenarioError(
                    f"{path}: prompt: {names[prompt]} has the same; the model could not tell them apart"
                )
            names[prompt] = scenario.name
        scenarios.append(scenario)
    return scenarios


def load_scenario(path: Path, today: date | None = None) -> Scenario:
    """The scenario in a file.

    Args:
        path: the file; its name and its agent's folder have to be what it says of itself.
        today: the date to count from; the present one otherwise.

    Raises:
        ScenarioError: the file cannot be read or is wrong; the message names the field.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ScenarioError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ScenarioError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ScenarioError(f"{path} is no scenario: it has no fields")
    dated = _with_dates(content, today or datetime.now(UTC).date())
    try:
        scenario = Scenario.model_validate({"name": path.stem} | dated)
    except ValidationError as error:
        raise ScenarioError("\n".join(f"{path}: {line}" for line in _problems(error))) from error
    if scenario.name != path.stem:
        raise ScenarioError(f"{path}: name: the file is called {path.stem}")
    if scenario.agent != path.parent.parent.name:
        raise ScenarioError(f"{path}: agent: the file is in the folder of {path.parent.parent.name}")
    return scenario


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        yield f"{place}: {problem['msg']}"


def _with_dates(value: Any, today: date) -> Any:
    if isinstance(value, dict):
        return {key: _with_dates(item, today) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_dates(item, today) for item in value]
    if isinstance(value, str):
        for days, name in enumerate(("today", "tomorrow", "in_2_days", "in_3_days")):
            value = value.replace(f"{{{name}}}", (today + timedelta(days=days)).isoformat())
    return value
