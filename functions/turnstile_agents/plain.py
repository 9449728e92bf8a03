"""Text for people, without the characters that a terminal or a mail reader obeys. Pure."""

import re

_CONTROLS = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""C0, DEL, C1, the bidirectional marks, embeddings, overrides and isolates, and the line and paragraph separators."""
_ALL = re.compile(f"[{_CONTROLS}]")
_OUTSIDE_JSON = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""Replace every control and bidirectional character by its escape, as \x1b or \u202e; newlines too."""
    return _ALL.sub(lambda found: repr(found[0])[1:-1] if found[0] < "\x80" else f"\\u{ord(found[0]):04x}", text)


def visible_lines(text: str) -> str:
    """Do the same as `visible` but keep newlines, for text whose lines a layout has made."""
    return "\n".join(map(visible, text.split("\n")))


def visible_json(text: str) -> str:
    """Escape the control characters that JSON leaves raw; the document keeps its value."""
    return _OUTSIDE_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
