"""The packages: no import runs upward, none goes in a circle, and the sample is a guest."""

import ast
from collections import defaultdict

import pytest

from scripts.rooms import FLOORS, arrows, circle, imports, modules, room, upward

KNOWN = modules()


@pytest.fixture(scope="module")
def found() -> dict[str, set[str]]:
    """Return the modules that each module imports."""
    return imports(KNOWN)


def test_every_room_has_its_floor() -> None:
    assert {room(name, KNOWN) for name in KNOWN} == set(FLOORS)


def test_no_import_runs_upward(found: dict[str, set[str]]) -> None:
    assert upward(arrows(found, KNOWN)) == []
    assert upward({("turnstile_agents", "turnstile_cli"): {"x imports y"}}) == ["x imports y"]


def test_no_import_goes_in_a_circle(found: dict[str, set[str]]) -> None:
    assert circle(found) == []
    assert circle({"a": {"b"}, "b": {"a"}}) != []


@pytest.mark.parametrize("word", ["import tools", "from tools", "from agents", "FlightsTableName", "BookingsTableName"])
def test_the_sample_is_a_guest(word: str) -> None:
    files = [file for file in KNOWN.values() if word in file.read_text("utf-8")]
    assert files == [] and len(KNOWN) > 90


def test_a_type_has_a_name_of_its_own() -> None:
    """One name means one thing: no two classes of the packages share theirs."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for module, file in KNOWN.items():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
    assert len(places) > 150
