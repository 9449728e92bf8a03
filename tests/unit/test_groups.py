"""Tests that share a stack share a process."""

import pytest


@pytest.mark.xdist_group("together")
def test_the_groups_are_kept(request: pytest.FixtureRequest) -> None:
    grouped = getattr(request.config.option, "loadgroup", False)
    assert not grouped or request.node.nodeid.endswith("@together"), (
        "--dist loadgroup has no effect, so that every process starts every stack: this pytest-xdist does not fit this "
        "pytest; pyproject.toml says which do"
    )
