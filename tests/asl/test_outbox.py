"""The outbox pipe lets through what a rule of the bus uses, and nothing else."""

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from ministack.services import stepfunctions

from tests.asl import template
from tests.asl.support import MACHINES
from tests.asl.test_events import STATE_IMAGE
from turnstile_agents.record import FREE, NextAction, Status

MOST_FILTERS = 5
"""Filters that a pipe may have."""


def images() -> Iterator[dict[str, Any]]:
    """Yield STATE as the stream may carry it: announced and not, in each status, with each next action."""
    for announce, status, action, parent, children in product(
        ["AgentStateUpdated", "AgentError", None], Status, [*NextAction, FREE], ["", "a-0"], ["[]", '["c-1"]']
    ):
        values = {"status": status, "nextAction": action, "parent": parent, "children": children}
        image = STATE_IMAGE | {name: {"S": str(value)} for name, value in values.items()}
        yield image | ({"announce": {"S": announce}} if announce else {})


def event(image: dict[str, Any]) -> dict[str, Any] | None:
    """Return the event that agent_publish makes of an image; None if it makes none."""
    states = MACHINES["agent_publish"].definition["States"]["PublishRecords"]["ItemProcessor"]["States"]
    record = {"dynamodb": {"NewImage": image}}
    _, name = stepfunctions._execute_choice(states["RouteRecord"], record, {})
    if name == "NothingToPublish":
        return None
    [entry] = states[name]["Parameters"]["Entries"]
    detail = stepfunctions._resolve_params_obj(entry["Detail"], record)
    return {"source": entry["Source"], "detail-type": entry["DetailType"], "detail": detail}


def used_by(published: dict[str, Any] | None) -> set[str]:
    """Return the rules that an event matches."""
    rules = template.bus_patterns().items()
    return {name for name, rule in rules if published and template.matches(json.dumps(rule), published)}


def test_the_pipe_lets_through_what_a_rule_uses_and_nothing_else() -> None:
    filters, reached = template.pipe_filters(), set()
    for image in images():
        rules = used_by(event(image))
        assert template.pipe_takes(filters, image) == bool(rules), (image, rules)
        reached |= rules
    # The other rules take events from outside.
    assert template.bus_patterns().keys() - reached == {"AgentStartRequested", "AgentInputReceived"}


@pytest.mark.parametrize("left_out", range(len(template.pipe_filters())))
def test_each_filter_is_needed(left_out: int) -> None:
    others = template.pipe_filters()
    del others[left_out]
    assert any(used_by(event(image)) and not template.pipe_takes(others, image) for image in images())
    assert len(others) < MOST_FILTERS
