"""Makes data that crosses a border fit to be stored: text that UTF-8 holds, and JSON that can be read back. Pure.

A model, a tool or a sender may give anything that JSON allows: half of a surrogate pair (`"\\ud83d"`), lists 300 levels
deep, numbers that no double holds. Python, pydantic, DynamoDB and Step Functions each fail on some of it. Such data is
cleaned before it is stored (`clean`). Data that a machine has stored unchecked is cleaned when it is read
(`read_json`, `items.attributes_of`).
"""

import json
import math
import re
from typing import Any

from pydantic import BeforeValidator

DEPTH = 32
"""Levels that arguments, a tool's output and an event may nest."""
STORED_DEPTH = 2 * DEPTH
"""Levels that JSON in the record may nest: DEPTH, and the levels around such data."""
RESULT_LIMIT = 32 * 1024
"""Bytes of a tool's output that the model reads: every result of a reply travels in one state payload of 256 KiB."""
_DIGITS = 300
"""Digits of a number: a double holds no more."""
_LONE = re.compile(r"[\ud800-\udfff]")
_PARTS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def clean_text(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot hold, by U+FFFD."""
    return _LONE.sub("\ufffd", text)


def clean(value: Any) -> Any:
    """Clean a JSON value that does not nest too deep: its texts and keys, and numbers that no double holds, as text."""
    match value:
        case str():
            return clean_text(value)
        case bool() | None:
            return value
        case int():
            return str(value) if abs(value) >= 10**_DIGITS else value
        case float():
            return value if math.isfinite(value) else str(value)
        case dict():
            return {clean_text(key): clean(part) for key, part in value.items()}
        case list():
            return [clean(part) for part in value]
    return value


def nests_deeper(value: Any, limit: int = DEPTH) -> bool:
    """Return whether lists and objects nest more than `limit` levels deep. Does not recurse."""
    level = [value]
    for _ in range(limit + 1):
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return False
        level = [part for each in level for part in (each.values() if isinstance(each, dict) else each)]
    return True


def read_json(text: str) -> Any:
    """Read and clean a text that may be any JSON, or no JSON. Never raises.

    A part that nests deeper than STORED_DEPTH is returned as its own text, and so is a text that is not JSON.
    """
    try:
        value = _parsed(text)
    except (ValueError, RecursionError):
        value = text
    return clean(value)


def read_object(text: str) -> dict[str, Any]:
    """Read a JSON object like `read_json`; return {} for any other text."""
    value = read_json(text)
    return value if isinstance(value, dict) else {}


def cut(text: str, limit: int) -> str:
    """Cut a text to `limit` bytes of UTF-8, with a mark at its end if a part is left out."""
    data = text.encode()
    return text if len(data) <= limit else f"{data[:limit].decode(errors='ignore')} …"


CLEANED = BeforeValidator(lambda value: clean_text(value) if isinstance(value, str) else value)
"""Last in the annotation of a text from outside: cleans it before the rest is checked."""


def _parsed(text: str) -> Any:
    try:
        value = _loads(text)
    except RecursionError:
        return _loads(_flat(text))
    return _loads(_flat(text)) if nests_deeper(value, STORED_DEPTH) else value


def _loads(text: str) -> Any:
    # Python reads no integer of more than 4,300 digits, and reads 1e999 as `inf`, which is not JSON.
    return json.loads(text, parse_int=_number, parse_float=_number, parse_constant=str)


def _number(digits: str) -> Any:
    if len(digits) > _DIGITS:
        return digits
    return float(digits) if set(digits) & set(".eE") else int(digits)


def _flat(text: str) -> str:
    """Return the same JSON, with each part that nests too deep as a string that holds the part's own text."""
    parts, copied, depth = [], 0, 0
    for found in _PARTS.finditer(text):
        if found[0] in "[{":
            depth += 1
            if depth == STORED_DEPTH + 1:
                parts.append(text[copied : found.start()])
                copied = found.start()
        elif found[0] in "]}":
            if depth == STORED_DEPTH + 1:
                parts.append(json.dumps(text[copied : found.end()]))
                copied = found.end()
            depth -= 1
    return "".join([*parts, text[copied:]])
