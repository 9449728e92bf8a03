"""Lints every machine in asl/ with statelint, and prints `file: problem`. Exits 1 if there is any."""

import sys
from collections.abc import Iterator
from pathlib import Path

from statelint.linter import Linter

from workflows.machines import InvalidDefinition, Machine, load_machine

ASL = Path(__file__).parents[1] / "asl"


def problems(machine: Machine) -> Iterator[str]:
    """What statelint finds wrong with a machine."""
    yield from Linter.validate(machine.definition)


def main() -> int:
    """Lints all of them, so that one run shows everything."""
    complaints = []
    files = sorted(ASL.glob("*.asl.yaml"))
    for path in files:
        try:
            complaints += [f"{path.relative_to(ASL.parent)}: {problem}" for problem in problems(load_machine(path))]
        except InvalidDefinition as error:
            complaints.append(str(error))
    if not files:
        complaints.append(f"{ASL} holds no machine")
    print(*complaints, sep="\n", end="\n" if complaints else "")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
