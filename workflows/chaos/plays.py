"""What the agents of the cases do: scenarios of the sample agent, some with an end that a recovery can lead to."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from workflows.scenarios import AGENTS, Reply, Scenario, ToolCall, load_scenarios

SPARE = 8
"""How often the last reply is given again: a recovery may ask the model once more."""
TRAVEL = AGENTS / "travel" / "agent.yaml"


@dataclass(frozen=True)
class Play:
    """One scenario, and which agent plays it."""

    scenario: Scenario
    agent: str = "travel"
    input_at_once: bool = False
    """Whether its inputs are sent while the agent works, not when it asks."""


def _tool(name: str, **arguments: Any) -> Reply:
    return Reply(tools=[ToolCall(name=name, input=arguments)])


@cache
def plays() -> Mapping[str, Play]:
    """Every play by its name."""
    known = {scenario.name: scenario for scenario in load_scenarios()}
    booking = known["straight_booking"]
    book, complete = booking.replies[0], booking.replies[-1]
    arguments = book.tools[0].input
    made = {
        "straight_booking": Play(booking),
        "ask_the_user": Play(known["ask_the_user"]),
        "look_up_then_book": Play(known["look_up_then_book"]),
        "no_seats": Play(known["no_seats"]),
        "input_while_it_works": Play(
            _like(booking, "input_while_it_works", [book, complete], inputs=["A window seat, please."]),
            input_at_once=True,
        ),
        "book_then_give_up": Play(
            _like(booking, "book_then_give_up", [book, _tool("give_up", reason="The return flight is full.")])
        ),
        "call_again": Play(_like(booking, "call_again", [book, complete]), agent="travel-retry"),
        "json_protocol": Play(
            _like(
                booking,
                "json_protocol",
                [
                    Reply(text=_json("TOOL_USE", toolName="book_flight", parameters=arguments)),
                    Reply(text=_json("COMPLETE", result="Your flight is booked.")),
                ],
            ),
            agent="travel-json",
        ),
    }
    return {name: Play(_with_spare(play.scenario), play.agent, play.input_at_once) for name, play in made.items()}


def write_agents(folder: Path) -> list[Path]:
    """Writes the agent.yaml of each agent that plays: the sample agent, and it with one thing changed."""
    changes: dict[str, Any] = {
        "travel": lambda _: None,
        "travel-json": lambda agent: agent.setdefault("model", {}).update(protocol="json"),
        "travel-retry": _call_again,
    }
    files = []
    for name, change in changes.items():
        content = yaml.safe_load(TRAVEL.read_text("utf-8"))
        content["name"] = name
        change(content)
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(content), "utf-8")
        files.append(file)
    return files


def _call_again(agent: dict[str, Any]) -> None:
    for tool in agent["tools"]:
        if tool["name"] == "book_flight":
            tool.pop("reconcile", None)
            tool["onUnknown"] = "retry"


def _json(action: str, **details: Any) -> str:
    return json.dumps({"action": action, "details": details})


def _like(scenario: Scenario, name: str, replies: list[Reply], inputs: list[str] | None = None) -> Scenario:
    prompt = f"{scenario.prompt} ({name})"
    return scenario.model_copy(update={"name": name, "prompt": prompt, "replies": replies, "inputs": inputs or []})


def _with_spare(scenario: Scenario) -> Scenario:
    return scenario.model_copy(update={"replies": [*scenario.replies, *[scenario.replies[-1]] * SPARE]})
