"""The machines that an event starts: by the rules of template.yaml, with MiniStack's matcher."""

from functools import cache
from typing import Any

from ministack.services import eventbridge

from tests.asl.template import definition_uris, event_patterns
from tests.protocol.text import data, text
from tests.protocol.world import Event

LISTENING = ("agent_start", "agent_turn", "agent_input", "agent_recovery", "agent_redeliver")
"""The machines that events start in the model. agent_notify only informs people, and agent_publish is part of every
write."""


@cache
def targets(event: str) -> tuple[Event, ...]:
    """Return an event for each machine whose rule it matches."""
    given = data(event)
    seen = {"Source": given["source"], "DetailType": given["detail-type"], "Detail": text(given["detail"])}
    return tuple(
        Event(machine, event)
        for machine in LISTENING
        if any(eventbridge._matches_pattern(pattern, seen) for pattern in _patterns(machine))
    )


@cache
def _patterns(machine: str) -> list[str]:
    names = {logical: uri.removeprefix("asl/").removesuffix(".asl.yaml") for logical, uri in definition_uris().items()}
    return [text(_resolved(pattern, names)) for pattern in event_patterns(machine)]


def _resolved(value: Any, names: dict[str, str]) -> Any:
    """Replace `{"Ref": …}` of a machine by its name here."""
    if isinstance(value, dict):
        return names[value["Ref"]] if "Ref" in value else {key: _resolved(part, names) for key, part in value.items()}
    return [_resolved(part, names) for part in value] if isinstance(value, list) else value
