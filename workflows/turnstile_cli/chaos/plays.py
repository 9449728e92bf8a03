"""The plays of the cases: scenarios of the sample agent, some changed so that they end after a recovery too."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from turnstile_cli.chaos.tools import CLERK, SLOW, shortened
from turnstile_cli.files import AGENTS
from turnstile_cli.models.scenarios import Scenario, ScenarioReply, ScenarioRuling, ScenarioToolCall, load_scenarios

SPARE = 8
"""How often the last reply is repeated: a recovery may ask the model again."""
TRAVEL = AGENTS / "travel" / "agent.yaml"
TRIP = AGENTS / "trip" / "agent.yaml"
"""The agent that delegates to travel."""


@dataclass(frozen=True)
class Play:
    """One scenario, and the agent that plays it."""

    scenario: Scenario
    agent: str = "travel"
    input_at_once: bool = False
    """True: the inputs are sent while the agent works, not when it asks."""
    expires: bool = False
    """True: no approver decides about its approvals."""
    when_told: bool = False
    """True: the approver decides only after the message about the approval has come."""


def _tool(name: str, **arguments: Any) -> ScenarioReply:
    return ScenarioReply(tools=[ScenarioToolCall(name=name, input=arguments)])


def _notes(*seconds: float) -> ScenarioReply:
    """Make a reply that writes notes at once, each after its seconds."""
    calls = enumerate(seconds)
    notes = [ScenarioToolCall(name="note", input={"seconds": late, "text": f"note {place}"}) for place, late in calls]
    return ScenarioReply(tools=notes)


@cache
def plays() -> Mapping[str, Play]:
    """Return every play by its name."""
    known = {scenario.name: scenario for scenario in load_scenarios()}
    booking = known["straight_booking"]
    book, complete = booking.replies[0], booking.replies[-1]
    arguments = book.tools[0].input
    group = known["approved"]
    give_up = _tool("give_up", reason="No approver decided.")
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
        "approved": Play(group),
        "approved_when_told": Play(
            _like(group, "approved_when_told", group.replies, decisions=group.decisions), when_told=True
        ),
        "never_approved": Play(_like(group, "never_approved", [group.replies[0], give_up]), expires=True),
        "two_flights": Play(known["two_flights"], agent="trip"),
        "two_writes": Play(_like(booking, "two_writes", [_notes(0, SLOW), complete]), agent=CLERK["name"]),
        "five_writes": Play(_like(booking, "five_writes", [_notes(0, 0, 0, 0, 0), complete]), agent=CLERK["name"]),
        "call_again": Play(_like(booking, "call_again", [book, complete]), agent="travel-retry"),
        "json_protocol": Play(
            _like(
                booking,
                "json_protocol",
                [
                    ScenarioReply(text=_json("TOOL_USE", toolName="book_flight", parameters=arguments)),
                    ScenarioReply(text=_json("COMPLETE", result="Your flight is booked.")),
                ],
            ),
            agent="travel-json",
        ),
    }
    return {name: replace(play, scenario=_with_spare(play.scenario)) for name, play in made.items()}


def write_agents(folder: Path) -> list[Path]:
    """Write the agent.yaml of each agent that plays. Return the files in the order in which they can be registered.

    They are: travel and two variants of it, trip, and the clerk.
    """
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
        files.append(_write(folder, shortened(content)))
    return [*files, TRIP, write_clerk(folder)]


def write_clerk(folder: Path) -> Path:
    """Write the agent.yaml of the clerk."""
    return _write(folder, CLERK)


def _write(folder: Path, content: dict[str, Any]) -> Path:
    file = folder / f"{content['name']}.yaml"
    file.write_text(yaml.safe_dump(content), "utf-8")
    return file


def _call_again(agent: dict[str, Any]) -> None:
    for tool in agent["tools"]:
        if tool["name"] == "book_flight":
            # Without these two, a call is made again by its key, the default of a tool that is made with @tool.
            del tool["reconcile"], tool["onUnknown"]


def _json(action: str, **details: Any) -> str:
    return json.dumps({"action": action, "details": details})


def _like(
    scenario: Scenario,
    name: str,
    replies: list[ScenarioReply],
    inputs: Sequence[str] = (),
    decisions: Sequence[ScenarioRuling] = (),
) -> Scenario:
    prompt = f"{scenario.prompt} ({name})"
    changes = {"name": name, "prompt": prompt, "replies": replies, "inputs": [*inputs], "decisions": [*decisions]}
    return scenario.model_copy(update=changes)


def _with_spare(scenario: Scenario) -> Scenario:
    children = [child.model_copy(update={"replies": _spare(child.replies)}) for child in scenario.children]
    return scenario.model_copy(update={"replies": _spare(scenario.replies), "children": children})


def _spare(replies: list[ScenarioReply]) -> list[ScenarioReply]:
    return [*replies, *[replies[-1]] * SPARE]
