"""The glossary names what is in the code, and each word once."""

import re

import pytest

from scripts.rooms import ROOT, modules
from tests.asl.support import MACHINES

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "glossary.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| word")
]
CODE = "\n".join(file.read_text("utf-8") for file in [*modules().values(), ROOT / "template.yaml"])
STATES = {state.name for machine in MACHINES.values() for state in machine.states()}


def test_each_word_stands_once() -> None:
    words = [word for word, _, _ in ROWS]
    assert len(words) > 25
    assert sorted(set(words)) == sorted(words)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_its_names_are_in_the_code(row: list[str]) -> None:
    names = re.findall(r"`([^`]+)`", row[2])
    assert names
    missing = [
        name
        for name in names
        if name not in STATES | MACHINES.keys() and not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", CODE)
    ]
    assert missing == []
