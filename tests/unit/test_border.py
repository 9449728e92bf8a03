"""Values from outside can be stored, read back and printed, in every form."""

import json
from typing import Any

import pytest

from turnstile_agents.border import DEPTH, STORED_DEPTH, clean, cut, nests_deeper, read_json, read_object
from turnstile_agents.items import attributes_of

HALF = "\ud83d"
"""Half of a surrogate pair: JSON can write it in plain ASCII, and UTF-8 cannot hold it."""


def nested(levels: int, inside: Any = 0) -> Any:
    for _ in range(levels):
        inside = [inside]
    return inside


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        (f"a{HALF}b", "a\ufffdb"),
        ({HALF: [HALF]}, {"\ufffd": ["\ufffd"]}),
        ("\U0001f600", "\U0001f600"),
        ([1, 1.5, True, None, {}], [1, 1.5, True, None, {}]),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (10**300, str(10**300)),
    ],
)
def test_a_value_is_cleaned(value: Any, cleaned: Any) -> None:
    assert clean(value) == cleaned
    json.dumps(clean(value), ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("levels", [0, 1, DEPTH, DEPTH + 1, 5000])
def test_depth_is_found_without_recursion(levels: int) -> None:
    assert nests_deeper(nested(levels)) == (levels > DEPTH)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, null, "\\ud83d"]}', {"a": [1, 2.5, None, "\ufffd"]}),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("no JSON", "no JSON"),
        ("", ""),
        ("[1", "[1"),
        ("[" * 50_000, "[" * 50_000),
        ("9" * 5000, "9" * 5000),
        ("[1e999, NaN]", ["inf", "NaN"]),
    ],
)
def test_json_of_any_kind_is_read(text: str, value: Any) -> None:
    assert read_json(text) == value


@pytest.mark.parametrize("levels", [STORED_DEPTH + 1, 300, 1100, 50_000])
def test_what_nests_too_deep_is_read_as_its_text(levels: int) -> None:
    deep = "[" * levels + '"]"' + "]" * levels
    read = read_json(f'[{{"value": {deep}}}, {{"value": {{"found": true}}}}]')
    assert read[1] == {"value": {"found": True}}
    assert not nests_deeper(read, STORED_DEPTH)
    inside = read[0]["value"]
    while isinstance(inside, list):
        [inside] = inside
    assert inside.strip("[]") == '"]"'
    assert inside.count("[") == levels - STORED_DEPTH + 2
    json.dumps(read)


def test_a_value_that_is_no_object_is_read_as_an_empty_object() -> None:
    assert read_object('{"a": 1}') == {"a": 1}
    assert read_object("[1]") == read_object("no JSON") == {}


def test_an_item_is_text_that_can_be_written() -> None:
    assert attributes_of({"text": {"S": HALF}, "step": {"N": "7"}}) == {"text": "\ufffd", "step": "7"}


def test_a_text_is_cut_between_characters() -> None:
    assert cut("äöü", 6) == "äöü"
    assert cut("äöü", 5) == "äö …"
