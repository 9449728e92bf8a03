"""Writes the table of paths into README.md, from the scenarios.

    .venv/bin/python scripts/paths_table.py

Exits with 1 if the README has no place for it.
"""

import sys
from pathlib import Path

from workflows.scenarios import Scenario, load_scenarios

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- paths: made by scripts/paths_table.py -->\n", "<!-- end of paths -->\n"


def paths_table(scenarios: list[Scenario]) -> str:
    """One row for each scenario, in Markdown."""
    rows = [
        f"| `{scenario.name}` | {scenario.title} | {scenario.expect.states.count('ClaimTurn')} "
        f"| {len(scenario.expect.states)} | {_outcome(scenario)} |\n"
        for scenario in scenarios
    ]
    return "| scenario | what happens | turns | states | ends as |\n|---|---|---|---|---|\n" + "".join(rows)


def with_table(readme: str, table: str) -> str:
    """The README with this table in its place. Raises ValueError if it has none."""
    before, _, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{README.name} needs the lines {BEGIN.strip()} and {END.strip()}")
    return before + BEGIN + table + end + after


def _outcome(scenario: Scenario) -> str:
    expect = scenario.expect
    return f"{expect.status}, {expect.error}" if expect.error else expect.status


def main() -> None:
    """Writes the table."""
    try:
        README.write_text(with_table(README.read_text("utf-8"), paths_table(load_scenarios())), "utf-8")
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
