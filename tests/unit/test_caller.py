"""A caller's name: verified by the API, or only claimed."""

import json
from typing import Any

import pytest

from tests.unit.records import came, record
from turnstile_agents.caller import Caller, caller_of, caller_of_input
from turnstile_agents.items import InputItem


def said(detail: str, source: str) -> InputItem:
    """Return an input with this detail."""
    [item] = record([{**came("e-1", "AgentInputReceived"), "detail": detail, "source": source}]).inputs
    return item


@pytest.mark.parametrize(
    ("by", "source", "text"),
    [
        ("arn:aws:iam::1:user/ana", "com.agent.api", "by arn:aws:iam::1:user/ana"),
        ("ana", "com.agent.workflow", "by ana (claimed)"),
        ("ana", "com.example.orders", "by ana (claimed)"),
        ("ana", "com.agent.api.example", "by ana (claimed)"),
        ("ana", "", "by ana (claimed)"),
        ("x" * 257, "com.agent.workflow", f"by {'x' * 255}… (claimed)"),
    ],
)
def test_only_the_api_vouches_for_a_name(by: str, source: str, text: str) -> None:
    caller = caller_of(by, source)
    assert caller
    assert (caller.text, caller.source) == (text, source)
    assert caller_of_input(said(json.dumps({"text": "Hello", "by": by}), source)) == caller


@pytest.mark.parametrize("named", [{}, {"by": ""}, {"by": None}, {"by": 7}, {"by": ["ana"]}])
def test_an_event_need_not_name_its_caller(named: dict[str, Any]) -> None:
    assert caller_of("", "com.agent.api") is None
    assert caller_of_input(said(json.dumps(named), "com.agent.api")) is None


def test_half_a_character_can_be_shown() -> None:
    caller = caller_of_input(said('{"by": "ana \\ud83d"}', "com.example.desk"))
    assert caller
    assert caller.text.encode() == "by ana \ufffd (claimed)".encode()


def test_a_program_reads_whether_the_name_is_verified() -> None:
    caller = Caller(by="ana", source="com.agent.api", verified=True)
    assert caller.dump() == {"by": "ana", "source": "com.agent.api", "verified": True}
