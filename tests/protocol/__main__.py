"""Explore the protocol, and print the number of worlds visited: docs/protocol.md."""

import argparse
import sys

from rich.console import Console

from tests.protocol.explore import Explored, explore
from tests.protocol.missed import CAUGHT, CAUGHT_DEEPER
from tests.protocol.mutations import Found, expected, mutations, search
from tests.protocol.scenarios import SCENARIOS, Scenario
from tests.protocol.steps import Steps


def main() -> None:
    """Exit with 1 if a sentence does not hold."""
    arguments = argparse.ArgumentParser(prog="python -m tests.protocol", description=__doc__)
    arguments.add_argument("scenario", nargs="*", help="explore only scenarios with this in their name")
    arguments.add_argument("--deeper", action="store_true", help="with one fault more")
    arguments.add_argument(
        "--mutations", action="store_true", help="say what each condition on STATE and the ledger is for"
    )
    given = arguments.parse_args()
    chosen = [each for each in SCENARIOS if not given.scenario or any(name in each.name for name in given.scenario)]
    console = Console(highlight=False, soft_wrap=True)
    if given.mutations:
        sys.exit(_mutate(chosen, given.deeper, console))
    total = [0, 0.0]
    for scenario in chosen:
        bound = scenario.deeper() if given.deeper else scenario
        found = explore(Steps(bound))
        total = [total[0] + len(found.seen), total[1] + found.seconds]
        console.print(f"{len(found.seen):>9,} worlds {found.seconds:>7.1f} s  {described(bound)}")
        if found.broken:
            console.print("\n".join(told(found)))
            sys.exit(1)
    console.print(f"{total[0]:>9,} worlds {total[1]:>7.1f} s of one processor: every sentence holds.")


def _mutate(scenarios: list[Scenario], deeper: bool, console: Console) -> int:
    """Take out each condition in turn, and compare with missed.py; return 1 if missed.py says something else."""
    wanted = expected()
    if deeper or scenarios != SCENARIOS:
        table = CAUGHT_DEEPER if deeper else CAUGHT
        wanted = {name: Found.BROKEN for scenario in scenarios for name in table.get(scenario.name, ())}
        scenarios = [scenario for scenario in scenarios if scenario.name in table]
    left = [mutation for mutation in mutations() if mutation.name in wanted]
    found: dict[str, Found] = {}
    for scenario in scenarios:
        steps = Steps(scenario.deeper() if deeper else scenario)
        known = explore(steps)
        for mutation in left:
            if found.get(mutation.name) is not Found.BROKEN:
                came = search(steps, known, mutation)
                found[mutation.name] = min(came, found.get(mutation.name, came), key=[*Found].index)
    for each in Found:
        console.print(f"\n{each}: {[*found.values()].count(each)}")
        for name in (name for name, came in found.items() if came is each):
            console.print(f"  {name}" + ("" if wanted[name] is each else f"    missed.py says: {wanted[name]}"))
    return int(found != wanted)


def described(scenario: Scenario) -> str:
    """Return a scenario's name and its bounds."""
    bounds = {"fault": scenario.faults, "run of the watch": scenario.watches, "answer": scenario.answers}
    return f"{scenario.name}; at most {', '.join(f'{number} {name}' for name, number in bounds.items())}"


def told(found: Explored) -> list[str]:
    """Return a counterexample, line by line: the broken sentences, and the steps that lead there."""
    steps = (f"{place:>4}  {step}" for place, step in enumerate(found.way, 1))
    return ["", f'In the scenario "{found.scenario}":', *(f"  {sentence}" for sentence in found.broken), "", *steps]


if __name__ == "__main__":
    main()
