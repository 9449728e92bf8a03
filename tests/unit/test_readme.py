"""The README is current, and the commands on it and on the other pages are valid."""

import re
import shlex

import pytest

from scripts.readme import README, current, paths_table, picture
from turnstile_cli.cli import load_command
from turnstile_cli.models.scenarios import load_scenarios

ROOT = README.parent
COMMAND = re.compile(r"`turnstile ([^`]+)`|^(?:\$ )?turnstile (.+)$", re.MULTILINE)


def test_the_picture_is_made_from_the_machine_and_the_table_from_the_scenarios() -> None:
    readme = README.read_text("utf-8")
    assert readme == current(readme), "run scripts/readme.py"
    for part in (picture(), paths_table(load_scenarios())):
        assert part in readme


@pytest.mark.parametrize("what", ["picture", "paths"])
def test_a_readme_without_its_markers_is_refused(what: str) -> None:
    end = f"<!-- end of {what} -->"
    with pytest.raises(ValueError, match=f"needs the lines .* and {end}"):
        current(README.read_text("utf-8").replace(end, ""))


def commands() -> list[list[str]]:
    """Return the commands on all pages after `turnstile`, split into words."""
    pages = [README, *ROOT.glob("docs/**/*.md"), *ROOT.glob("workflows/agents/*/README.md")]
    found = [match for page in pages for match in COMMAND.findall(page.read_text("utf-8"))]
    return [shlex.split(inline or block, comments=True) for inline, block in sorted(set(found))]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_what_a_page_says_to_type_is_understood(words: list[str]) -> None:
    name, *arguments = words
    command = load_command(name)
    if arguments and not any("|" in word for word in arguments):  # a name without arguments only mentions the command
        command.make_context(name, arguments)
