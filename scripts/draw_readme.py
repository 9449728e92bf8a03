"""Writes the picture of a turn into README.md, from its machine.

    .venv/bin/python scripts/draw_readme.py

Exits with 1 if the README has no place for it.
"""

import sys
from pathlib import Path

from workflows.draw import find_machine, mermaid
from workflows.graph import folded, graph

README = Path(__file__).parents[1] / "README.md"
MACHINE = "agent_turn"
BEGIN, END = "<!-- picture: made by scripts/draw_readme.py -->\n", "<!-- end of picture -->\n"


def picture() -> str:
    """The machine without what failures lead to, as GitHub draws it."""
    return f"```mermaid\n{mermaid(folded(graph(find_machine(MACHINE))))}```\n"


def with_picture(readme: str, drawn: str) -> str:
    """The README with this picture in its place. Raises ValueError if it has none."""
    before, _, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{README.name} needs the lines {BEGIN.strip()} and {END.strip()}")
    return before + BEGIN + drawn + end + after


def main() -> None:
    """Writes the picture."""
    try:
        README.write_text(with_picture(README.read_text("utf-8"), picture()), "utf-8")
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
