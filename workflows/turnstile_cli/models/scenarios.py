"""Scenarios. One file is one path through the machines: what the model replies, what fails, and what the result is.

The files are `workflows/agents/<agent>/scenarios/<name>.yaml`. The demo plays them, the tests check the machines
against them, and the README's table is made from them. `{today}`, `{tomorrow}`, `{in_2_days}` and `{in_3_days}` in any
text become dates (YYYY-MM-DD, UTC).
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from turnstile_agents.definition import Limits, ToolName
from turnstile_agents.record import EffectStatus, Model, RecoveryAction, Status, Verdict
from turnstile_cli.files import AGENTS
from turnstile_cli.loader import SafeLoader

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


class ScenarioToolCall(Model):
    """A tool call that the model asks for."""

    name: ToolName
    input: dict[str, Any]


class ScenarioUsage(Model):
    """The tokens of a reply."""

    input_tokens: Annotated[int, Field(ge=0)]
    output_tokens: Annotated[int, Field(ge=0)]


class ScenarioReply(Model):
    """One reply of the model, in the order in which the journal asks for them."""

    text: str | None = None
    tools: list[ScenarioToolCall] = []
    usage: Annotated[ScenarioUsage | None, Field(description="Estimated from the texts if absent")] = None
    stop_reason: Annotated[StopReason | None, Field(description="Derived from the reply's content if absent")] = None
    faults: Annotated[
        list[Literal["throttle", "unavailable", "timeout", "rubbish"]],
        Field(description="The faults of the first attempts, one each, before this reply is given"),
    ] = []

    @model_validator(mode="after")
    def _says_something(self) -> "ScenarioReply":
        if self.text is None and not self.tools:
            raise ValueError("a reply needs `text`, `tools` or both")
        return self


class ScenarioRuling(Model):
    """A decision about calls that wait for approval; in the file, the decision alone or these fields."""

    decision: Verdict
    note: str = ""


class ScenarioChild(Model):
    """The model's replies to a child agent. The prompt identifies the child, as it does a scenario."""

    prompt: Annotated[Text, Field(description="Exactly the prompt that `delegate` gives to the child")]
    replies: Annotated[list[ScenarioReply], Field(min_length=1)]


class ExpectedEffect(Model):
    """A ledger entry that the scenario leaves behind."""

    tool: ToolName
    status: EffectStatus


class Expected(Model):
    """The expected result at the end."""

    status: Status
    states: Annotated[
        list[str],
        BeforeValidator(lambda value: value.split() if isinstance(value, str) else value),
        Field(
            min_length=1,
            description="The states visited, in order, over all turns; names with spaces between. Without turns that "
            "only find that not all children have reported: their number differs from run to run",
        ),
    ]
    effects: Annotated[list[ExpectedEffect], Field(description="The ledger, in order")] = []
    recoveries: Annotated[list[RecoveryAction], Field(description="The recoveries' decisions, in order")] = []
    bookings: Annotated[int, Field(ge=0, description="Bookings that stand, also of the agents below it")] = 0
    children: Annotated[list[Status], Field(description="The final status of each child, in order")] = []
    error: Annotated[Text | None, Field(description="The error that the agent ended with")] = None


class Scenario(Model):
    """One scenario file."""

    name: Annotated[str, Field(description="The file's name without its suffix")]
    title: Annotated[Text, Field(description="One line for the table in the README")]
    prompt: Annotated[Text, Field(description="The user's request; no other scenario may have the same")]
    agent: Annotated[str, Field(description="The agent's folder")] = "travel"
    limits: Annotated[dict[str, Any], Field(description="Limits that replace the agent's own, in camelCase")] = {}
    replies: Annotated[list[ScenarioReply], Field(min_length=1)]
    inputs: Annotated[list[Text], Field(description="The user's inputs, one for each time that the agent waits")] = []
    decisions: Annotated[
        list[
            Annotated[
                ScenarioRuling, BeforeValidator(lambda value: {"decision": value} if isinstance(value, str) else value)
            ]
        ],
        Field(description="The decisions, one for each time that the agent waits for an approval"),
    ] = []
    children: Annotated[
        list[ScenarioChild], Field(description="The agents below it: its children, and their children")
    ] = []
    expect: Expected

    @field_validator("limits")
    @classmethod
    def _known(cls, limits: dict[str, Any]) -> dict[str, Any]:
        Limits.model_validate(limits)
        return limits


def load_scenarios(agents: Path = AGENTS, today: date | None = None) -> list[Scenario]:
    """Load every scenario of every agent, in order of agent and name.

    Raises:
        ScenarioError: a file is wrong, or two scenarios have the same prompt.
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
    """Load the scenario from a file.

    Args:
        path: the file; its name and its agent's folder have to match its fields `name` and `agent`.
        today: the date to count from; the present date in UTC otherwise.

    Raises:
        ScenarioError: the file cannot be read or is wrong; the message names the field.
    """
    try:
        content = yaml.load(path.read_text("utf-8"), SafeLoader)
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
