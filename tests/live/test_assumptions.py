"""What is assumed about AWS: each on a stack in AWS, and on the embedded engine where it behaves so too."""

from pathlib import Path

import pytest

from tests.live.assumptions import ASSUMPTIONS, Assumption
from tests.live.conftest import LiveWorld
from tests.paths.conftest import local, shared_world, world
from tests.world import World

__all__ = ["local", "shared_world", "world"]
PAGE = Path(__file__).parents[2] / "docs" / "first-deployment.md"


def named(assumption: Assumption) -> str:
    return assumption.name


@pytest.mark.live
@pytest.mark.xdist_group("live")
@pytest.mark.parametrize("assumption", ASSUMPTIONS, ids=named)
def test_aws_does(live_world: LiveWorld, assumption: Assumption) -> None:
    assumption.check(live_world)


@pytest.mark.parametrize("assumption", [each for each in ASSUMPTIONS if each.here], ids=named)
def test_the_embedded_engine_does(world: World, assumption: Assumption) -> None:
    assumption.check(world)


def test_the_page_lists_each_assumption() -> None:
    text = PAGE.read_text("utf-8")
    assert [each.name for each in ASSUMPTIONS if f"`{each.name}`" not in text] == []
