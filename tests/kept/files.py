"""The files of kept agents: what one file holds, and how its items come into the tables of a stack.

A file holds every item of its agent, of the agents below it and of the sample's tables, in DynamoDB's own JSON. The
folder's `definitions.json` holds the definitions that its agents use.
"""

import datetime as dt
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from turnstile_cli.models.scenarios import Scenario

HERE = Path(__file__).parent
AGENTS = "AgentWorkflows"
DEFINITIONS = "definitions.json"
AGO = dt.timedelta(hours=1)
"""How long ago a kept agent stopped when a test takes it up: agent_watch finds it, and no approval has expired."""
_VALUE = re.compile(r'\{\s+("[A-Z]+": [^\n]*)\s+\}')
"""An attribute's value in indented JSON, over three lines."""
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)((?:\.\d+)?(?:Z|\+00:00))")
_CODE = re.compile(r'/[^ "\\]*/(?=(turnstile_agents|aws_lambda_powertools|tools)/)')
"""The folder of a function's code in a stack trace."""
_ON_AWS = "/var/task/"
_EPOCHS = {"expiration": 1, "in_progress_expiration": 1000}
"""Attributes of the table ToolCalls that are times: how many of their units are a second."""

RawItem = dict[str, Any]
"""An item as DynamoDB writes it: `{"step": {"N": "3"}}`."""


class Kept(BaseModel):
    """A file: an agent as it was when it stopped, and how it goes on."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    what: str = Field(description="Where the agent stopped, in words")
    agent: str = Field(description="Its id")
    family: list[str] = Field(description="Its id, and the ids of the agents below it")
    at: str = Field(description="The time at which its items were read")
    then: list[dict[str, Any]] = Field(description="What happens next, in order: see `revive.py`")
    ends: str = Field(description="The status with which the agent ends")
    effects: list[str] = Field(description="The ledger of the family at the end: `book_flight COMMITTED`")
    script: list[dict[str, Any]] = Field(description="The model's replies: a prompt, and replies as in a scenario")
    tables: dict[str, list[RawItem]] = Field(description="The items by the name of their table")


def scenario(name: str, script: Sequence[dict[str, Any]]) -> Scenario:
    """Return a script as a scenario, for the scripted model."""
    expect = {"status": "COMPLETED", "states": "ClaimTurn"}
    first, *children = script
    return Scenario.model_validate({"name": name, "title": name, **first, "children": children, "expect": expect})


def kept_files() -> Iterator[Path]:
    """Yield the file of every kept agent of every version."""
    yield from sorted(file for file in HERE.glob("[0-9]*/*.json") if file.name != DEFINITIONS)


def write(file: Path, kept: Kept) -> None:
    """Write the file of an agent."""
    tables = {name: _sorted(items) for name, items in sorted(kept.tables.items())}
    _write(file, kept.model_dump(mode="json", by_alias=True) | {"tables": tables})


def write_definitions(folder: Path, items: Sequence[RawItem]) -> None:
    """Write the definitions that a folder's agents use."""
    _write(folder / DEFINITIONS, _sorted(items))


def read(file: Path, now: dt.datetime) -> Kept:
    """Read the file of an agent, with all its times moved, so that the agent stopped an hour before `now`."""
    text = file.read_text("utf-8")
    at = dt.datetime.fromisoformat(json.loads(text)["at"])
    by = dt.timedelta(seconds=round((now - AGO - at).total_seconds()))
    kept = Kept.model_validate_json(_TIME.sub(lambda found: _moved(found[1], by) + found[2], text))
    for item in (item for items in kept.tables.values() for item in items):
        for name in item.keys() & _EPOCHS.keys():
            item[name] = {"N": str(int(item[name]["N"]) + int(by.total_seconds()) * _EPOCHS[name])}
    return kept


def read_definitions(folder: Path) -> list[RawItem]:
    """Read the definitions that a folder's agents use."""
    items: list[RawItem] = json.loads((folder / DEFINITIONS).read_text("utf-8"))
    return items


def is_state(item: RawItem) -> bool:
    """Return True for the item STATE of an agent."""
    return item.get("record") == {"S": "STATE"}


def version_of(state: RawItem) -> int:
    """Return the version of the record that an item STATE belongs to: without `schemaVersion`, the first."""
    return int(state.get("schemaVersion", {"N": "1"})["N"])


def _moved(time: str, by: dt.timedelta) -> str:
    return (dt.datetime.fromisoformat(time) + by).isoformat()


def _sorted(items: Sequence[RawItem]) -> list[RawItem]:
    return [dict(sorted(item.items())) for item in sorted(items, key=_key)]


def _write(file: Path, content: Any) -> None:
    """Write JSON with one attribute of an item a line."""
    text = _CODE.sub(_ON_AWS, json.dumps(content, indent=1, ensure_ascii=False))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(_VALUE.sub(r"{\1}", text) + "\n", "utf-8")


def _key(item: RawItem) -> str:
    return json.dumps([item.get(name) for name in ("agentId", "record", "flightId", "bookingId", "id")])
