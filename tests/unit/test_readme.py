"""The README is current."""

import pytest

from scripts.paths_table import README, paths_table, with_table
from workflows.scenarios import load_scenarios


def test_the_table_of_paths_is_made_from_the_scenarios() -> None:
    readme = README.read_text("utf-8")
    assert readme == with_table(readme, paths_table(load_scenarios())), "run scripts/paths_table.py"


def test_a_readme_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        with_table("# Turnstile\n", "")
