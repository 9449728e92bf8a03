"""Write the generated parts of the README: a turn's picture, from its machine; the table of paths, from the scenarios.

    .venv/bin/python scripts/readme.py

Exits with 1 if the README has no place for one of the two.
"""

import sys
from pathlib import Path

from turnstile_cli.machines.draw import find_machine, mermaid
from turnstile_cli.machines.graph import folded, graph
from turnstile_cli.models.scenarios import Scenario, load_scenarios

README = Path(__file__).parents[1] / "README.md"
MACHINE = "agent_turn"
BEGIN, END = "<!-- {}: made by scripts/readme.py -->\n", "<!-- end of {} -->\n"


def current(readme: str) -> str:
    """Return the README with the present picture and table. Raise ValueError if it has no place for one of them."""
    return _with(_with(readme, "picture", picture()), "paths", paths_table(load_scenarios()))


def picture() -> str:
    """Draw the machine for GitHub, without the states that failures lead to."""
    return f"```mermaid\n{mermaid(folded(graph(find_machine(MACHINE))))}```\n"


def paths_table(scenarios: list[Scenario]) -> str:
    """Write the Markdown table: one row for each scenario."""
    rows = [
        f"| `{scenario.name}` | {scenario.title} | {scenario.expect.states.count('ClaimTurn')} "
        f"| {len(scenario.expect.states)} | {_outcome(scenario)} |\n"
        for scenario in scenarios
    ]
    return "| scenario | what happens | turns | states | ends as |\n|---|---|---|---|---|\n" + "".join(rows)


def _outcome(scenario: Scenario) -> str:
    expect = scenario.expect
    return f"{expect.status}, {expect.error}" if expect.error else expect.status


def _with(readme: str, what: str, content: str) -> str:
    begin, stop = BEGIN.format(what), END.format(what)
    before, _, rest = readme.partition(begin)
    _, end, after = rest.partition(stop)
    if not end:
        raise ValueError(f"{README.name} needs the lines {begin.strip()} and {stop.strip()}")
    return before + begin + content + end + after


def main() -> None:
    """Write both parts into the README."""
    try:
        README.write_text(current(README.read_text("utf-8")), "utf-8")
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
